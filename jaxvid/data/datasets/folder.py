"""Folders of classes, the first thing a user brings: `root/split/class/clip`.

    root/train/cooking/kitchen 1.mp4        a clip is a video file …
    root/train/sleeping/night_7/frame1.jpg  … or a folder of images
    root/val/cooking/…                      val and test hold the same classes, or some of them

Splits go by other names too (training, valid, validation, testing, …, case aside), and what was
found is said in the log. Class folders that lie directly in root are refused: which clips train and
which ones measure the result is not for a reader to guess. The classes are the sorted names of the
training split's folders.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, nearest, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _files, _table_file

SPLITS = ("train", "val", "test")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    class_names: Sequence[str] | None = None,
) -> DatasetIndex:
    """The records of one split, class by class, each class in natural order.

    root: the folder that holds train/, val/, …; `videos` takes its place when given. A record's id
    is its path relative to that folder. class_names: the classes in label order, should the sorted
    names of train's folders not be wanted, or train not be at hand. A class without a folder in
    this split has no records here, which the log says. max_missing has nothing to tolerate: the
    folders are the list.

    Raises UnknownNameError for another split, ConfigError when annotations are given, DataError
    when the layout does not fit, a class folder holds no clip, or this split has a class that is
    unknown.
    """
    if split not in SPLITS:
        raise unknown("split of folder", split, SPLITS)
    _files.refuse_annotations("folder", annotations)
    base = Path(root if videos is None else videos)
    place = _split_folder(base, split)
    found = {f.name: f for f in _class_folders(base, split)}
    names = tuple(class_names or sorted(f.name for f in _class_folders(base, "train")))
    strangers = [name for name in found if name not in names]
    if strangers:
        raise DataError(
            f"{place}: {len(strangers)} of its class folders are no classes of the training "
            f"split: {_files.some(strangers)}.{nearest(strangers[0], names)} Classes: {_files.some(names)}."
        )
    records, counts = [], []
    for label, name in enumerate(names):
        clips = _clips(found.get(name), base, label)
        records += clips
        counts.append(f"{name} {len(clips)}")
    _log.info(
        "folder: %s: detected as the split %r, a folder a class: %d clips of %d classes: %s (%s)",
        *(place, split, len(records), len(names), _files.some(counts), _kinds(records)),
    )
    return DatasetIndex(tuple(records), names)


def _clips(folder: Path | None, base: Path, label: int) -> list:
    return [] if folder is None else _files.clip_records(folder, base=base, label=label)


def _kinds(records: Sequence[VideoRecord]) -> str:
    """How many clips are files, by ending, and how many folders of images."""
    endings = (_files.extension(record.path) for record in records)
    kinds = Counter(e if e in _files.VIDEO_EXTENSIONS else "folders of images" for e in endings)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _split_folder(base: Path, split: str) -> Path:
    """base/split, or in its absence the one folder whose name usually means this split."""
    if (base / split).is_dir() or not base.is_dir():
        return base / split
    alike = [f for f in _files.subfolders(base) if _files.split_of(f.name) == split]
    if len(alike) > 1:
        raise DataError(
            f"{base}: which of {', '.join(f.name for f in alike)} is the split {split!r}? Call it {split}"
        )
    return alike[0] if alike else base / split


def _class_folders(base: Path, split: str) -> list[Path]:
    """The class folders of a split; DataError that says what is there instead."""
    folder = _split_folder(base, split)
    classes = _files.subfolders(folder) if folder.is_dir() else []
    if classes:
        return classes
    said = [f"{folder}: no class folders there; {folder} holds {_files.contents(folder)}."]
    if not folder.is_dir():
        said.append(f"{base} holds {_files.contents(base)}.{_advice(base, split)}")
    said.append(
        f"Lay the clips out as {base / 'train' / 'CLASS' / 'clip.mp4'} and "
        f"{base / 'val' / 'CLASS' / 'clip.mp4'} (a clip is a video file or a folder of images)."
    )
    raise DataError("\n".join(said))


def _advice(base: Path, split: str) -> str:
    """A sentence on what the folders of root look like: other names of splits, or classes."""
    folders = [f.name for f in _files.subfolders(base)] if base.is_dir() else []
    tables = [e.name for e in _files.entries(base) if _is_table(e.name)] if base.is_dir() else []
    if tables:
        return f" If {tables[0]} lists the clips and their labels, use dataset 'table'."
    if not folders or any(_files.split_of(name) for name in folders):
        return ""
    split_like = [name for name in folders if name.lower().startswith(split[:2])]
    if split_like:
        return f" Rename {split_like[0]!r} to {split!r}?"
    return (
        " If these are classes, the level of the splits is missing: which clips train and which "
        f"validate is not guessed. jaxvid data split {base} divides them."
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(_table_file.ENDINGS)
