"""What the files of a dataset really hold: each is opened and decoded, many at once, within a
deadline."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DecodeError
from jaxvid.core.record import VideoMeta
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline
from jaxvid.decode.frames import natural_key
from jaxvid.decode.reader import Reader

_AT_ONCE = 16  # frames in memory for each thread
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """One file, or folder of images. meta is None and `error` says why where it cannot be decoded;
    is_missing: there is nothing at the path. size_bytes: of a folder, all its files. missing_frames:
    how many of meta.num_frames do not exist, as far as was decoded. content: a hash of all bytes, the
    same for files of equal content; None where no other file is as large, and so none is equal."""

    path: str
    meta: VideoMeta | None
    size_bytes: int = 0
    missing_frames: int = 0
    error: str | None = None
    is_missing: bool = False
    content: str | None = None


def read_facts(
    paths: Iterable[str],
    *,
    frames: int | None = 16,
    decoder: str = "pyav",
    audio_rate: int = 0,
    deadline_seconds: float = 60.0,
    threads: int = 1,
    show: bool = False,
) -> dict[str, FileFacts]:
    """{path: facts} of each different path.

    frames: how many are decoded of a file, the first and the last among them; None: every one.
    audio_rate: samples a second at which the sound of the seconds around these frames is read as well,
    as a model that hears would; 0: it is not. deadline_seconds: for one file, its hash apart. show: a
    progress bar on stderr.
    Raises ConfigError for numbers that cannot be.
    """
    if (frames is not None and frames < 1) or threads < 1:
        raise ConfigError(f"frames is {frames} and threads {threads}, expected at least 1 of each")
    paths = list(dict.fromkeys(paths))

    def look(path: str) -> FileFacts:
        return _facts(path, frames, decoder, audio_rate, deadline_seconds)

    facts = _in_parallel(look, paths, threads, "decoding", show)
    sizes = collections.Counter(f.size_bytes for f in facts.values())
    alike = [p for p, f in facts.items() if sizes[f.size_bytes] > 1 and not f.is_missing]

    def content(path: str) -> str | None:
        return _within(lambda: content_hash(path), path, decoder, deadline_seconds)

    for path, digest in _in_parallel(content, alike, threads, "comparing", show).items():
        facts[path] = dataclasses.replace(facts[path], content=digest)
    return facts


def size_bytes(path: str) -> int:
    """Of a file; of a folder, of all its files."""
    return sum(os.path.getsize(file) for file in _files(path))


def content_hash(path: str) -> str:
    """SHA-256 of a file's bytes; of a folder, of its files' bytes in natural order of their names."""
    digest = hashlib.sha256()
    for file in _files(path):
        with open(file, "rb") as opened:
            while piece := opened.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def _in_parallel(
    function: Callable, paths: Sequence[str], threads: int, doing: str, show: bool
) -> dict:
    """{path: function(path)} in the order of the paths."""
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        results = pool.map(function, paths)
        show = show and bool(paths)
        bar = progress.bar(results, total=len(paths), what=doing, unit="file", show=show)
        return dict(zip(paths, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt does not wait for all the others


def _facts(path: str, frames: int | None, decoder: str, rate: int, seconds: float) -> FileFacts:
    def look() -> FileFacts:
        if not os.path.exists(path):
            return FileFacts(path, None, error="there is no such file", is_missing=True)
        size = size_bytes(path)
        try:
            meta, missing = _decode(path, frames, decoder, rate)
        except DecodeError as error:
            at = "" if error.frame is None else f" (at frame {error.frame})"
            return FileFacts(path, None, size, error=error.reason + at)
        return FileFacts(path, meta, size, missing)

    try:
        return run_with_deadline(look, seconds, path, decoder)
    except DecodeError as error:
        return FileFacts(path, None, error=error.reason)
    except OSError as error:
        return FileFacts(path, None, error=f"it cannot be read: {error.strerror or error}")


def _decode(path: str, frames: int | None, decoder: str, rate: int) -> tuple[VideoMeta, int]:
    with video.open(path, backend=decoder) as reader:
        count = reader.meta.num_frames
        wanted = np.arange(count)
        if frames is not None and frames < count:
            wanted = np.linspace(0, count - 1, frames).round().astype(int)
        for start in range(0, len(wanted), _AT_ONCE):
            reader.frames_at(wanted[start : start + _AT_ONCE])
        if rate:
            _hear(reader, wanted, rate)
        return reader.meta, reader.missing_frames


def _hear(reader: Reader, frames: np.ndarray, rate: int) -> None:
    """Reads the sound of the seconds in which these frames are shown."""
    meta = reader.meta
    for second in sorted({int(meta.seconds_of(frame)) for frame in frames.tolist()}):
        reader.waveform(second, second + 1, rate)


def _within(function: Callable, path: str, decoder: str, seconds: float) -> str | None:
    try:
        return run_with_deadline(function, seconds, path, decoder)
    except (DecodeError, OSError):
        return None


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    names = sorted((e for e in os.listdir(path) if e[0] != "."), key=natural_key)
    return [f for f in (os.path.join(path, name) for name in names) if os.path.isfile(f)]
