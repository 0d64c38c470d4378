"""AVA 2.1 and 2.2: what each person in a film does in a given second (80 actions, 60 of them
evaluated).

C. Gu et al., "AVA: A Video Dataset of Spatio-temporally Localized Atomic Visual Actions", CVPR 2018.

    ava_train_v2.2.csv, ava_val_v2.2.csv        no header: video_id,second,x1,y1,x2,y2,action_id,person_id
    ava_train_excluded_timestamps_v2.2.csv      video_id,second that are left out
    ava_action_list_v2.2.pbtxt                  the classes
    videos/<video_id>.mkv                       whole films; or cut from second 900 on (videos_15min, frames)

Read as clips with several labels, not as detection: by default a record is a second of a film with
all that is done in it; with persons=True it is one person in that second, whose box (x1, y1, x2, y2
from 0 to 1) stands in `extra["box"]` for the transform box_crop. The clip is the `clip_seconds`
around the annotated second. Published numbers are frame-level detection mAP and cannot be compared
with those from here.
"""

import dataclasses
import logging
import math
import re
from pathlib import Path

from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _files, _listed, _videos

SPLITS = ("train", "val")
NUM_CLASSES = 80
CUT_AT_SECONDS = 900.0  # where the usual tools begin when they cut the films
_RELEASES = ("v2.2", "v2.1", "v2.0", "v1.0")
_FOLDERS = ("", "annotations/")
_PLACES = ("videos", "videos_15min", "", "trainval", "frames", "rawframes")
_BLOCK = re.compile(r"(?:label|item)\s*\{(.*?)\}", re.DOTALL)
_NAME = re.compile(r"name:\s*\"(.*?)\"|name:\s*'(.*?)'")
_ID = re.compile(r"\b(?:label_)?id:\s*([0-9]+)")
_NOT_EVALUATED = {
    2: "crawl",
    16: "brush teeth",
    18: "catch (an object)",
    19: "chop",
    21: "clink glass",
    23: "cook",
    25: "dig",
    31: "exit",
    32: "extract",
    33: "fishing",
    35: "kick (an object)",
    39: "paint",
    40: "play board game",
    42: "play with pets",
    44: "press",
    50: "row boat",
    53: "shovel",
    55: "stir",
    71: "kick (a person)",
    75: "play with kids",
}

_log = logging.getLogger("jaxvid.data")


@dataclasses.dataclass(frozen=True)
class _Row:
    video: str
    second: float
    box: tuple[float, ...]
    label: int | None
    person: str


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    persons: bool = False,
    clip_seconds: float = 3.0,
    offset_seconds: float | None = None,
    evaluated_only: bool = False,
) -> DatasetIndex:
    """The annotated seconds (or persons) of one split; labels are action_id - 1, multi-label.

    annotations: the csv, or the folder of csv and pbtxt; `{split}` in it stands for the split;
    videos: the folder of the films; both root by default. offset_seconds: the second of the film at
    which the files begin; None: 900 for folders of frames and files in a folder called *15min*, 0
    for all others. evaluated_only: the 20 rare actions that the publisher's evaluation leaves out
    are no labels. max_missing: the share of films that may be absent.

    Raises UnknownNameError for another split, ConfigError for a clip of no length, DataError for
    what does not fit, naming file and line.
    """
    if split not in SPLITS:
        raise unknown("split of ava (labels of test are not published)", split, SPLITS)
    if not clip_seconds > 0 or not math.isfinite(clip_seconds):
        raise ConfigError(f"clip_seconds is {clip_seconds}, expected more than 0")
    annotations = _listed.of_split(annotations, split)
    names = [f"{folder}ava_{split}_{r}.csv" for r in _RELEASES for folder in _FOLDERS]
    names += [f"{folder}ava_{split}.csv" for folder in _FOLDERS]
    file = _listed.annotation_file("ava", root, annotations, names)
    classes = _class_names(Path(root), annotations)
    excluded = _excluded(file)
    labels_out = {i - 1 for i in _NOT_EVALUATED} if evaluated_only else set()
    rows = _rows(file, len(classes), labels_out)
    kept_rows = [row for row in rows if (row.video, row.second) not in excluded]
    groups = _grouped(kept_rows, persons)
    place = _listed.given_place(Path(root), _listed.of_split(videos, split))
    make = _Maker(_videos.VideoFolder(place), clip_seconds, offset_seconds, persons)
    records = _listed.keep_present("ava", [make(g) for g in groups], max_missing=max_missing)
    _log.info(
        "ava: %s: %d %s of %d classes (numbers from 1); %d rows of excluded seconds left out",
        *(file, len(records), "persons in a second" if persons else "seconds of films"),
        *(len(classes), len(rows) - len(kept_rows)),
    )
    return DatasetIndex(records, classes, multilabel=True)


# --- files --------------------------------------------------------------------------------------------


def _class_names(root: Path, annotations) -> tuple[str, ...]:
    """The names of 1, 2, … up to the highest id; ids that the list leaves out by their usual names."""
    names = [f"{folder}ava_action_list_{r}.pbtxt" for r in _RELEASES for folder in _FOLDERS]
    names += [f"{folder}*action_list*.pbtxt*" for folder in _FOLDERS]
    file = _listed.optional_file(root, annotations, names)
    found = _usual_names() if file is None else _label_map(file)
    usual = _usual_names() if max(found) == NUM_CLASSES else {}
    every = range(1, max(found) + 1)
    return tuple(found.get(i) or usual.get(i) or f"action {i}" for i in every)


