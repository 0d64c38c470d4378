"""Something-Something V2: 220,847 clips of hands with things, 174 classes told apart by motion.

R. Goyal et al., "The 'Something Something' Video Database …", ICCV 2017; the second release is of 2018.

    something-something-v2-train.json     [{"id": "78687", "label": "holding potato next to bin",
                                            "template": "Holding [something] next to [something]", …}, …]
    something-something-v2-labels.json    {"Holding something next to something": "58", …}
    20bn-something-something-v2/78687.webm

A class is the template without its brackets. The test split has ids only. Classes have sides ("…
from left to right"): no left-right flips.
"""

import logging
import os
from pathlib import Path

from jaxvid.core.errors import DataError, nearest, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _classes, _listed

SPLITS = ("train", "val", "test")
_WORDS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
_FOLDERS = ("", "labels/", "annotations/")
_VIDEO_FOLDERS = ("20bn-something-something-v2", "videos", "frames", "rawframes")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
) -> DatasetIndex:
    """The records of one split in the order of its JSON; ids are those of the set.

    annotations: a JSON file (with `{split}` as train, val, test), or the folder of them and of the
    labels; videos: the folder of ID.webm (another ending and folders ID/ of frames are taken as well).
    Classes are those of …-labels.json, without it the shipped ones.

    Raises UnknownNameError for another split, DataError for what does not fit.
    """
    if split not in SPLITS:
        raise unknown("split of ssv2", split, SPLITS)
    annotations = _listed.of_split(annotations, split)
    file = _listed.annotation_file("ssv2", root, annotations, _file_names(split))
    entries = _entries(file)
    names, source = _class_names(root, annotations or file)
    numbers = {name: label for label, name in enumerate(names)}
    folders = _listed.Folders()
    place, ids = _listed.of_split(videos, split), [f"{_id(e)}.webm" for e in entries]
    top = _listed.video_folder(root, place, _VIDEO_FOLDERS, ids, folders)
    records = []
    for number, entry in enumerate(entries, start=1):
        labels = _labels(file, number, entry, split, numbers, source)
        path = folders.clip(os.path.join(top, f"{_id(entry)}.webm"))
        records.append(VideoRecord(path, _id(entry), labels))
    records = _listed.drop_duplicates("ssv2", records, file=file)
    kept = _listed.keep_present("ssv2", records, max_missing=max_missing, folders=folders)
    _log.info("ssv2: %s: %d clips, %d classes of %s", file, len(kept), len(names), source)
    return DatasetIndex(kept, names)


def _file_names(split: str) -> list[str]:
    stems = [f"something-something-v2-{word}" for word in _WORDS[split]] + list(_WORDS[split])
    return [f"{folder}{stem}.json" for stem in stems for folder in _FOLDERS]


def _entries(file: Path) -> list[dict]:
    found = _listed.read_json(file)
    if not isinstance(found, list) or not found:
        raise DataError(f"{file}: expected a list of clips, each with id and template")
    for number, entry in enumerate(found, start=1):
        if not isinstance(entry, dict) or not _id(entry):
            raise DataError(
                f"{file}: entry {number} is {str(entry)[:80]}, expected a clip with an id"
            )
    return found


def _id(entry: dict) -> str:
    return str(entry.get("id", "")).strip()


def _bare(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()


def _labels(file: Path, number: int, entry: dict, split: str, numbers, source) -> tuple[int, ...]:
    template = entry.get("template")
    if template is None and split == "test":
        return ()
    if not isinstance(template, str):
        raise DataError(f"{file}: entry {number} (clip {_id(entry)}) has no template, so no class")
    name = _bare(template)
    if name not in numbers:
        raise DataError(
            f"{file}: entry {number} (clip {_id(entry)}): {name!r} is none of the {len(numbers)} "
            f"classes of {source}.{nearest(name, numbers)}"
        )
    return (numbers[name],)


def _class_names(root, annotations) -> tuple[tuple[str, ...], str]:
    """(names, in words where they stand)"""
    usual = [f"{f}{stem}labels.json" for stem in ("something-something-v2-", "") for f in _FOLDERS]
    found = _listed.optional_file(root, annotations, usual)
    if found is None:
        return class_lists.load("ssv2"), "Something-Something V2, as shipped (no labels.json)"
    listed = _listed.read_json(found)
    if not isinstance(listed, dict) or not listed:
        raise DataError(f'{found}: expected {{"template": "number", …}}, one entry a class')
    numbers = {}
    for name, number in listed.items():
        if _bare(name) in numbers:
            raise DataError(f"{found}: the class {_bare(name)!r} stands there twice")
        numbers[_bare(name)] = _listed.whole_number(str(number), f"the number of {name!r}", found)
    return _classes.in_order(found, numbers)[0], str(found)
