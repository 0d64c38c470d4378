"""Something-Something V1 and Jester: what hands do with things, and gestures; a folder of frames a
clip.

R. Goyal et al., "The 'Something Something' Video Database for Learning and Evaluating Visual Common
Sense", ICCV 2017 (86,017 + 11,522 + 10,960 clips, 174 classes). J. Materzynska et al., "The Jester
Dataset", ICCV Workshops 2019 (118,562 + 14,787 + 14,743 clips, 27 classes).

    something-something-v1-train.csv    100218;Something falling like a feather or paper
    something-something-v1-labels.csv   one class a line
    20bn-something-something-v1/100218/00001.jpg

and the same with jester-v1-…, 20bn-jester-v1. The test split has no labels. Classes have sides ("…
from left to right", "Swiping Left"): no left-right flips.
"""

import logging
import os
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _classes, _listed

SPLITS = ("train", "val", "test")
_WORDS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
_SETS = {
    "something-something-v1": ("ssv1", "20bn-something-something-v1"),
    "jester-v1": ("jester", "20bn-jester-v1"),
}
_FOLDERS = ("", "labels/", "annotations/")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The records of one split in the order of its csv; ids are those of the set.

    annotations: a csv (with `{split}` as train, val, test), or the folder of them and of the labels;
    videos: the folder of the folders ID/ of frames (files ID.webm, ID.mp4 are taken as well). Which of
    the two sets it is, the names of the files tell. Classes are the lines of …-labels.csv, the first 0;
    without it the shipped ones.

    Raises UnknownNameError for another split, DataError for what does not fit.
    """
    if split not in SPLITS:
        raise unknown("split of ssv1", split, SPLITS)
    annotations = _listed.of_split(annotations, split)
    file = _listed.annotation_file("ssv1", root, annotations, _file_names(split))
    rows = [(line, *_cut(text)) for line, text in _listed.read_lines(file)]
    if not rows:
        raise DataError(f"{file}: the list is empty, expected lines 'id;label text'")
    names, source = _class_names(root, annotations, file, {text for _, _, text in rows} - {""})
    numbers = {_bare(name): label for label, name in enumerate(names)}
    folders = _listed.Folders()
    usual = [folder for _, folder in _SETS.values()] + ["frames", "rawframes", "videos"]
    place, ids = _listed.of_split(videos, split), [i for _, i, _ in rows]
    top = _listed.video_folder(root, place, usual, ids, folders)
    records = []
    for line, name, text in rows:
        _check_row(file, line, name, text, split)
        labels = (_listed.class_number(text, numbers, file, line, source),) if text else ()
        records.append(VideoRecord(folders.clip(os.path.join(top, name)), name, labels))
    lines = [line for line, _, _ in rows]
    records = _listed.drop_duplicates("ssv1", records, file=file, lines=lines)
    kept = _listed.keep_present("ssv1", records, max_missing=max_missing, folders=folders)
    _log.info("ssv1: %s: %d clips, %d classes of %s", file, len(kept), len(names), source)
    return DatasetIndex(kept, names)


def _file_names(split: str) -> list[str]:
    return [f"{f}{name}-{w}.csv" for name in _SETS for f in _FOLDERS for w in _WORDS[split]]


def _cut(text: str) -> tuple[str, str]:
    """(id, label text or an empty one)"""
    name, _, label = text.strip().partition(";")
    return name.strip(), _bare(label)


def _bare(label: str) -> str:
    """The label without the brackets that some releases put around what stands for an object."""
    return label.replace("[", "").replace("]", "").strip()


def _check_row(file: Path, line: int, name: str, text: str, split: str) -> None:
    if not name:
        raise DataError(f"{file}:{line}: no id; expected 'id;label text'")
    if not text and split != "test":
        raise DataError(f"{file}:{line}: clip {name!r} has no label; expected 'id;label text'")


def _class_names(root, annotations, file: Path, seen: set[str]) -> tuple[tuple[str, ...], str]:
    """(names, in words where they stand)"""
    own = [name for name in _SETS if file.name.startswith(name)]
    usual = [f"{folder}{name}-labels.csv" for name in own or _SETS for folder in _FOLDERS]
    usual += [f"{folder}labels.{end}" for folder in _FOLDERS for end in ("csv", "txt")]
    found = _listed.optional_file(root, annotations or file, usual)
    if found is not None:
        return _classes.plain(found), str(found)
    shipped = {key: class_lists.load(key) for key, _ in (_SETS[name] for name in own or _SETS)}
    most = max(shipped, key=lambda key: len(seen & set(shipped[key])))
    return shipped[most], f"{most}, as shipped (there is no list of labels)"
