"""Optical flow of clips whose motion is known: textures that are shifted, and nothing else."""

import sys
import threading

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, UnknownNameError
from jaxvid.decode import flow

SIZE = 48


@pytest.fixture
def cv2():
    return pytest.importorskip(
        "cv2", reason="optical flow needs the extra: pip install -e '.[flow]'"
    )


def shifted(steps, size=SIZE, seed=0):
    """uint8 (len(steps) + 1, size, size, 3): a smooth random texture moved by (right, down) a step."""
    rng = np.random.default_rng(seed)
    side = size + 64
    waves = np.fft.fftfreq(side)
    smooth = np.exp(-40 * (waves[:, None] ** 2 + waves[None, :] ** 2))[..., None]
    noise = np.fft.fft2(rng.standard_normal((side, side, 3)), axes=(0, 1))
    picture = np.fft.ifft2(noise * smooth, axes=(0, 1)).real
    picture = (128 + 40 * picture / picture.std()).clip(0, 255).astype(np.uint8)
    places = np.cumsum([(32, 32), *[(-x, -y) for x, y in steps]], axis=0)
    return np.stack([picture[top : top + size, left : left + size] for left, top in places])


def inner(field):
    """Without the border, where points leave the picture."""
    return field[..., 8:-8, 8:-8, :]


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize("step", [(2, 0), (0, 2), (-3, 1), (0, 0)])
def test_a_shifted_texture_moves_as_it_was_shifted(cv2, method, step):
    got = flow.flow(shifted([step, step]), method)
    assert got.shape == (3, SIZE, SIZE, 2) and got.dtype == np.float32
    error = np.abs(inner(got) - np.array(step))
    assert error.mean() < 0.1 and np.quantile(error, 0.95) < 0.4


@pytest.mark.parametrize("method", flow.METHODS)
def test_each_entry_is_the_step_to_the_next_frame_and_the_last_repeats(cv2, method):
    got = inner(flow.flow(shifted([(2, 0), (0, -3)]), method)).mean((1, 2))
    np.testing.assert_allclose(got, [(2, 0), (0, -3), (0, -3)], atol=0.15)


@pytest.mark.parametrize("method", flow.METHODS)
def test_the_same_frames_give_the_same_flow_from_any_thread(cv2, method):
    clips = [shifted([(n, 1)], size=32, seed=n) for n in range(4)]
    first = [flow.flow(clip, method) for clip in clips]
    again = {}

    def work(n):
        again[n] = flow.flow(clips[n], method)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        np.testing.assert_array_equal(again[n], first[n])
    assert cv2.getNumThreads() == 1


def test_frames_need_not_lie_in_one_piece(cv2):
    frames = shifted([(2, 1)])
    expected = flow.flow(np.ascontiguousarray(frames[:, ::2, ::-1]), "dis")
    np.testing.assert_array_equal(flow.flow(frames[:, ::2, ::-1], "dis"), expected)


def test_the_estimator_sees_colour_as_grey(cv2):
    frames = shifted([(2, 0)])
    grey = (frames @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    got = flow.flow(np.repeat(grey[..., None], 3, axis=-1), "dis")
    np.testing.assert_allclose(inner(got), inner(flow.flow(frames, "dis")), atol=0.2)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 16, 1), np.uint8),
        np.zeros((1, 2, 16, 16, 3), np.uint8),
    ],
)
def test_what_is_no_clip(frames):
    with pytest.raises(ValueError, match=r"flow was asked of .*, expected uint8 \(T, H, W, 3\)"):
        flow.flow(frames)


def test_one_frame_small_frames_unknown_methods():
    with pytest.raises(ConfigError, match="a clip has 1: set data.num_frames to 2 or more"):
        flow.flow(np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ConfigError, match="a side of 11 pixels: expected at least 12"):
        flow.flow(np.zeros((2, 16, 11, 3), np.uint8))
    with pytest.raises(UnknownNameError, match="unknown optical flow 'tvl2'. Did you mean 'tvl1'"):
        flow.flow(np.zeros((2, 16, 16, 3), np.uint8), "tvl2")


def test_the_smallest_frames(cv2):
    for method in flow.METHODS:
        assert np.isfinite(flow.flow(shifted([(1, 0)], size=flow.MIN_SIZE), method)).all()


@pytest.mark.parametrize("found", [None, type(sys)("cv2")], ids=["no package", "plain opencv"])
def test_without_opencv_the_error_names_the_extra(monkeypatch, found):
    monkeypatch.setitem(sys.modules, "cv2", found)
    flow.opencv.cache_clear()
    with pytest.raises(ConfigError, match=r"data.flow.*pip install 'jaxvid\[flow\]'"):
        flow.flow(np.zeros((2, 16, 16, 3), np.uint8))
    flow.opencv.cache_clear()
