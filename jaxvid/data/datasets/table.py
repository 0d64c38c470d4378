"""A list of one's own: a csv, tsv, JSON or JSON-lines file that names clips and their labels.

    train.csv, val.csv            path,label[,start,end,…]  one table a split, or
    clips.csv                     path,label,split          one for all, whose rows say their split
    [{"path": "a.mp4", "label": "run"}, …]                  the same as JSON; {"a.mp4": "run"} will do

Labels are names or numbers (from 0 or from 1: found, and said); several a clip stand in a JSON
list, or are divided by `;` or `|`, and make the set multi-label. A column `weight` says how often a
clip is drawn beside others (data.class_sampling="weighted"). Columns go by many names (`video`,
`class`, …), and so do splits; what was taken for what is said in the log. Times are in seconds, in
columns such as start and end (start_time, time_end, …); others that look like times or frames are
warned of, since without them a row is the whole video. Paths are relative to
root, to `videos`, or to the table.

The classes are the sorted names in the training rows, unless a class list is given: `class_names`,
a JSON's "classes", or a file classes.txt (one a line, in label order) beside the table.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, nearest, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _classes, _files, _listed, _table_file, _videos
from jaxvid.data.datasets._table_file import Row, Table

SPLITS = ("train", "val", "test")
CLASS_LISTS = ("classes.txt", "class_names.txt", "labels.txt", "classes.json", "class_names.json")

_NUMBER = re.compile(r"-?[0-9]+(\.0*)?")
_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    class_names: Sequence[str] | str | None = None,
    multilabel: bool | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
) -> DatasetIndex:
    """The records of a split in the order of its table; ids are the paths as listed, with their times.

    annotations: the table, or the folder that holds the tables, None: root; `{split}` in it (and in
    videos) stands for the split. max_missing: the share of listed files that may be absent.
    class_names: the classes in label order, or a file of them. multilabel: None: when a row has
    several labels. path_column, label_column: their names, should they not be found.
    label_separator: what divides labels; None: `;` and `|`, "": nothing does.

    Raises UnknownNameError for another split; DataError for tables that are missing, ambiguous or
    malformed, labels that are no class of training, rows that contradict each other and more
    missing files than tolerated, naming file and line.
    """
    if split not in SPLITS:
        raise unknown("split of table", split, SPLITS)
    names = _class_list(Path(root), annotations, class_names)
    files = _files_of(Path(root), annotations, split)
    tables = {
        file: _table_file.read(
            file,
            path_column=path_column,
            label_column=label_column,
            label_separator=label_separator,
            class_names=names,
            needs_label=any(whose != "test" for whose in files if files[whose] == file),
        )
        for file in dict.fromkeys(files.values())
    }
    rows = {whose: _rows_of(tables[file], whose, split) for whose, file in files.items()}
    names = names or next((t.class_names for t in tables.values() if t.class_names), ())
    every = [row for some in rows.values() for row in some]
    several = any(len(set(row.labels)) > 1 for row in every) if multilabel is None else multilabel
    numbers, names = _label_numbers(every, rows.get("train"), names, split)
    table = tables[files[split]]
    place = _listed.given_place(Path(root), _listed.of_split(videos, split))
    records = _records(table, rows[split], numbers, several, split, place)
    lines = [row.line for row in rows[split]]
    records = _listed.drop_duplicates("table", records, file=table.file, lines=lines)
    kept = _listed.keep_present("table", records, max_missing=max_missing)
    _warn_of_overlap(rows, split)
    _log.info(
        "table: %s: %s: %d clips of %d classes, %s a clip: %s",
        *(split, table.file, len(kept), len(names)),
        *("several labels" if several else "one label", _files.some(_counts(kept, names))),
    )
    return DatasetIndex(kept, names, multilabel=several)


# --- which file ---------------------------------------------------------------------------------------


def _files_of(root: Path, annotations: str | Path | None, split: str) -> dict[str, Path]:
    """{split: its table} for the splits that have one; the wanted one does. One table may serve all."""
    if annotations is not None and "{split}" in str(annotations):
        places = {name: _listed.of_split(annotations, name) for name in SPLITS}
        found = {name: _listed.given_place(root, place) for name, place in places.items()}
        if not found[split].is_file():
            raise DataError(f"table: there is no {found[split]} (annotations={str(annotations)!r})")
        return {name: file for name, file in found.items() if file.is_file()}
    given = root if annotations is None else _given(root, annotations)
    folder = given if given.is_dir() else given.parent
    if not given.is_file():
        found = _tables_in(folder, _table_file.ENDINGS)
    elif _splits_in(given):
        found = _tables_in(folder, (given.suffix.lower(),))
        found = [p for p in found if _pattern(p) == _pattern(given)]
    else:
        return dict.fromkeys(SPLITS, given)
    by_split = {name: _speaking_of(name, found) for name in SPLITS}
    neutral = [p for p in found if not _splits_in(p)]
    if not any(by_split.values()) and len(neutral) == 1:
        return dict.fromkeys(SPLITS, neutral[0])
    several = next((paths for paths in by_split.values() if len(paths) > 1), ())
    if several or not by_split[split]:
        raise DataError(_no_table(given, folder, split, several or neutral))
    return {name: paths[0] for name, paths in by_split.items() if paths}


def _given(root: Path, annotations: str | Path) -> Path:
    given = Path(annotations).expanduser()
    for path in (given, root / given):
        if path.exists():
            return path
    raise DataError(
        f"table: there is no {given}, nor {root / given}; {root} holds {_files.contents(root)}"
    )


def _tables_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [Path(e.path) for e in _files.entries(folder) if e.is_file()]
    return [
        file
        for file in files
        if file.suffix.lower() in endings and file.name.lower() not in CLASS_LISTS
    ]


def _words(file: Path) -> list[str]:
    return re.split(r"([^a-z0-9]+)", file.stem.lower())


def _splits_in(file: Path) -> set[str]:
    """The splits that a file's name speaks of."""
    return {_files.split_of(word) for word in _words(file)} - {""}


