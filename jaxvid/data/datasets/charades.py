"""Charades: half a minute of everyday life at home, with all the actions in it (157 classes,
multi-label).

G. Sigurdsson et al., "Hollywood in Homes: Crowdsourcing Data Collection for Activity
Understanding", ECCV 2016. 7,985 training and 1,863 test videos; papers report the mAP of whole
videos on the latter.

    Charades_v1_train.csv, Charades_v1_test.csv     id,…,actions,length
    Charades_v1_classes.txt                         c000 Holding some clothes
    Charades_v1_480/46GP8.mp4, or Charades_v1_rgb/46GP8/46GP8-000001.jpg

A record is a whole video with all its labels, none at all in some; when each action was to be seen
stands in `extra["actions"]` as (label, start_seconds, end_seconds). "val" and "test" are both
Charades_v1_test.csv.
"""

import logging
import re
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _classes, _listed, _videos

SPLITS = ("train", "test")
NUM_CLASSES = 157
CLASS_FILES = ("Charades_v1_classes.txt", "Charades/Charades_v1_classes.txt")
_FOLDERS = ("", "Charades/", "annotations/")
_PLACES = ("Charades_v1_480", "Charades_v1", "videos", "", "Charades_v1_rgb", "frames")
_ACTION = re.compile(r"c([0-9]{1,4})")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The videos of one split in the order of its csv; ids are Charades' own.

    annotations: the csv, or the folder of the csv files and the class list; `{split}` in it stands
    for the split; videos: the folder of the videos or of the folders of frames; both root by
    default. Without the class list the classes go by their codes. max_missing: the share of videos
    that may be absent.

    Raises UnknownNameError for another split, DataError for what does not fit, naming file and line.
    """
    split = "test" if split == "val" else split  # the set has no other split to validate on
    if split not in SPLITS:
        raise unknown("split of charades", split, SPLITS)
    annotations = _listed.of_split(annotations, split)
    word = "train" if split == "train" else "test"
    names = [f"{folder}Charades{ego}_v1_{word}.csv" for ego in ("", "Ego") for folder in _FOLDERS]
    file = _listed.annotation_file("charades", root, annotations, names)
    classes, base = _class_names(Path(root), annotations)
    place = _listed.given_place(Path(root), _listed.of_split(videos, split))
    folder = _videos.VideoFolder(place)
    rows = _listed.read_csv(file, header=("id", "actions"))
    records = [_record(f"{file}:{line}", row, len(classes), base, folder) for line, row in rows]
    lines = [line for line, _ in rows]
    records = _listed.drop_duplicates("charades", records, file=file, lines=lines)
    kept = _listed.keep_present("charades", records, max_missing=max_missing)
    _log.info(
        "charades: %s: %d videos, %d classes from c%03d, %d videos without an action",
        *(file, len(kept), len(classes), base, sum(not record.labels for record in kept)),
    )
    return DatasetIndex(kept, classes, multilabel=True)


def _class_names(root: Path, annotations) -> tuple[tuple[str, ...], int]:
    """(names in order, the number of the first)"""
    file = _listed.optional_file(root, annotations, CLASS_FILES)
    if file is None:
        _log.warning("charades: no Charades_v1_classes.txt: the 157 classes go by their codes")
        return tuple(f"c{number:03d}" for number in range(NUM_CLASSES)), 0
    numbers = {}
    for line, text in _listed.read_lines(file):
        code, _, name = text.strip().partition(" ")
        match = _ACTION.fullmatch(code)
        if not match or not name.strip() or name.strip() in numbers:
            raise DataError(
                f"{file}:{line}: {text!r}, expected a code and a name that is not there yet, such as "
                "'c000 Holding some clothes'"
            )
        numbers[name.strip()] = int(match[1])
    return _classes.in_order(file, numbers)


def _record(where: str, row: dict, count: int, base: int, folder) -> VideoRecord:
    key = row["id"].strip()
    if not key:
        raise DataError(f"{where}: the id is empty")
    texts = [text.strip() for text in row["actions"].split(";")]
    actions = tuple(_action(where, text, count, base) for text in texts if text)
    labels = tuple(sorted({label for label, _, _ in actions}))
    return VideoRecord(
        str(folder.find(key, usual=_PLACES)), key, labels, extra={"actions": actions}
    )


def _action(where: str, text: str, count: int, base: int) -> tuple[int, float, float]:
    parts = text.split()
    match = _ACTION.fullmatch(parts[0])
    if len(parts) != 3 or not match:
        raise DataError(
            f"{where}: the action {text!r} is no code with two times such as 'c092 11.90 21.20'"
        )
    label = int(match[1]) - base
    if not 0 <= label < count:
        raise DataError(
            f"{where}: the action {parts[0]} is none of the {count} classes c{base:03d} to "
            f"c{base + count - 1:03d}"
        )
    return label, _videos.seconds(parts[1], where), _videos.seconds(parts[2], where)
