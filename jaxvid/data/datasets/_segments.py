"""ActivityNet's JSON, which HACS Segments shares: videos with their labelled segments, in seconds.

{"database": {ID: {"subset": "training", "duration": 82.7, "url": …,
                   "annotations": [{"label": "Long jump", "segment": [12.5, 30.1]}, …]}}}
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, nearest
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _files, _listed, _videos

_log = logging.getLogger("jaxvid.data")


@dataclasses.dataclass(frozen=True)
class _Video:
    """One entry of the database; segments are (label, start, end) in seconds."""

    id: str
    split: str
    segments: tuple[tuple[str, float, float], ...]
    duration_seconds: float | None


def load(
    dataset: str,
    file: Path,
    split: str,
    videos: Path,
    *,
    untrimmed: bool,
    class_names: Sequence[str] | None,
    max_missing: float,
) -> DatasetIndex:
    """The index of a split: a record a segment, or with `untrimmed` a record a video with all its
    labels.

    class_names: None: the sorted names of all labels in the file. Videos are looked up below
    `videos` as v_ID or ID, in any folder. Those of train and val without a segment are left out,
    and counted; test is unlabelled, a record a video. Raises DataError, naming the place in the
    file.
    """
    database = [video for video in _database(file)]
    names = class_names or sorted({label for v in database for label, _, _ in v.segments})
    numbers = {name: number for number, name in enumerate(names)}
    _check_labels(file, database, numbers)
    mine = [video for video in database if video.split == split]
    if not mine:
        held = sorted({video.split for video in database})
        raise DataError(
            f"{file}: no video is of the split {split!r}; they are of {', '.join(held)}"
        )
    listed = [video for video in mine if video.segments or split == "test"]
    _say_oddities(dataset, file, mine, len(mine) - len(listed))
    folder = _videos.VideoFolder(videos)
    make = _whole if untrimmed else _cut
    records = [record for video in listed for record in make(video, numbers, folder)]
    records = _listed.drop_duplicates(dataset, records, file=file)
    kept = _listed.keep_present(dataset, records, max_missing=max_missing)
    kind = "videos with all their labels" if untrimmed else "segments"
    _log.info("%s: %s of %s: %d %s, %d classes", dataset, split, file, len(kept), kind, len(names))
    return DatasetIndex(kept, tuple(names), multilabel=untrimmed)


def _database(file: Path) -> list[_Video]:
    value = _listed.read_json(file)
    database = value.get("database") if isinstance(value, dict) else None
    if not isinstance(database, dict) or not database:
        held = ", ".join(list(value)[:5]) if isinstance(value, dict) else type(value).__name__
        raise DataError(
            f'{file}: expected an object {{"database": {{ID: {{"subset", "annotations", …}}}}}}, got {held}'
        )
    return [_video(f"{file}: database[{key!r}]", key, facts) for key, facts in database.items()]


def _video(where: str, key: str, facts: object) -> _Video:
    if not isinstance(facts, dict) or "subset" not in facts:
        raise DataError(f"{where}: expected an object with a subset and annotations, got {facts!r}")
    split = _files.split_of(str(facts["subset"]))
    if not split:
        raise DataError(
            f"{where}: the subset is {facts['subset']!r}, expected training, validation or testing"
        )
    listed = facts.get("annotations") or []
    segments = [_segment(f"{where}.annotations[{n}]", one) for n, one in enumerate(listed)]
    duration = facts.get("duration")
    seconds = None if duration in (None, "") else _videos.seconds(duration, f"{where}.duration")
    return _Video(key, split, tuple(segments), seconds)


def _segment(where: str, annotation: object) -> tuple[str, float, float]:
    times = annotation.get("segment") if isinstance(annotation, dict) else None
    label = annotation.get("label") if isinstance(annotation, dict) else None
    if not isinstance(times, list) or len(times) != 2 or not isinstance(label, str) or not label:
        raise DataError(
            f'{where}: expected {{"label": NAME, "segment": [start, end]}}, got {annotation!r}'
        )
    start, end = (_videos.seconds(time, where) for time in times)
    return label.strip(), start, end


def _check_labels(file: Path, database: Sequence[_Video], numbers: dict[str, int]) -> None:
    for video in database:
        for label, _, _ in video.segments:
            if label not in numbers:
                raise DataError(
                    f"{file}: database[{video.id!r}]: {label!r} is none of the {len(numbers)} classes "
                    f"that were given.{nearest(label, numbers)}"
                )


def _say_oddities(dataset: str, file: Path, videos: Sequence[_Video], unlabelled: int) -> None:
    if unlabelled:
        _log.info("%s: %s: %d videos have no segment, left out", dataset, file, unlabelled)
    empty = [v.id for v in videos if any(start >= end for _, start, end in v.segments)]
    if empty:
        _log.warning(
            "%s: %s: videos with a segment that does not end after it begins, which makes no clip: "
            "%d (%s)",
            *(dataset, file, len(empty), _files.some(empty)),
        )
    beyond = [
        video.id
        for video in videos
        if video.duration_seconds is not None
        and any(start >= video.duration_seconds for _, start, _ in video.segments)
    ]
    if beyond:
        _log.warning(
            "%s: %s: %d videos have a segment that starts after their end: %s",
            *(dataset, file, len(beyond), _files.some(beyond)),
        )


def _cut(video: _Video, numbers: dict[str, int], folder: _videos.VideoFolder) -> list[VideoRecord]:
    if not video.segments:
        return _whole(video, numbers, folder)
    path = _path(video, folder)
    return [
        VideoRecord(
            path, f"{video.id}_{start:.10g}_{end:.10g}_{label}", (numbers[label],), start, end
        )
        for label, start, end in video.segments
        if start < end  # ActivityNet's own file has some of no length
    ]


def _whole(
    video: _Video, numbers: dict[str, int], folder: _videos.VideoFolder
) -> list[VideoRecord]:
    labels = tuple(sorted({numbers[label] for label, _, _ in video.segments}))
    return [VideoRecord(_path(video, folder), video.id, labels)]


def _path(video: _Video, folder: _videos.VideoFolder) -> str:
    labels = [label for label, _, _ in video.segments]
    return str(folder.find(f"v_{video.id}", video.id, within=labels))
