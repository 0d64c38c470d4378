"""Lists of paths and labels without a header, as the training code of many papers reads them.

    path/of a/clip.mp4 17            SlowFast, VideoMAE, MAE-ST, V-JEPA: train.csv val.csv test.csv
    path/clip.mp4 3 8                mmaction2, several labels: *_train_list_videos.txt
    path/clip.mp4 0 -1               VideoMAE V2, pretraining without labels
    frames/clip 250 17               mmaction2 and VideoMAE V2, folder of frames: count, label
    frames/clip 0 250                VideoMAE V2, folder of frames, pretraining: start, count

A line is split from its right end, at white space or at another separator, so that paths may hold
spaces. Which of the forms a list has is told by the endings of its paths and the numbers behind
them, and logged; `columns` decides where that is not enough. Relative paths start from `videos`, or
from root.
"""

import contextlib
import itertools
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _classes, _files, _listed

SPLITS = ("train", "val", "test")
COLUMNS = (
    "auto",
    "path",
    "path label",
    "path labels",
    "path start total",
    "path total label",
)
_NUMBERS = {"path": 0, "path label": 1, "path start total": 2, "path total label": 2}
UNLABELLED = -1
_WORDS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
_CLASS_FILES = ("classes.txt", "class_names.txt", "label_map*.txt", "labels.txt")
_WHOLE = re.compile(r"[+-]?[0-9]+")

_log = logging.getLogger("jaxvid.data")


class _Line(NamedTuple):
    number: int
    path: str
    values: tuple[int, ...]


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    separator: str | None = None,
    columns: str = "auto",
    class_names: Sequence[str] | str | None = None,
    num_classes: int | None = None,
    label_base: int | None = None,
) -> DatasetIndex:
    """The records of one split in the order of its list; ids are the paths as they stand there.

    annotations: a list, with `{split}` for the split's name, or the folder of the lists. videos: what
    relative paths start from. separator: None is white space, or a comma or `;` where every line has
    one before its number. columns: one of COLUMNS. class_names: the names in order, a file of them, or
    a name of `class_lists`; without it classes.txt or label_map*.txt beside the lists; without that the
    names are the numbers: num_classes of them, or up to the highest of all splits' lists. label_base:
    the number of the first class, 0 or 1; None tells it from the labels of all splits' lists.
    Lists with several labels in a line make a multi-label index; label -1 is none.

    Raises UnknownNameError for another split or columns, DataError for lines that do not fit.
    """
    if split not in SPLITS:
        raise unknown("split of path_list", split, SPLITS)
    if columns not in COLUMNS:
        raise unknown("columns of path_list", columns, COLUMNS)
    if label_base not in (None, 0, 1):
        raise ConfigError(f"label_base is {label_base!r}, expected 0, 1 or None (find out)")
    file = _file(root, annotations, split)
    lines, form = _read(file, separator, columns)
    others = [_read(f, separator, columns) for f in _siblings(root, annotations, split, file)]
    names = _classes.chosen(
        Path(root), _listed.of_split(annotations, split), class_names, _CLASS_FILES
    )
    every = set(_labels(lines, form)).union(*(_labels(*other) for other in others))
    names, base = _names_and_base(file, every, names, num_classes, label_base)
    records, folders = _records(file, lines, form, names, base, root, videos, split)
    numbers = [line.number for line in lines]
    records = _listed.drop_duplicates("path_list", records, file=file, lines=numbers)
    kept = _listed.keep_present("path_list", records, max_missing=max_missing, folders=folders)
    _log.info(
        "path_list: %s read as %r: %d clips of %d classes, labels counted from %d",
        file,
        form,
        len(kept),
        len(names),
        base,
    )
    multilabel = form == "path labels" or any(o[1] == "path labels" for o in others)
    return DatasetIndex(kept, names, multilabel=multilabel)


def _file_names(split: str) -> list[str]:
    names = []
    for folder, word in itertools.product(("", "annotations/"), _WORDS[split]):
        names += [f"{folder}{word}.csv", f"{folder}{word}.txt", f"{folder}{word}.list"]
        for kind in ("videos", "rawframes"):
            names += [f"{folder}*{word}_list_{kind}.txt", f"{folder}*_{word}_split_*_{kind}.txt"]
        names += [f"{folder}{word}_list.txt", f"{folder}{word}list.txt", f"{folder}*_{word}.txt"]
    return names


def _file(root, annotations, split: str) -> Path:
    place = _listed.of_split(annotations, split)
    return _listed.annotation_file("path_list", root, place, _file_names(split))


def _siblings(root, annotations, split: str, file: Path) -> list[Path]:
    """The lists of the other splits, as far as they are there: classes and base are of all of them."""
    if annotations is not None and "{split}" not in str(annotations) and file == Path(annotations):
        return []
    found = []
    for other in SPLITS:
        with contextlib.suppress(DataError):  # there is none
            found.append(_file(root, annotations, other))
    return [f for f in dict.fromkeys(found) if f != file]


# --- lines ------------------------------------------------------------------------------------------


