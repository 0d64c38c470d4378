"""EPIC-KITCHENS-100 (and -55): first-person cooking, each segment a verb and a noun.

D. Damen et al., "Rescaling Egocentric Vision", IJCV 2022 (100: 67,217 training and 9,668 validation
segments, 97 verbs, 300 nouns); "Scaling Egocentric Vision", ECCV 2018 (55: 125 verbs, 352 nouns).

    EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_100_test_timestamps.csv
    EPIC_100_verb_classes.csv, EPIC_100_noun_classes.csv          id,key,instances,category
    P01/videos/P01_01.MP4, or P01/rgb_frames/P01_01/frame_0000000001.jpg

A record's labels are (verb, noun), each from 0 within its head; `heads` says how many there are of
each, and `class_names` are the verbs followed by the nouns. An action is the pair. Times come from
the timestamps, for folders of frames from the frame numbers (1-based, the last one included).
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _classes, _files, _listed, _videos
from jaxvid.decode.frames import DEFAULT_FPS

SPLITS = ("train", "val", "test")
HEADS = ("verb", "noun")
_FOLDERS = ("", "annotations/", "epic-kitchens-100-annotations/", "epic-kitchens-55-annotations/")
_NAMES = {
    "train": ("EPIC_100_train.csv", "EPIC_train_action_labels.csv"),
    "val": ("EPIC_100_validation.csv", "EPIC_100_val.csv", "EPIC_val_action_labels.csv"),
    "test": ("EPIC_100_test_timestamps.csv", "EPIC_100_test.csv", "EPIC_test_s1_timestamps.csv"),
}
_COUNTS = {"100": {"verb": 97, "noun": 300}, "55": {"verb": 125, "noun": 352}}
_PLACES = (
    *("{p}/videos", "{p}", "videos/{p}", "videos", "", "EPIC-KITCHENS/{p}/videos"),
    *("videos/train/{p}", "videos/test/{p}"),
    *("{p}/rgb_frames", "rgb_frames", "frames", "EPIC-KITCHENS/{p}/rgb_frames"),
    *("frames_rgb_flow/rgb/train/{p}", "frames_rgb_flow/rgb/test/{p}"),
)

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The segments of one split in the order of its csv, ids as published; "test" is unlabelled.

    annotations: the csv, or the folder of the csv files; `{split}` in it stands for the split;
    videos: the folder of P01, P02, …; both root by default. Without the csv files of the classes
    they go by numbers, 97 verbs and 300 nouns. max_missing: the share of videos that may be absent.

    Raises UnknownNameError for another split, DataError for what does not fit, naming file and line.
    """
    if split not in SPLITS:
        raise unknown("split of epic_kitchens", split, SPLITS)
    annotations = _listed.of_split(annotations, split)
    names = [folder + name for folder in _FOLDERS for name in _NAMES[split]]
    file = _listed.annotation_file("epic_kitchens", root, annotations, names)
    labelled = ("verb_class", "noun_class") if split != "test" else ()
    header = ("video_id", "start_timestamp", "stop_timestamp", *labelled)
    rows = _listed.read_csv(file, header=header)
    classes = _all_classes(Path(root), annotations, "55" if rows and "uid" in rows[0][1] else "100")
    counts = {head: len(classes[head]) for head in HEADS}
    find = _Finder(_listed.given_place(Path(root), _listed.of_split(videos, split)))
    records = [_record(f"{file}:{line}", row, split, counts, find) for line, row in rows]
    lines = [line for line, _ in rows]
    records = _listed.drop_duplicates("epic_kitchens", records, file=file, lines=lines)
    kept = _listed.keep_present("epic_kitchens", records, max_missing=max_missing)
    _log.info(
        "epic_kitchens: %s: %d segments, %d verbs, %d nouns, both from 0",
        *(file, len(kept), *counts.values()),
    )
    return DatasetIndex(kept, tuple(classes["verb"] + classes["noun"]), heads=counts)


def _all_classes(root: Path, annotations, release: str) -> dict[str, tuple[str, ...]]:
    return {head: _class_names(root, annotations, head, release) for head in HEADS}


def _class_names(root: Path, annotations, head: str, release: str) -> tuple[str, ...]:
    stems = [f"EPIC_100_{head}_classes.csv", f"EPIC_100_{head}_classes_v2.csv"]
    if release == "55":
        stems = [f"EPIC_{head}_classes.csv"]
    names = [folder + stem for stem in stems for folder in _FOLDERS]
    file = _listed.optional_file(root, annotations, names)
    if file is None:
        count = _COUNTS[release][head]
        _log.warning(
            "epic_kitchens: no %s beside the annotations: the %d %ss go by their numbers",
            *(stems[0], count, head),
        )
        return tuple(f"{head} {number}" for number in range(count))
    columns = ("id", "key") if release == "100" else (f"{head}_id", "class_key")
    numbers: dict[str, int] = {}
    for line, row in _listed.read_csv(file, header=columns):
        number, name = (row[column].strip() for column in columns)
        if name in numbers:
            raise DataError(f"{file}:{line}: the {head} {name!r} is there twice")
        numbers[name] = _listed.whole_number(number, columns[0], file, line)
    ordered, base = _classes.in_order(file, numbers)
    if base:
        raise DataError(f"{file}: the {head}s count from {base}, expected numbers from 0")
    return ordered


def _record(
    where: str, row: Mapping[str, str], split: str, counts: Mapping[str, int], find: "_Finder"
) -> VideoRecord:
    video = row["video_id"].strip()
    if not video:
        raise DataError(f"{where}: the video_id is empty")
    start, end = _videos.segment(row["start_timestamp"], row["stop_timestamp"], where)
    path = find(video)
    if _files.extension(path.name) not in _files.VIDEO_EXTENSIONS:
        start, end = _frame_times(where, row, path)
    labels = () if split == "test" else tuple(_label(where, row, h, counts[h]) for h in HEADS)
    key = row.get("narration_id") or row.get("uid") or f"{video}_{start:.10g}_{end:.10g}"
    return VideoRecord(str(path), key.strip(), labels, start, end)


def _label(where: str, row: Mapping[str, str], head: str, count: int) -> int:
    text = row[f"{head}_class"].strip()
    label = int(text) if text.isdecimal() else -1
    if not 0 <= label < count:
        raise DataError(
            f"{where}: {head}_class is {text!r}, expected a number from 0 to {count - 1} ({count} {head}s)"
        )
    return label


def _frame_times(where: str, row: Mapping[str, str], path: Path) -> tuple[float, float]:
    """The times of the frames in a folder of frames, which is read as DEFAULT_FPS frames a second."""
    texts = [row.get(name, "").strip() for name in ("start_frame", "stop_frame")]
    first, last = (int(text) if text.isdecimal() else 0 for text in texts)
    if not 1 <= first <= last:
        raise DataError(
            f"{where}: {path} is a folder of frames, and start_frame and stop_frame are {texts[0]!r} and "
            f"{texts[1]!r}; expected frame numbers from 1, in order"
        )
    return (first - 1) / DEFAULT_FPS, last / DEFAULT_FPS


class _Finder:
    """The file or folder of a video, whose participant is the part of its id before the `_`."""

    def __init__(self, base: Path):
        self._folder = _videos.VideoFolder(base)
        self._found: dict[str, Path] = {}

    def __call__(self, video: str) -> Path:
        if video not in self._found:
            usual = [place.format(p=video.partition("_")[0]) for place in _PLACES]
            self._found[video] = self._folder.find(video, usual=usual)
        return self._found[video]
