"""Random erasing that is not one box through all frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.ops.erase import random_erasing

pytestmark = pytest.mark.usefixtures("quickly_made")

N, T, H, W = 400, 6, 12, 16
ONES = jnp.ones((N, T, H, W, 3))


@functools.lru_cache
def holes(key=0, **options):
    """bool (N, T, H, W): what was erased."""
    got = np.asarray(random_erasing(jax.random.key(key), ONES, fill="constant", **options))
    hole = (got == 0).all(axis=-1)
    assert ((got == 0).any(axis=-1) == hole).all(), "all channels go together"
    return hole


def is_box(mask):
    """Whether each (…, H, W) is a full rectangle, or empty."""
    rows, columns = mask.any(axis=-1), mask.any(axis=-2)
    full = (mask == rows[..., :, None] & columns[..., None, :]).all()
    return full and all((np.abs(np.diff(x.astype(int), axis=-1)).sum(-1) <= 2).all() for x in (rows, columns))  # fmt: skip


def test_a_cube_is_one_box_in_a_stretch_of_frames():
    hole = holes(shape="cube", probability=0.6)
    assert is_box(hole)
    box = hole.any(axis=1)
    when = hole.any(axis=(2, 3))  # (N, T)
    np.testing.assert_array_equal(hole, box[:, None] & when[:, :, None, None])
    erased = when.any(axis=1)
    assert 0.52 < erased.mean() < 0.68
    lengths = when[erased].sum(axis=1)
    assert (np.abs(np.diff(when[erased].astype(int), axis=1)).sum(axis=1) <= 2).all(), "no gaps"
    counts = np.bincount(lengths, minlength=T + 1)[1:] / erased.sum()
    np.testing.assert_allclose(counts, 1 / T, atol=0.08)
    alone = np.argmax(when[erased][lengths == 1], axis=1)
    assert set(alone.tolist()) == set(range(T)), "anywhere"


def test_cubes_are_the_tubes_of_the_same_key_cut_in_time():
    np.testing.assert_array_equal(
        holes(shape="cube", probability=0.6).any(axis=1), holes(probability=0.6)[:, 0]
    )


def test_frames_are_decided_and_drawn_on_their_own():
    hole = holes(shape="frame", probability=0.4)
    assert is_box(hole)
    when = hole.any(axis=(2, 3))
    assert 0.36 < when.mean() < 0.44
    assert abs(np.corrcoef(when[:, 0], when[:, 1])[0, 1]) < 0.2
    both = when[:, 0] & when[:, 1]
    assert (hole[both, 0] != hole[both, 1]).any(axis=(1, 2)).mean() > 0.95


@pytest.mark.parametrize("shape", ["cube", "frame"])
def test_keys_decide(shape):
    np.testing.assert_array_equal(holes(1, shape=shape), holes.__wrapped__(1, shape=shape))
    assert (holes(1, shape=shape) != holes(2, shape=shape)).any()


def test_noise_is_new_in_each_frame_and_dtypes_stay():
    video = jnp.full((8, T, H, W, 3), 100.0, jnp.bfloat16)
    got = random_erasing(jax.random.key(5), video, probability=1.0, shape="frame")
    assert got.dtype == jnp.bfloat16
    noise = np.asarray(got, np.float32)
    values = noise[noise != 100]
    assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1
    assert (noise[:, 0] != noise[:, 1])[(noise[:, 0] != 100) & (noise[:, 1] != 100)].mean() > 0.9


def test_unknown_shape():
    with pytest.raises(UnknownNameError, match="unknown erasing shape 'cubes'. Did you mean 'cube"):
        random_erasing(jax.random.key(0), ONES, shape="cubes")