def _read(file: Path, separator: str | None, columns: str) -> tuple[list[_Line], str]:
    """(lines split into path and numbers, their form)"""
    texts = [(number, text.strip()) for number, text in _listed.read_lines(file)]
    if not texts:
        raise DataError(f"{file}: the list is empty, expected lines of a path and a label")
    separator = separator if separator is not None else _separator([t for _, t in texts])
    separator = separator.strip(" ") or None
    form = columns
    if columns == "auto":
        form = _form([_Line(n, *_cut(text, separator, None)) for n, text in texts])
    return [_Line(n, *_cut(text, separator, _NUMBERS.get(form))) for n, text in texts], form


def _separator(texts: list[str]) -> str:
    for mark in (",", ";"):
        before_number = re.compile(rf".*{mark}\s*[+-]?[0-9]+")
        if all(before_number.fullmatch(text) for text in texts[:200]):
            return mark
    return ""


def _cut(text: str, separator: str | None, most: int | None) -> tuple[str, tuple[int, ...]]:
    """(path, the whole numbers behind it, at most so many); a path is never only a number."""
    parts = text.split(separator)
    limit = len(parts) - 1 if most is None else min(most, len(parts) - 1)
    count = 0
    while count < limit and _WHOLE.fullmatch(parts[-1 - count].strip()):
        count += 1
    path = text.rsplit(separator, count)[0].strip() if count else text
    return path, tuple(int(part) for part in parts[len(parts) - count :])


def _form(lines: list[_Line]) -> str:
    """Which of COLUMNS the lines have."""
    counts = {len(line.values) for line in lines}
    if counts == {0} and all(_is_video(line.path) for line in lines):
        return "path"
    if all(_is_video(line.path) for line in lines):
        if counts == {2} and all(line.values[1] == UNLABELLED for line in lines):
            return "path start total"
        return "path labels" if max(counts) > 1 else "path label"
    if min(counts) < 2:
        return "path label"
    starts, counts = ({line.values[place] for line in lines} for place in (-2, -1))
    is_start = starts <= {0, 1} and min(counts) > 0  # a count of frames; a label may be 0
    return "path start total" if is_start else "path total label"


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in _files.VIDEO_EXTENSIONS


def _labels(lines: list[_Line], form: str) -> list[int]:
    """All labels of a list as they stand there, but for -1."""
    places = {"path label": slice(-1, None), "path labels": slice(None)}
    taken = places.get(form, slice(-1, None) if form == "path total label" else slice(0))
    return [value for line in lines for value in line.values[taken] if value != UNLABELLED]


# --- labels and records -----------------------------------------------------------------------------


def _names_and_base(file, seen: set[int], names, num_classes, base) -> tuple[tuple[str, ...], int]:
    if not seen:
        count = num_classes or 0
        return names or tuple(map(str, range(count))), 0
    if names is not None and num_classes not in (None, len(names)):
        raise ConfigError(
            f"num_classes is {num_classes} and the class list has {len(names)} names; set one of them"
        )
    count = len(names) if names is not None else num_classes
    if count is None:
        base = _base_without_classes(file, seen) if base is None else base
        count = max(seen) + 1 - base
    elif base is None:
        base = _listed.label_base(f"path_list: {file}", seen, count)
    return names or tuple(map(str, range(count))), base


def _base_without_classes(file: Path, seen: set[int]) -> int:
    base = 1 if min(seen) == 1 else 0
    if min(seen) > 0:
        _log.warning(
            "path_list: %s: the lowest label is %d and nothing says how many classes there are; taken "
            "to count from %d (data.options.label_base, class_names or num_classes say it)",
            file,
            min(seen),
            base,
        )
    return base


def _records(file, lines, form, names, base, root, videos, split):
    folders = _listed.Folders()
    usual = ["videos", f"videos_{split}", "rawframes", f"rawframes_{split}", split]
    place = _listed.of_split(videos, split)
    paths = [line.path for line in lines]
    top = _listed.video_folder(root, place, usual, paths, folders)
    records = []
    for line in lines:
        labels = _line_labels(file, line, form, len(names), base)
        path = folders.clip(os.path.normpath(os.path.join(top, line.path)))
        records.append(VideoRecord(path, line.path, labels))
    return records, folders


def _line_labels(file, line: _Line, form: str, count: int, base: int) -> tuple[int, ...]:
    wanted = _NUMBERS.get(form)
    if len(line.values) != wanted and (wanted is not None or not line.values):
        raise DataError(
            f"{file}:{line.number}: {line.path!r} is followed by {len(line.values)} whole numbers, "
            f"expected {form!r} (data.options.columns, data.options.separator); a csv with a line of "
            "column names is for the dataset 'table'"
        )
    given = _labels([line], form)
    wrong = [label for label in given if not base <= label < count + base]
    if wrong:
        raise DataError(
            f"{file}:{line.number}: label {wrong[0]} of {line.path!r}, expected {base} to "
            f"{count - 1 + base}, or {UNLABELLED} for none"
        )
    return tuple(sorted({label - base for label in given}))
