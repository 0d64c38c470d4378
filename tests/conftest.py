"""Fixtures for every test; jax sees eight CPU devices."""

import gc
import logging
import os

from jaxvid.core import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
xla_flags.set_flags(os.environ)

# Tracing leaves millions of objects, and looking through all of them takes a tenth of the time.
gc.set_threshold(100_000, 50, 50)

from fractions import Fraction
from pathlib import Path

import av
import jax
import numpy as np
import pytest


@pytest.fixture(scope="module")
def quickly_made():
    """Programs that run once: made in less time, run in more. For files that mostly wait for XLA."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def quiet_logger():
    """Undoes what `main` does to the package's logger."""
    yield
    logger = logging.getLogger("jaxvid")
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    logger.propagate = True


@pytest.fixture(scope="session")
def write_video():
    return _write_video


def _write_video(
    path, frames, fps=10, codec="libx264", *, pix_fmt="yuv420p", options=None, pts=None, muxer=None
) -> Path:
    """Writes frames, uint8 (n, H, W, 3) RGB with even H and W, as a video; returns its path.

    options: of the codec, e.g. {"g": "5"} for a key frame at least every five frames. pts: the
    time of each frame in 1/fps seconds, rising; None: 0, 1, 2, … muxer: options of the container.
    """
    frames = np.asarray(frames, np.uint8)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        for time, pixels in zip(range(len(frames)) if pts is None else pts, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)
