"""Kinetics-400, -600 and -700: ten seconds of YouTube a clip, one of 400 to 700 actions.

W. Kay et al., "The Kinetics Human Action Video Dataset", arXiv 1705.06950 (2017); Carreira et al.
2018, 2019.

    train.csv val.csv test.csv          label,youtube_id,time_start,time_end,split[,is_cc]
    train/air drumming/---0dWlqevI_000019_000029.mp4

Folders of classes may be written with `_` for spaces, lie in root without train/, or be left out;
files may have another ending. Links die: set `max_missing` to the share that may be missing. For
lists `path label` of the same videos see `path_list`.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import class_lists
from jaxvid.data.datasets import _classes, _listed

SPLITS = ("train", "val", "test")
RELEASES = (400, 600, 700)
_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "validate", "validation", "valid"),
    "test": ("test", "testing"),
}
_COLUMNS = ("youtube_id", "time_start", "time_end")

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    release: int | None = None,
    class_names: Sequence[str] | str | None = None,
) -> DatasetIndex:
    """The records of one split in the order of its csv; an id is YOUTUBEID_START_END as in file names.

    annotations: a csv, one with all splits, or the folder of them; videos: the folder above the
    classes or above train/. Both may hold `{split}`. release: 400, 600 or 700 takes the classes of that
    release and refuses others; class_names: the names in order, a file of them, or a name of
    `class_lists`; else the classes are the sorted names of train.csv, or of this csv without one. Clips
    of the test split without label come unlabelled.

    Raises UnknownNameError for another split or release, DataError for what the csv or the folders
    lack or hold too much.
    """
    if split not in SPLITS:
        raise unknown("split of kinetics", split, SPLITS)
    if release not in (None, *RELEASES):
        raise unknown("release of Kinetics", str(release), map(str, RELEASES))
    annotations = _listed.of_split(annotations, split)
    file = _listed.annotation_file("kinetics", root, annotations, _file_names(split))
    every = _listed.read_csv(file, header=_COLUMNS)
    rows = _of_split(file, every, split)
    names, source = _class_names(root, annotations, file, every, rows, release, class_names)
    numbers = {name: label for label, name in enumerate(names)}
    places = _Places(root, _listed.of_split(videos, split), split)
    records = [_record(file, line, row, split, numbers, source, places) for line, row in rows]
    lines = [line for line, _ in rows]
    records = _listed.drop_duplicates("kinetics", records, file=file, lines=lines)
    kept = _listed.keep_present(
        "kinetics", records, max_missing=max_missing, folders=places.folders
    )
    _log.info("kinetics: %s: %d clips, %d classes of %s", file, len(kept), len(names), source)
    return DatasetIndex(kept, names)


def _file_names(split: str) -> list[str]:
    words = _WORDS[split]
    plain = [f"{folder}{word}.csv" for folder in ("", "annotations/") for word in words]
    return plain + [
        f"{folder}kinetics*_{word}.csv" for folder in ("", "annotations/") for word in words
    ]


def _of_split(file: Path, rows: list, split: str) -> list:
    """The rows without those that the column `split` gives to another split."""
    others = {word for name, words in _WORDS.items() if name != split for word in words}
    kept = [(line, row) for line, row in rows if _word(row.get("split")) not in others]
    if not kept:
        raise DataError(
            f"{file}: no row of the {split} split among {len(rows)} rows; expected rows with split "
            f"{' or '.join(_WORDS[split])}"
        )
    return kept


def _word(value: str | None) -> str:
    return (value or "").strip().lower()


def _class_names(root, annotations, file, every, rows, release, given):
    """(names, in words where they are from)"""
    if given is not None:
        return _classes.chosen(Path(root), annotations, given, ()), "class_names"
    if release is not None:
        return class_lists.load(f"kinetics{release}"), f"Kinetics-{release}"
    training = [row for _, row in every if _word(row.get("split")) in _WORDS["train"]]
    source = file
    if not training:
        beside = _listed.optional_file(root, annotations, _file_names("train"))
        if beside is not None and beside != file:
            training = [row for _, row in _listed.read_csv(beside, header=_COLUMNS)]
            source = beside
    found = {_label(row) for row in training or [row for _, row in rows]} - {""}
    if not found:
        _log.warning(
            "kinetics: %s names no classes and there is no train.csv; set data.options.release to "
            "400, 600 or 700 for theirs",
            file,
        )
    return tuple(sorted(found)), str(source)


def _label(row: dict) -> str:
    return (row.get("label") or "").strip()


def _record(file, line, row, split, numbers, source, places) -> VideoRecord:
    start, end = (
        int(_listed.seconds(row[name], name, file, line)) for name in ("time_start", "time_end")
    )
    if end <= start:
        raise DataError(f"{file}:{line}: time_end is {end}, expected more than time_start {start}")
    name, label = f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}", _label(row)
    if label == "" and split == "test":
        return VideoRecord(places.path("", name), name)
    number = _listed.class_number(label, numbers, file, line, source)
    return VideoRecord(places.path(label, name), name, (number,))


class _Places:
    """Where the clips of a split lie."""

    def __init__(self, root: str | Path, videos: str | None, split: str):
        top = _listed.given_place(Path(root), videos)
        inner = [top / f"{before}{word}" for word in _WORDS[split] for before in ("", "videos_")]
        inner += [top / "videos" / word for word in _WORDS[split]]
        self.folders = _listed.Folders()
        self.tops = [str(p) for p in inner if p.is_dir()] + [str(top)]
        self._class_folders: dict[str, list[str]] = {}
        self._spelled = {t: _by_spelling(self.folders.names(t)) for t in self.tops}

    def path(self, label: str, name: str) -> str:
        """The path of a clip; where it would be expected, when it is nowhere."""
        if label not in self._class_folders:
            self._class_folders[label] = self._search(label)
        wanted, places = name + ".mp4", self._class_folders[label]
        for folder in places:  # the usual case first: half a million clips pass here
            if wanted in self.folders.names(folder):
                return f"{folder}{os.sep}{wanted}"
        for path in (self.folders.clip(os.path.join(folder, wanted)) for folder in places):
            if self.folders.has(path):
                return path
        return os.path.join(places[0], wanted)

    def _search(self, label: str) -> list[str]:
        """The folders in which clips of a class may lie: that of its name first, however spelled."""
        named = []
        if label:
            for top in self.tops:
                exact = label if label in self.folders.names(top) else None
                found = exact or self._spelled[top].get(_spelling(label))
                named += [os.path.join(top, found)] if found else []
        expected = [os.path.join(self.tops[0], label)] if label and not named else []
        return named + expected + self.tops


def _by_spelling(names) -> dict[str, str]:
    return {_spelling(name): name for name in sorted(names)}


def _spelling(name: str) -> str:
    """A class name down to its letters and digits: `massaging_persons_head`, `massaging person's
    head`."""
    return "".join(c for c in name.lower() if c.isalnum())