def _speaking_of(split: str, files: Sequence[Path]) -> list[Path]:
    """The files whose name speaks of a split; if one bears just its name, that one."""
    exact = [file for file in files if _files.split_of(file.stem) == split]
    return exact if len(exact) == 1 else [file for file in files if split in _splits_in(file)]


def _pattern(file: Path) -> tuple:
    words = ("*" if _files.split_of(word) else word for word in _words(file))
    return (*words, file.suffix.lower())


def _no_table(given: Path, folder: Path, split: str, several: Sequence[Path]) -> str:
    said = f"table: no table for the split {split!r}: {folder} holds {_files.contents(folder)}. "
    if several:
        listed = ", ".join(path.name for path in several)
        return (
            f"{said}Which of {listed} is meant is not guessed: name it in data.options.annotations"
        )
    if given.is_file():
        return f"{said}{given.name} is by its name another split's; call this one's after it"
    said += (
        f"Expected {split}.csv (or .tsv, .json, .jsonl) with a header such as path,label, or one table whose "
        "column 'split' says which row belongs where. A table that lies elsewhere is named in "
        "data.options.annotations"
    )
    if folder.is_dir() and any(_files.split_of(f.name) for f in _files.subfolders(folder)):
        said += ". Folders of classes (train/CLASS/clip.mp4) are read by dataset 'folder'"
    return said


def _rows_of(table: Table, whose: str, wanted: str) -> list[Row]:
    """The rows of one split, when the table serves several."""
    if table.has_splits and len(_splits_in(table.file)) != 1:
        for row in table.rows:
            if not _files.split_of(row.split):
                raise DataError(
                    f"{row.where}: the split is {row.split!r}, expected {', '.join(SPLITS)}"
                )
        rows = [row for row in table.rows if _files.split_of(row.split) == whose]
        if not rows and whose == wanted:
            held = sorted({_files.split_of(row.split) for row in table.rows})
            raise DataError(
                f"{table.file}: no row belongs to the split {whose!r}; its rows are of "
                f"{', '.join(held) or 'none, there are no rows'}"
            )
        return rows
    if _splits_in(table.file) or whose == "train":
        if not table.rows and whose == wanted:
            raise DataError(f"{table.file}: the table has a header and no rows")
        return list(table.rows)
    if whose == wanted:
        raise DataError(
            f"{table.file}: neither its name nor a column 'split' says which rows are {whose!r}, and so all "
            f"are for training. Give it such a column, or a table of its own called {whose}.csv beside it: "
            "which clips train and which ones measure the result is not guessed"
        )
    return []


# --- labels -------------------------------------------------------------------------------------------


def _class_list(root: Path, annotations, given: Sequence[str] | str | None) -> tuple[str, ...]:
    """The classes that are given or listed beside the table; () when the table must tell."""
    if "{split}" in str(annotations):
        annotations = Path(str(annotations)).parent
    file = None if given is not None else _listed.optional_file(root, annotations, CLASS_LISTS)
    if file is None or file.suffix.lower() != ".json":
        return _classes.chosen(root, annotations, given, CLASS_LISTS) or ()
    value = _listed.read_json(file)
    if isinstance(value, dict) and {str(key) for key in value} == {
        str(n) for n in range(len(value))
    }:
        value = [value[key] for key in sorted(value, key=int)]
    elif isinstance(value, dict) and value and all(type(n) is int for n in value.values()):
        value = list(_classes.in_order(file, value)[0])
    if not isinstance(value, list):
        raise DataError(
            f"{file}: expected a list of class names in label order, or an object of names and numbers"
        )
    names = tuple(str(name) for name in value)
    again = {name for name in names if names.count(name) > 1}
    if again:
        raise DataError(f"{file}: the class {min(again)!r} is listed more than once")
    _log.info("table: %d classes from %s", len(names), file)
    return names


