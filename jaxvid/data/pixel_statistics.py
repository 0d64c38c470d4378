"""Mean and standard deviation of a dataset's pixels, from a sample of its clips."""

import concurrent.futures
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import FileOpener, OpenClip
from jaxvid.decode.deadline import run_with_deadline

SHORT_SIDE = 256


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """mean, std: of R, G, B in [0, 1], each clip with the same weight; std is the root of the mean
    squared distance of single pixels from the mean over all of them. clips: how many were read;
    failed: what could not be."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    clips: int
    failed: tuple[str, ...]


def pixel_statistics(
    index: DatasetIndex,
    *,
    clips: int = 256,
    frames: int = 4,
    seed: int = 0,
    open_clip: OpenClip | None = None,
    deadline_seconds: float = 60.0,
    threads: int = 1,
    show: bool = False,
) -> PixelStatistics:
    """Of `frames` evenly spread frames of each of `clips` records, drawn without repeats by the seed;
    everything is taken when there are fewer. open_clip: where they come from; by default the files,
    decoded with a short side of 256 pixels.

    Raises ConfigError for counts below 1, DataError when no clip at all can be read.
    """
    if min(clips, frames, threads) < 1:
        raise ConfigError(
            f"clips is {clips}, frames {frames}, threads {threads}, expected at least 1 of each"
        )
    sampling, open_clip = Sampling("uniform", frames), open_clip or FileOpener("pyav", SHORT_SIDE)
    order = np.random.default_rng(seed).permutation(len(index))[:clips]
    records = [index.records[i] for i in order]

    def moments(record: VideoRecord) -> np.ndarray | str:
        try:
            return run_with_deadline(
                lambda: _moments(record, sampling, open_clip),
                deadline_seconds,
                record.path,
                open_clip.backend,
            )
        except (DecodeError, DataError) as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = pool.map(moments, records)
        bar = progress.bar(found, total=len(records), what="pixels", unit="clip", show=show)
        results = list(bar)
    return _merged([r for r in results if not isinstance(r, str)], results)


def _moments(record: VideoRecord, sampling: Sampling, open_clip: OpenClip) -> np.ndarray:
    """float64 (2, 3): the means of a clip's pixels and of their squares, in [0, 1]."""
    with open_clip(record) as reader:
        wanted = np.unique(sampling.indices(reader.meta, record, None))
        pixels = reader.frames_at(wanted).reshape(-1, 3)
    levels = np.arange(256) / 255
    counts = np.stack([np.bincount(pixels[:, c], minlength=256) for c in range(3)])
    shares = counts / len(pixels)  # exact sums, and far less memory than floats of all pixels
    return np.stack([shares @ levels, shares @ levels**2])


def _merged(read: Sequence[np.ndarray], results: Sequence[np.ndarray | str]) -> PixelStatistics:
    failed = tuple(r for r in results if isinstance(r, str))
    if not read:
        first = f"; the first: {failed[0]}" if failed else ""
        raise DataError(f"none of {len(results)} sampled clips can be read{first}")
    mean, square = np.mean(read, axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return PixelStatistics(tuple(mean.tolist()), tuple(std.tolist()), len(read), failed)
