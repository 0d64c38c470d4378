"""HMDB51: 6,766 clips of 51 actions from films and the web, three folds.

H. Kuehne et al., "HMDB: A Large Video Database for Human Motion Recognition", ICCV 2011. A published
accuracy is the mean of the three folds, of 3,570 training and 1,530 test clips each.

    testTrainMulti_7030_splits/brush_hair_test_split1.txt     NAME.avi 1   (1 train, 2 test, 0 neither)
    hmdb51_org/brush_hair/NAME.avi                            names hold spaces, # & ; ( ) [ ]
"""

import logging
import os
import re
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _files, _listed

SPLITS = ("train", "test")
FOLDS = (1, 2, 3)
_FLAGS = {"0": None, "1": "train", "2": "test"}
_FOLDERS = ("", "testTrainMulti_7030_splits", "test_train_splits", "annotations", "splits")
_VIDEO_FOLDERS = ("hmdb51_org", "hmdb51", "HMDB51", "videos", "rawframes")
_LIST = re.compile(r"(.+)_test_split([0-9]+)\.txt")
_ENTRY = re.compile(r"(.*\S)\s+([012])")

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
    """The records of "train" or "test" (also called "val") of a fold, class by class; ids are
    CLASS/NAME.avi.

    root: holds testTrainMulti_7030_splits/ (or the lists themselves) and the class folders, or the
    folder of these; annotations: the folder of the lists; videos: the folder of the class folders.
    The classes are the sorted names of the lists, of any fold.

    Raises UnknownNameError for another split or fold, DataError for what does not fit.
    """
    split = "test" if split == "val" else split  # the set has no other split to validate on
    if split not in SPLITS:
        raise unknown("split of hmdb51", split, SPLITS)
    if fold not in FOLDS:
        raise unknown("fold of HMDB51", str(fold), map(str, FOLDS))
    names, files = _lists(root, annotations, fold)
    listed = [entry for label, file in enumerate(files) for entry in _read(file, label)]
    paths = [os.path.join(names[label], name) for _, _, label, name, _ in listed]
    folders = _listed.Folders()
    top = _listed.video_folder(root, videos, _VIDEO_FOLDERS, paths, folders)
    chosen: list[VideoRecord] = []
    for file, entries in _by_file(listed):
        records = [_record(top, folders, names[label], label, n) for _, _, label, n, _ in entries]
        _refuse_two_sides(file, entries)
        wanted = [i for i, entry in enumerate(entries) if entry[4] == split]
        chosen += _listed.drop_duplicates(
            "hmdb51",
            [records[i] for i in wanted],
            file=file,
            lines=[entries[i][1] for i in wanted],
        )
    if not chosen:
        raise DataError(
            f"{files[0].parent}: no clip of the {split} split in the lists of fold {fold}"
        )
    kept = _listed.keep_present("hmdb51", chosen, max_missing=max_missing, folders=folders)
    _log.info("hmdb51: %s of fold %d: %d clips, %d classes", split, fold, len(kept), len(names))
    return DatasetIndex(kept, names)


def _lists(root, annotations, fold: int) -> tuple[tuple[str, ...], list[Path]]:
    """(class names, the list of each for this fold)"""
    base = _listed.given_place(Path(root), annotations)
    found: dict[str, dict[int, Path]] = {}
    for folder in (base / name for name in _FOLDERS):
        for file in folder.glob("*_test_split*.txt") if folder.is_dir() else ():
            if (match := _LIST.fullmatch(file.name)) and file.name[0] != ".":
                found.setdefault(match[1], {}).setdefault(int(match[2]), file)
    if not found:
        raise DataError(
            f"hmdb51: no lists CLASS_test_split{fold}.txt in {base} or its folders "
            f"{', '.join(_FOLDERS[1:])}; it holds {_files.contents(base)}. Set data.options.annotations "
            "to the folder of the lists"
        )
    names = tuple(sorted(found))
    lacking = [name for name in names if fold not in found[name]]
    if lacking:
        raise DataError(
            f"hmdb51: {len(lacking)} of {len(names)} classes have no list for fold {fold}; the first is "
            f"{lacking[0]!r}, which has {', '.join(f.name for f in found[lacking[0]].values())}"
        )
    return names, [found[name][fold] for name in names]


def _read(file: Path, label: int) -> list[tuple]:
    """(file, line, label, name of the video, split or None) of each line"""
    entries = []
    for line, text in _listed.read_lines(file):
        match = _ENTRY.fullmatch(text.strip())
        if match is None:
            raise DataError(
                f"{file}:{line}: {text!r}, expected a file name and 1 (train), 2 (test) or 0 (neither)"
            )
        entries.append((file, line, label, match[1], _FLAGS[match[2]]))
    return entries


def _by_file(listed: list[tuple]) -> list[tuple[Path, list[tuple]]]:
    files: dict[Path, list[tuple]] = {}
    for entry in listed:
        files.setdefault(entry[0], []).append(entry)
    return list(files.items())


def _refuse_two_sides(file: Path, entries: list[tuple]) -> None:
    first: dict[str, tuple] = {}
    for entry in entries:
        before = first.setdefault(entry[3], entry)
        if before[4] != entry[4]:
            raise DataError(
                f"{file}:{entry[1]}: {entry[3]!r} is of {entry[4] or 'neither split'} here and of "
                f"{before[4] or 'neither split'} in line {before[1]}"
            )


def _record(top: str, folders, class_name: str, label: int, name: str) -> VideoRecord:
    path = folders.clip(os.path.join(top, class_name, name))
    return VideoRecord(path, f"{class_name}/{name}", (label,))