def _label_numbers(
    every: Sequence[Row], training: Sequence[Row] | None, names: tuple[str, ...], split: str
) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """{label as written: its number from 0} of all rows' labels, and the classes."""
    written = {label: row for row in reversed(every) for label in row.labels}
    numeric = [label for label in written if _NUMBER.fullmatch(label) and label not in names]
    if numeric and len(numeric) == len(written):
        return _numbered(written, names)
    if not names:
        _refuse_mixture(written, numeric)
        if not training:
            raise DataError(
                f"table: the classes are those of the training rows, and there are none beside the split "
                f"{split!r}: put train.csv beside it, or classes.txt (one class a line), or set "
                "data.options.class_names"
            )
        names = tuple(sorted({label for row in training for label in row.labels}))
    strangers = [label for label in written if label not in names]
    if strangers:
        raise DataError(
            f"{written[strangers[0]].where}: {strangers[0]!r} is no class"
            f"{_and_more(strangers)}.{nearest(strangers[0], names)} Classes: {_files.some(names)}"
        )
    return {name: number for number, name in enumerate(names)}, names


def _and_more(strangers: Sequence[str]) -> str:
    return f" (and {len(strangers) - 1} more labels)" if len(strangers) > 1 else ""


def _refuse_mixture(written: Mapping[str, Row], numeric: Sequence[str]) -> None:
    if numeric:
        word = next(label for label in written if label not in numeric)
        raise DataError(
            f"{written[word].where}: the label is the name {word!r}, and at "
            f"{written[numeric[0]].where} it is the number {numeric[0]!r}; label by names or by numbers, or "
            "give the classes in data.options.class_names"
        )


def _numbered(written: Mapping[str, Row], names: tuple[str, ...]):
    values = {label: int(float(label)) for label in written}
    low, high = min(values.values()), max(values.values())
    if names:
        base = _listed.label_base("table", values.values(), len(names))
    else:
        if low < 0:
            where = next(written[label].where for label, value in values.items() if value < 0)
            raise DataError(f"{where}: the label is {low}, expected numbers from 0 or from 1")
        base = 1 if low == 1 else 0
        count = high + 1 - base
        if count > max(1000, 2 * len(set(values.values()))):
            raise DataError(
                f"table: the labels are {len(set(values.values()))} different numbers up to {high}: these "
                "look like ids. Give the classes in data.options.class_names"
            )
        names = tuple(str(base + number) for number in range(count))
        _log.info("table: labels %d to %d, taken to count from %d", low, high, base)
        if count > len(set(values.values())):
            gaps = [name for name in names if int(name) not in values.values()]
            _log.warning("table: no row has the labels %s", _files.some(gaps))
    return {label: value - base for label, value in values.items()}, names


# --- records ------------------------------------------------------------------------------------------


def _records(
    table: Table,
    rows: Sequence[Row],
    numbers: Mapping[str, int],
    several: bool,
    split: str,
    base: Path,
) -> list[VideoRecord]:
    find = _Finder(base, table.file.parent)
    records = []
    for row in rows:
        labels = tuple(sorted({numbers[label] for label in row.labels}))
        if not several and len(labels) != 1 and (labels or split != "test"):
            raise DataError(
                f"{row.where}: {row.path} has {len(labels)} labels, expected one; for a set with several a "
                "clip set data.options.multilabel=True"
            )
        extra = {} if row.weight is None else {"weight": row.weight}
        times = (row.start_seconds, row.end_seconds)
        records.append(VideoRecord(find(row.path), _identity(row), labels, *times, extra))
    return records


def _identity(row: Row) -> str:
    if row.id or (row.start_seconds == 0 and row.end_seconds is None):
        return row.id or row.path
    end = "" if row.end_seconds is None else f"{row.end_seconds:.10g}"
    return f"{row.path} {row.start_seconds:.10g}-{end} s"


class _Finder:
    """Where a listed path lies: below root (or videos), else beside the table, else by its name
    alone."""

    def __init__(self, *bases: Path):
        self._bases = bases
        self._folders = _listed.Folders()
        self._anywhere = _videos.VideoFolder(bases[0])

    def __call__(self, listed: str) -> str:
        spellings = [listed, listed.replace("\\", "/")] if "\\" in listed else [listed]
        paths = [
            os.path.normpath(base / Path(spelling).expanduser())
            for spelling in spellings
            for base in self._bases
        ]
        for path in paths:
            found = self._folders.clip(path)
            if self._folders.has(found):
                return found
        if os.path.splitext(listed)[1].lower() in _files.VIDEO_EXTENSIONS or "/" in listed:
            return paths[-len(self._bases)]
        found = str(self._anywhere.find(listed))
        return found if os.path.exists(found) else paths[0]


def _warn_of_overlap(rows: Mapping[str, Sequence[Row]], split: str) -> None:
    mine = {_identity(row) for row in rows[split]}
    for other, theirs in rows.items():
        common = mine & {_identity(row) for row in theirs} if other != split else ()
        if common:
            _log.warning(
                "table: %d clips are in %s and in %s, such as %s",
                *(len(common), split, other, min(common)),
            )


def _counts(records: Iterable[VideoRecord], names: Sequence[str]) -> list[str]:
    counts = [0] * len(names)
    for record in records:
        for label in record.labels:
            counts[label] += 1
    return [f"{name} {count}" for name, count in zip(names, counts, strict=True)]