def _usual_names() -> dict[int, str]:
    evaluated = (line.partition(":") for line in class_lists.load("ava"))
    return _NOT_EVALUATED | {int(number): name.strip() for number, _, name in evaluated}


def _label_map(file: Path) -> dict[int, str]:
    text = "\n".join(line for _, line in _listed.read_lines(file))
    found: dict[int, str] = {}
    for block in _BLOCK.findall(text):
        name, number = _NAME.search(block), _ID.search(block)
        if not name or not number or int(number[1]) < 1 or int(number[1]) in found:
            raise DataError(
                f"{file}: expected a name and a number from 1 of its own for each label, got "
                f"{' '.join(block.split())!r}"
            )
        found[int(number[1])] = name[1] or name[2]
    if not found:
        raise DataError(f'{file}: expected blocks such as label {{ name: "sit" label_id: 11 }}')
    return found


def _excluded(file: Path) -> set[tuple[str, float]]:
    for split in SPLITS:
        name = file.name.replace(f"ava_{split}_", f"ava_{split}_excluded_timestamps_")
        other = file.with_name(name)
        if name != file.name and other.is_file():
            rows = _listed.read_csv(other, header=None)
            for line, row in rows:
                if len(row) != 2:
                    raise DataError(f"{other}:{line}: expected video_id,second, got {row}")
            return {
                (row[0].strip(), _videos.seconds(row[1], f"{other}:{line}")) for line, row in rows
            }
    return set()


def _rows(file: Path, count: int, labels_out: set[int]) -> list[_Row]:
    rows: dict[_Row, int] = {}
    repeated = 0
    for line, cells in _listed.read_csv(file, header=None):
        row = _row(f"{file}:{line}", cells, count)
        row = dataclasses.replace(row, label=None) if row.label in labels_out else row
        repeated += row in rows and row.label is not None
        rows.setdefault(row, line)
    if not rows:
        raise DataError(f"{file}: the file has no rows")
    if repeated:
        _log.warning("ava: %s: %d duplicate rows left out", file, repeated)
    return list(rows)


def _row(where: str, cells: list[str], count: int) -> _Row:
    if len(cells) not in (7, 8) or not cells[0].strip():
        raise DataError(
            f"{where}: expected video_id,second,x1,y1,x2,y2,action_id[,person_id], got {cells}"
        )
    video, second, *corners, action = (cell.strip() for cell in cells[:7])
    try:
        box = tuple(float(corner) for corner in corners)
    except ValueError:
        box = ()
    if not box or not all(0 <= v <= 1 for v in box) or box[0] > box[2] or box[1] > box[3]:
        raise DataError(
            f"{where}: the box is {','.join(corners)}, expected x1,y1,x2,y2 from 0 to 1 with x1 <= x2 and "
            "y1 <= y2"
        )
    label = None
    if action:  # a person of whom nothing is said
        label = int(action) - 1 if action.isdecimal() else -1
        if not 0 <= label < count:
            raise DataError(f"{where}: the action_id is {action!r}, expected 1 to {count}")
    person = cells[7].strip() if len(cells) == 8 else ""
    return _Row(video, _videos.seconds(second, where), box, label, person)


# --- records ------------------------------------------------------------------------------------------


def _grouped(rows: list[_Row], persons: bool) -> list[list[_Row]]:
    """The rows of a record together, in the order in which they come first."""
    groups: dict[tuple, list[_Row]] = {}
    flat = 0
    for row in rows:
        is_flat = row.box[0] == row.box[2] or row.box[1] == row.box[3]
        flat += persons and is_flat
        if not (persons and is_flat):
            who = (row.person, row.box) if persons else ()
            groups.setdefault((row.video, row.second, *who), []).append(row)
    if flat:
        _log.warning("ava: %d rows with a box without area left out", flat)
    return list(groups.values())


class _Maker:
    """Makes a record of its rows."""

    def __init__(self, folder, clip_seconds: float, offset_seconds: float | None, persons: bool):
        self._folder, self._persons = folder, persons
        self._half, self._offset = clip_seconds / 2, offset_seconds
        self._found: dict[str, Path] = {}

    def __call__(self, rows: list[_Row]) -> VideoRecord:
        first = rows[0]
        if first.video not in self._found:
            self._found[first.video] = self._folder.find(first.video, usual=_PLACES)
        path = self._found[first.video]
        middle = first.second - self._begins(path)
        if middle < 0:
            raise DataError(
                f"{path}: its second {first.second:g} is labelled, but the file is taken to begin at "
                f"{self._begins(path):g} s of the film; set data.options.offset_seconds"
            )
        key, extra = f"{first.video}_{first.second:04g}", {"second": first.second}
        if self._persons:
            corners = "_".join(f"{v:g}" for v in first.box)
            key, extra = f"{key}_{first.person}_{corners}", extra | {"box": first.box}
        labels = tuple(sorted({row.label for row in rows} - {None}))
        start = max(0.0, middle - self._half)
        return VideoRecord(str(path), key, labels, start, middle + self._half, extra)

    def _begins(self, path: Path) -> float:
        if self._offset is not None:
            return self._offset
        is_frames = _files.extension(path.name) not in _files.VIDEO_EXTENSIONS
        return CUT_AT_SECONDS if is_frames or "15min" in path.parent.name else 0.0
