"""The one door to pixels: a path in, upright RGB frames out, whatever decodes them.

    with video.open("fight.mp4", short_side=256) as reader:
        frames = reader.frames_at([0, 8, 16])     # uint8 (3, H, W, 3), min(H, W) = 256

Frame numbers count the decoded frames in the order in which they are shown, so they mean the same
at a variable frame rate. Pixels are taken as stored: a sample aspect ratio is not applied.
"""

import builtins
import importlib
import numbers
import os
import stat

from jaxvid.core.errors import ConfigError, DecodeError, unknown
from jaxvid.decode import frames
from jaxvid.decode.reader import Reader

BACKENDS = ("pyav", "decord")


def open(
    path: str | os.PathLike, *, backend: str = "pyav", short_side: int | None = None
) -> Reader:
    """Opens a video file, or a folder of images (`jaxvid.decode.frames`, whatever the backend).

    backend: "pyav" or "decord"; the two give the same `meta` and the same pixels, but for small
    differences of their filters where frames are resized or have more than 8 bits. short_side:
    frames come with their short side at so many pixels, the aspect kept; None: as stored.

    Raises DecodeError (path, frame, backend, reason) for everything that is wrong with the file,
    UnknownNameError for another backend, ConfigError for a wrong short_side or a missing package.
    """
    if backend not in BACKENDS:
        raise unknown("decoder", backend, BACKENDS)
    if short_side is not None and not (isinstance(short_side, numbers.Integral) and short_side > 0):
        raise ConfigError(f"short_side is {short_side!r}, expected a positive number of pixels")
    path = os.path.abspath(path)  # absolute: libav takes what stands before a colon for a protocol
    if os.path.isdir(path):
        return frames.Reader(path, short_side)
    _check_file(path, backend)
    # By name, so that decord is imported only where it is asked for: many machines have none.
    return importlib.import_module(f"jaxvid.decode.{backend}").Reader(path, short_side)


def _check_file(path: str, backend: str) -> None:
    """Finds what libav says badly or, for a playlist, only after minutes of waiting."""
    start = None
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):  # a pipe would lose what is read here
            with builtins.open(path, "rb") as file:
                start = file.read(60)
    except FileNotFoundError:
        raise DecodeError(path, None, backend, "there is no such file") from None
    except (OSError, ValueError) as error:
        reason = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DecodeError(path, None, backend, reason) from error
    if start == b"":
        raise DecodeError(path, None, backend, "the file is empty (0 bytes)")
    if start and _is_text(start):
        text = start[:40].decode("ascii")
        raise DecodeError(path, None, backend, f"it is no video, it holds text: {text!r}")


def _is_text(start: bytes) -> bool:
    """An error page or a list in place of a video. YUV4MPEG is a video that begins with text."""
    printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    return printable and not start.startswith(b"YUV4MPEG2")
