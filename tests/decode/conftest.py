"""Videos whose frames say their number: frame i is flat gray of level STEP * i."""

import types

import numpy as np
import pytest

STEP = 6


@pytest.fixture
def numbered():
    """numbered.frames(n) makes them, numbered.read(frames) gives the numbers back."""
    return types.SimpleNamespace(frames=_frames, read=_read)


@pytest.fixture(params=["pyav", "decord"])
def backend(request):
    if request.param == "decord":
        pytest.importorskip("decord")
    return request.param


def _frames(count, height=48, width=64):
    assert STEP * count <= 255, "too many frames to tell apart"
    levels = np.arange(0, STEP * count, STEP, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def _read(frames):
    levels = frames.astype(float).mean(axis=(1, 2, 3)) / STEP
    assert np.abs(levels - levels.round()).max() < 0.45, f"not frames of one number each: {levels}"
    return levels.round().astype(int).tolist()
