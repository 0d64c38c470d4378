"""Moments in Time: 3 s clips of events, 339 classes of uneven size; and its multi-label edition.

M. Monfort et al., "Moments in Time Dataset: one million videos for event understanding", TPAMI 2019;
"Multi-Moments in Time", arXiv 1911.00232.

    moments_categories.txt      clapping,0
    trainingSet.csv             clapping/a file.mp4,clapping,3,1     class, how many people (dis)agreed
    training/clapping/a file.mp4

Multi-Moments in Time lists `file.mp4,id,id,…` instead, which makes a multi-label index.
"""

import logging
import os
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _classes, _files, _listed

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": ("training", "train"),
    "val": ("validation", "val"),
    "test": ("testing", "test"),
}
_FOLDERS = ("", "annotations/")

_SHIPPED = "Moments in Time, as shipped"

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The records of one split in the order of its csv; ids are the listed paths.

    annotations: a csv, with `{split}` as train, val, test, or the folder of them and of
    moments_categories.txt; videos: the folder that the listed paths start from. Classes are those of
    moments_categories.txt, without it the shipped 339. Clips of the test split without label come
    unlabelled.

    Raises UnknownNameError for another split, DataError for what does not fit.
    """
    if split not in SPLITS:
        raise unknown("split of moments_in_time", split, SPLITS)
    annotations = _listed.of_split(annotations, split)
    file = _listed.annotation_file("moments_in_time", root, annotations, _file_names(split))
    rows = [(n, *_cut(file, n, row)) for n, row in _listed.read_csv(file, header=None)]
    if not rows:
        raise DataError(f"{file}: the list is empty, expected lines 'class/file.mp4,label,…'")
    multilabel = _is_multilabel(rows)
    names, base, source = _class_names(root, annotations or file, file, multilabel)
    numbers = {name: label for label, name in enumerate(names)}
    folders = _listed.Folders()
    place, paths = _listed.of_split(videos, split), [path for _, path, _ in rows]
    usual = [*_WORDS[split], "videos", *(f"videos/{word}" for word in _WORDS[split])]
    top = _listed.video_folder(root, place, usual, paths, folders)
    records = []
    for line, path, fields in rows:
        if not fields and split != "test":
            raise DataError(f"{file}:{line}: {path!r} has no label")
        if multilabel:
            labels = tuple(sorted({_id(file, line, f, len(names), base) for f in fields}))
        else:
            if len(fields) > 1 and all(field.isdecimal() for field in fields):
                raise DataError(
                    f"{file}:{line}: {path!r} has a class folder, for one label, and {len(fields)} "
                    "numbers; expected 'class/file.mp4,label,…' or, for several labels, 'file.mp4,id,id,…'"
                )
            labels = tuple(_label(file, line, f, numbers, base, source) for f in fields[:1])
        records.append(VideoRecord(folders.clip(os.path.join(top, path)), path, labels))
    lines = [line for line, _, _ in rows]
    records = _listed.drop_duplicates("moments_in_time", records, file=file, lines=lines)
    kept = _listed.keep_present(
        "moments_in_time", records, max_missing=max_missing, folders=folders
    )
    _log.info(
        "moments_in_time: %s: %d clips, %d classes of %s, %s",
        file,
        len(kept),
        len(names),
        source,
        "several labels a clip" if multilabel else "one label a clip",
    )
    return DatasetIndex(kept, names, multilabel=multilabel)


def _file_names(split: str) -> list[str]:
    stems = [f"{word}{end}" for word in _WORDS[split] for end in ("Set", "Set_multi", "")]
    return [
        f"{folder}{stem}.{end}" for stem in stems for end in ("csv", "txt") for folder in _FOLDERS
    ]


def _cut(file: Path, line: int, row: list[str]) -> tuple[str, list[str]]:
    """(path, the fields behind it); a path may hold commas that nobody quoted."""
    ends = [i for i, field in enumerate(row) if _has_video_ending(field)]
    end = ends[-1] + 1 if ends else 1
    path = ",".join(row[:end]).strip()
    if not path:
        raise DataError(f"{file}:{line}: no file name; expected 'class/file.mp4,label,…'")
    return path, [field.strip() for field in row[end:] if field.strip()]


def _has_video_ending(name: str) -> bool:
    return os.path.splitext(name.strip())[1].lower() in _files.VIDEO_EXTENSIONS


def _is_multilabel(rows: list[tuple]) -> bool:
    """Whether numbers stand behind all paths, and paths have no class folder."""
    labelled = [(path, fields) for _, path, fields in rows if fields]
    return bool(labelled) and all(
        "/" not in path and all(field.isdecimal() for field in fields) for path, fields in labelled
    )


def _class_names(root, annotations, file: Path, multilabel: bool):
    """(names, the first number, in words where they stand)"""
    usual = [f"{f}{n}" for n in ("moments_categories.txt", "categories.txt") for f in _FOLDERS]
    found = _listed.optional_file(root, annotations, usual)
    if found is not None:
        return *_classes.numbered(found), str(found)
    if multilabel:
        raise DataError(
            f"{file} lists several numbers a clip, and there is no moments_categories.txt beside it or "
            f"in {root} that says of which classes"
        )
    return class_lists.load("moments_in_time"), 0, _SHIPPED


def _label(file: Path, line: int, field: str, numbers, base: int, source: str) -> int:
    """A label given by the class's name, or by its number in a list of the set's own."""
    if field.isdecimal() and field not in numbers and source != _SHIPPED:
        return _id(file, line, field, len(numbers), base)
    return _listed.class_number(field, numbers, file, line, source)


def _id(file: Path, line: int, field: str, count: int, base: int) -> int:
    number = _listed.whole_number(field, "a label", file, line)
    if not base <= number < count + base:
        raise DataError(
            f"{file}:{line}: label {number}, expected {base} to {count - 1 + base} ({count} classes)"
        )
    return number - base
