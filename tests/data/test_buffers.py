import gc
import pickle
import threading

import jax
import numpy as np
import pytest

from jaxvid.data.buffers import Buffers

VIDEO = (4, 1, 16, 32, 32, 3)


def at(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize(
    ("shape", "dtype"), [(VIDEO, np.uint8), ((4, 3), np.int32), ((4,), bool), ((0, 3), np.float32)]
)
def test_gives_arrays_to_write_into(shape, dtype):
    array = Buffers().empty(shape, np.dtype(dtype))
    assert array.shape == shape and array.dtype == dtype
    assert array.flags.writeable and array.flags.c_contiguous
    array[...] = 1
    assert array.all() and array.copy().tobytes() == array.tobytes()


def test_memory_is_used_again_once_nothing_holds_it():
    buffers = Buffers()
    first, second = (buffers.empty(VIDEO, np.dtype(np.uint8)) for _ in range(2))
    place, other = at(first), at(second)
    assert place != other
    del first
    again = buffers.empty(VIDEO, np.dtype(np.uint8))
    assert at(again) == place
    del again, second
    assert {at(a) for a in [buffers.empty(VIDEO, np.dtype(np.uint8)) for _ in "ab"]} == {
        place,
        other,
    }


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array[1:],
        lambda array: array.reshape(-1)[3:7].view(np.int8),
        lambda array: memoryview(array)[2:],
        lambda array: {"batch": [np.moveaxis(array, 0, 1)]},
        lambda array: np.asarray(array).T,
    ],
    ids=["slice", "view", "memoryview", "nested", "transposed"],
)
def test_memory_stays_while_anything_looks_into_it(keep):
    buffers = Buffers()
    array = buffers.empty((4, 8), np.dtype(np.uint8))
    place = at(array)
    kept = keep(array)
    del array
    gc.collect()
    assert at(buffers.empty((4, 8), np.dtype(np.uint8))) != place
    del kept


def test_what_went_to_the_device_does_not_change_with_the_next_batch():
    buffers, sent = Buffers(), []
    for value in range(20):
        batch = buffers.empty((8, 4096), np.dtype(np.uint8))
        batch[...] = value
        sent.append(jax.device_put(batch))
        del batch
    for value, array in enumerate(sent):
        assert (np.asarray(array) == value).all()


def test_threads_never_share_memory():
    buffers, wrong = Buffers(), []

    def work(value):
        for _ in range(300):
            array = buffers.empty((64, 64), np.dtype(np.uint8))
            array[...] = value
            if (array != value).any():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_arrays_outlive_the_buffers_and_pickle():
    array = Buffers().empty((3, 3), np.dtype(np.int32))
    array[...] = 7
    gc.collect()
    assert (array == 7).all() and (pickle.loads(pickle.dumps(array)) == 7).all()
