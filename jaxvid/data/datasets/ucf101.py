"""UCF101: 13,320 clips of 101 actions, three folds.

K. Soomro, A. Zamir, M. Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild",
arXiv 1212.0402 (2012). A published accuracy is the mean of the three folds.

    ucfTrainTestlist/classInd.txt       1 ApplyEyeMakeup
    ucfTrainTestlist/trainlist01.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    ucfTrainTestlist/testlist01.txt     ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

Clips of one group (g01) are cut from one recording; no group stands on both sides of a fold.
"""

import logging
import os
import re
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _classes, _listed

SPLITS = ("train", "test")
FOLDS = (1, 2, 3)
_FOLDERS = ("", "ucfTrainTestlist/", "annotations/", "splits/")
_VIDEO_FOLDERS = ("UCF-101", "UCF101", "videos", "rawframes")
_NUMBERED = re.compile(r"(.*\S)\s+([0-9]+)")
_GROUP = re.compile(r".*_g([0-9]+)_c[0-9]+.*")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    fold: int = 1,
) -> DatasetIndex:
    """The records of "train" or "test" (also called "val") of a fold, in the order of its list; ids
    are the listed paths.

    root: holds ucfTrainTestlist/ (or the lists themselves) and UCF-101/; annotations: the folder of the
    lists; videos: the folder of class folders. extra["group"] names the recording. Classes are those of
    classInd.txt, without it the shipped ones; the numbers of the training list must be theirs.

    Raises UnknownNameError for another split or fold, DataError for what does not fit.
    """
    split = "test" if split == "val" else split  # the set has no other split to validate on
    if split not in SPLITS:
        raise unknown("split of ucf101", split, SPLITS)
    if fold not in FOLDS:
        raise unknown("fold of UCF101", str(fold), map(str, FOLDS))
    lists = [f"{folder}{split}list0{fold}.txt" for folder in _FOLDERS]
    file = _listed.annotation_file("ucf101", root, annotations, lists)
    names, source = _class_names(root, annotations, file)
    lines = [(number, *_cut(text)) for number, text in _listed.read_lines(file)]
    if not lines:
        raise DataError(
            f"{file}: the list is empty, expected lines such as Class/v_Class_g01_c01.avi"
        )
    labels = _labels(file, lines, names, source)
    records, folders = _records(root, videos, [path for _, path, _ in lines], labels)
    numbers = [number for number, _, _ in lines]
    records = _listed.drop_duplicates("ucf101", records, file=file, lines=numbers)
    kept = _listed.keep_present("ucf101", records, max_missing=max_missing, folders=folders)
    _log.info("ucf101: %s of fold %d: %d clips, %d classes", split, fold, len(kept), len(names))
    return DatasetIndex(kept, names)


def _class_names(root, annotations, file: Path) -> tuple[tuple[str, ...], str]:
    """(names, in words where they stand)"""
    usual = [f"{folder}classInd.txt" for folder in _FOLDERS]
    found = _listed.optional_file(root, annotations or file, usual)
    if found is None:
        return class_lists.load("ucf101"), "UCF101, as shipped (there is no classInd.txt)"
    return _classes.numbered(found)[0], str(found)


def _cut(text: str) -> tuple[str, int | None]:
    """(path with `/`, number or None)"""
    match = _NUMBERED.fullmatch(text.strip())
    path, number = (match[1], int(match[2])) if match else (text.strip(), None)
    return path.replace("\\", "/"), number


def _labels(file: Path, lines: list, names: tuple[str, ...], source: str) -> list[int]:
    """The labels, of the folders' names; the numbers behind the paths must say the same."""
    known = {name: label for label, name in enumerate(names)}
    labels, base = [], None
    for line, path, number in lines:
        folder = os.path.basename(os.path.dirname(path))
        label = _listed.class_number(folder, known, file, line, source)
        labels.append(label)
        if number is None:
            continue
        base = number - label if base is None else base
        if base not in (0, 1) or number != label + base:
            raise DataError(
                f"{file}:{line}: {path!r} has number {number}, expected that of class {folder!r} of "
                f"{source}: {label + (1 if base not in (0, 1) else base)}"
            )
    if base is not None:
        _log.info("ucf101: %s: its numbers count from %d", file, base)
    return labels


def _records(root, videos, paths: list[str], labels: list[int]):
    folders = _listed.Folders()
    top = _listed.video_folder(root, videos, _VIDEO_FOLDERS, paths, folders)
    records = []
    for path, label in zip(paths, labels, strict=True):
        group = _GROUP.fullmatch(os.path.basename(path))
        extra = {"group": f"{os.path.dirname(path)} g{group[1]}"} if group else {}
        records.append(
            VideoRecord(folders.clip(os.path.join(top, path)), path, (label,), extra=extra)
        )
    return records, folders
