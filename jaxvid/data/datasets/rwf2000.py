"""RWF-2000: fights and everyday scenes in surveillance video, two classes.

M. Cheng, K. Cai, M. Li, "RWF-2000: An Open Large Scale Video Database for Violence Detection",
ICPR 2020. 1,600 training and 400 validation clips of 5 s at 30 fps. Three layouts are read:

    {train,val}/{Fight,NonFight}/*.avi                            older release
    train/{Train_Fight,Train_NonFight}, val/{Val_Fight,Val_NonFight}   newer release
    either of them with a folder of images (frame1.jpg, …) for each clip
"""

import logging
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex
from jaxvid.data.datasets import _files

SPLITS = ("train", "val")
CLASS_NAMES = ("NonFight", "Fight")
ARCHIVE_FOLDER = "RWF-2000"  # what the archive unpacks to, should root be the folder around it

_HOW_TO_GET_IT = """\
RWF-2000 is to be had from its authors by agreement (repository
mchengny/RWF2000-Video-Database-for-Violence-Detection, non-commercial terms) or as Zenodo record
15687512 (9.4 GB, CC-BY-4.0 there). Nothing is downloaded for you: unpack it and set data.root to the
folder that holds train/ and val/. To see jaxvid at work without it:
    python -m jaxvid.main --config configs/quickstart.py"""

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The records of "train" or "val", NonFight (0) first, each class in natural order.

    root: the folder that holds train/ and val/, or that folder's parent when it is called RWF-2000;
    `videos` takes its place when given. A record's id is its path relative to that folder. Case in
    folder names does not matter. max_missing has nothing to tolerate here: the folders are the list.

    Raises UnknownNameError for another split, ConfigError when annotations are given, DataError when
    no layout fits or a class folder holds no clip.
    """
    if split not in SPLITS:
        raise unknown("split of rwf2000", split, SPLITS)
    _files.refuse_annotations("rwf2000", annotations)
    base = Path(root if videos is None else videos)
    records, counts = [], []
    for label, folder in enumerate(_class_folders(base, split)):
        found = _files.clip_records(folder, base=base, label=label)
        records += found
        counts.append(f"{len(found)} {CLASS_NAMES[label]}")
    _log.info("rwf2000: %s of %s: %s", split, base, ", ".join(counts))
    return DatasetIndex(tuple(records), CLASS_NAMES)


def _class_folders(base: Path, split: str) -> list[Path]:
    """The folders of NonFight and Fight, in this order, in the first layout that fits."""
    tried = []
    for top in (base, base / ARCHIVE_FOLDER):
        for prefix in ("", split.capitalize() + "_"):
            wanted = [top / split / (prefix + name) for name in CLASS_NAMES]
            found = [_any_case(top, split, path.name) for path in wanted]
            if all(found):
                return found
            tried += [
                f"    {path}: {'there' if at else 'not there'}"
                for path, at in zip(wanted, found, strict=True)
            ]
    raise DataError(
        f"{base}: the {split} split of RWF-2000 is not there. Looked for the two class folders of a "
        "layout:\n"
        + "\n".join(tried)
        + f"\n{base} holds {_files.contents(base)}.\n{_HOW_TO_GET_IT}"
    )


def _any_case(folder: Path, *names: str) -> Path | None:
    """The folder at folder/names[0]/names[1]/…, case aside; None when there is none."""
    for name in names:
        if not folder.is_dir():
            return None
        same = [f for f in _files.subfolders(folder) if f.name.casefold() == name.casefold()]
        if not same:
            return None
        folder = next((f for f in same if f.name == name), same[0])
    return folder
