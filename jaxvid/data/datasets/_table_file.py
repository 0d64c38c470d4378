"""A user's own table of clips as rows of one shape, whichever of csv, tsv, JSON and JSON lines it
is in.

A table has a column for the clip and one for its label; what such columns are usually called is
known here, and which of them were taken is said in the log.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, nearest
from jaxvid.core.warn_once import warn_once
from jaxvid.data.datasets import _files, _listed, _videos

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
COLUMNS = {
    "path": (
        *("path", "video_path", "file_path", "filepath", "file_name", "filename", "file", "video"),
        *("clip", "clip_path", "video_file", "video_name", "video_id", "name"),
    ),
    "label": (
        *("label", "labels", "class", "classes", "class_name", "category", "categories", "target"),
        *("action", "actions", "tag", "tags", "label_name", "class_id", "label_id", "y"),
    ),
    "start": ("start_seconds", "start", "start_time", "time_start", "start_sec", "begin"),
    "end": ("end_seconds", "end", "end_time", "time_end", "end_sec", "stop", "stop_time"),
    "split": ("split", "subset", "partition", "fold_name"),
    "weight": ("weight", "sample_weight"),
    "id": ("id", "clip_id", "uid"),
}
_DELIMITERS = (",", "\t", ";", "|")
LABEL_SEPARATORS = (";", "|")  # between the labels of a clip, where nothing else is said
_LIST_KEYS = ("records", "clips", "videos", "data", "items", "samples", "annotations", "rows")

# start_frame, t_end, stopSeconds, frame_from; a frame or time by itself; but no num_frames, and no fps
_TIMES = re.compile(
    r"^(?:.*[\W_])?(?:start|end|begin|stop|onset|offset|from|to)(?:[\W_].*|s?|ing)$"
    r"|^(?:start|end|begin|stop)_?(?:time|sec|frame|ms|at)"
    r"|(?:first|last)[\W_]?(?:frame|time|sec)"
    r"|^(?:time|frame|timestamp|segment|interval)s?$",
    re.IGNORECASE,
)
_log = logging.getLogger("jaxvid.data")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: where it stands (file:line), and its cells. `labels` are words or numbers as written."""

    where: str
    line: int
    path: str
    labels: tuple[str, ...]
    start_seconds: float = 0.0
    end_seconds: float | None = None
    split: str = ""
    id: str = ""
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A file's rows. has_splits: whether rows say to which split they belong; class_names: the
    file's own."""

    file: Path
    rows: tuple[Row, ...]
    has_splits: bool
    class_names: tuple[str, ...] = ()


def read(
    file: Path,
    *,
    path_column: str | None,
    label_column: str | None,
    label_separator: str | None,
    class_names: Sequence[str] = (),
    needs_label: bool = True,
) -> Table:
    """Reads a table. label_separator: None: `;` and `|` both divide, "" nothing does.

    needs_label: False where rows may be without labels altogether, and so without such a column. A
    label that is a class name as a whole is never divided. Raises DataError naming file and line.
    """
    given = {"path": path_column, "label": label_column}
    names = tuple(class_names)
    if file.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        entries, own_names = _json_entries(file)
        if not entries:
            raise DataError(f"{file}: the table has no rows")
        names = names or own_names
        columns = _columns(file, _keys(entries), given, needs_label=needs_label)
    else:
        entries, columns = _csv_entries(file, given, needs_label)
    _log.info(
        "table: %s: %s", file, ", ".join(f"{what} from {name!r}" for what, name in columns.items())
    )
    separators = LABEL_SEPARATORS if label_separator is None else (label_separator,)
    make = _RowMaker(file, columns, tuple(s for s in separators if s), frozenset(names))
    rows = tuple(make(line, entry) for line, entry in entries)
    return Table(file, rows, "split" in columns, names)


# --- csv ----------------------------------------------------------------------------------------------


def _csv_entries(file: Path, given: Mapping, needs_label: bool) -> tuple[list, dict[str, str]]:
    """[(line, {column: cell})] and the columns that were taken."""
    lines = _listed.read_lines(file)
    if not lines:
        raise DataError(f"{file}: the table is empty; expected a header such as path,label")
    delimiter = _delimiter(lines[0][1], file)
    rows = _listed.read_csv(file, delimiter=delimiter, header=None)
    header = [cell.strip() for cell in rows[0][1]]
    columns = _columns(file, header, given, needs_label=needs_label)
    entries = []
    for line, row in rows[1:]:
        if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
            raise DataError(
                f"{file}:{line}: {len(row)} cells, the header has {len(header)} ({', '.join(header)}); "
                f'a cell that holds {delimiter!r} must stand in "quotes"'
            )
        entries.append((line, dict(zip(header, row, strict=False))))
    return entries, columns


def _delimiter(header: str, file: Path) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    known = {*COLUMNS["path"], *COLUMNS["label"]}

    def fitting(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip(' "').lower() for cell in header.split(delimiter)]
        return sum(cell in known for cell in cells), len(cells)

    return max(_DELIMITERS, key=fitting)


def _columns(file: Path, header: Sequence[str], given: Mapping, *, needs_label: bool) -> dict:
    """{what: the column's own name}; DataError when path or label has none."""
    lower = {name.lower().replace(" ", "_"): name for name in reversed(header)}
    columns = {}
    for what, usual in COLUMNS.items():
        asked = given.get(what)
        if asked is not None and asked not in header:
            raise DataError(
                f"{file}: there is no column {asked!r} ({what}_column).{nearest(asked, header)} "
                f"The columns are {', '.join(header)}"
            )
        name = asked or next((lower[word] for word in usual if word in lower), None)
        if name is not None and name not in columns.values():
            columns[what] = name
    _warn_of_unused(file, [name for name in header if name not in columns.values()], columns)
    missing = [w for w in ("path", "label") if w not in columns and (needs_label or w == "path")]
    if missing:
        raise DataError(_no_columns(file, header, missing))
    return columns


def _warn_of_unused(file: Path, unused: Sequence[str], columns: Mapping[str, str]) -> None:
    """Of times under a name that is not known: the rows would be taken for whole videos."""
    absent = [what for what in ("start", "end") if what not in columns]
    times = [name for name in unused if _TIMES.search(name)] if absent else []
    if times:
        usual = " and ".join(f"{what} ({', '.join(COLUMNS[what])})" for what in absent)
        warn_once(  # the table of each split is read for the classes of all
            _log,
            f"table: {file}: columns that look like times or frames and are not used: "
            f"{', '.join(map(repr, times))}. What is read, in seconds, is {usual}",
        )


def _no_columns(file: Path, header: Sequence[str], missing: Sequence[str]) -> str:
    shown = ", ".join(header[:10])
    said = f"{file}: no column for {' and '.join(missing)} in the header: {shown}. "
    if any(Path(cell.split(" ")[0]).suffix.lower() in _files.VIDEO_EXTENSIONS for cell in header):
        said += (
            "The first line looks like a clip, so the header is missing: put path,label above it, or read "
            "the file with dataset 'path_list'"
        )
    else:
        some = {what: ", ".join(COLUMNS[what][:6]) for what in missing}
        usual = "; ".join(f"{what} is one of {names}, …" for what, names in some.items())
        options = ", ".join(f"data.options.{what}_column" for what in missing)
        said += f"Known names: {usual}. Name yours in {options}"
    return said


# --- JSON ---------------------------------------------------------------------------------------------


def _json_entries(file: Path) -> tuple[list[tuple[int, dict]], tuple[str, ...]]:
    """Rows as dicts with their numbers from 1, and the file's own class names."""
    if file.suffix.lower() != ".json":
        return _json_lines(file), ()
    value = _listed.read_json(file)
    names = ()
    if isinstance(value, dict):
        if "database" in value:
            raise DataError(
                f"{file}: this is the format of ActivityNet (a 'database'); read it with dataset "
                "'activitynet'"
            )
        key = next((k for k in ("classes", "class_names") if isinstance(value.get(k), list)), None)
        names = tuple(str(name) for name in value[key]) if key else ()
        value = _rows_of({k: v for k, v in value.items() if k != key})
    if not isinstance(value, list):
        raise DataError(
            f"{file}: expected a list of objects such as "
            '[{"path": "a.mp4", "label": "run"}], got ' + type(value).__name__
        )
    return _objects(file, list(enumerate(value, start=1))), names


def _rows_of(value: dict) -> list | dict:
    """The list inside an object: under a usual key, by split, column by column (as pandas writes it),
    or the object itself as path -> label."""
    for key in _LIST_KEYS:
        if isinstance(value.get(key), list):
            return value[key]
    by_split = [k for k, v in value.items() if _files.split_of(k) and isinstance(v, list)]
    if by_split and len(by_split) == len(value):
        return [
            {**entry, "split": name} if isinstance(entry, dict) else entry
            for name in by_split
            for entry in value[name]
        ]
    columns = [list(v.values()) if isinstance(v, dict) else v for v in value.values()]
    names = {name.lower() for name in value}
    if (
        all(names.intersection(COLUMNS[what]) for what in ("path", "label"))
        and all(isinstance(column, list) for column in columns)
        and len({len(column) for column in columns}) == 1
    ):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    rows = []
    for path, facts in value.items():
        rows.append({"path": path, **(facts if isinstance(facts, dict) else {"label": facts})})
    return rows


def _json_lines(file: Path) -> list[tuple[int, dict]]:
    entries = []
    for line, text in _listed.read_lines(file):
        try:
            entries.append((line, json.loads(text)))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{file}:{line}: no JSON at column {error.colno}: {error.msg}"
            ) from error
    return _objects(file, entries)


def _objects(file: Path, entries: list[tuple[int, object]]) -> list[tuple[int, dict]]:
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(
                f'{_where(file, number)}: expected an object such as {{"path": "a.mp4", "label": "run"}}, got {entry!r}'
            )
    return entries


def _where(file: Path, number: int) -> str:
    return f"{file}: entry {number}" if file.suffix.lower() == ".json" else f"{file}:{number}"


def _keys(entries: Iterable[tuple[int, dict]]) -> list[str]:
    return list(dict.fromkeys(key for _, entry in entries for key in entry))


# --- rows ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _RowMaker:
    file: Path
    columns: Mapping[str, str]
    separators: tuple[str, ...]
    whole: frozenset[str]  # labels that are never divided

    def __call__(self, number: int, entry: Mapping) -> Row:
        where = _where(self.file, number)
        path = self._cell(entry, "path")
        if not path:
            raise DataError(f"{where}: the cell of the clip ({self.columns['path']!r}) is empty")
        start, end = self._cell(entry, "start"), self._cell(entry, "end")
        first = _videos.seconds(start, where) if start else 0.0
        last = _videos.seconds(end, where) if end else None
        if last is not None:
            _videos.segment(first, last, where)
        split, identity = self._cell(entry, "split"), self._cell(entry, "id")
        labels, weight = self._labels(where, entry), self._weight(where, entry)
        return Row(where, number, path, labels, first, last, split, identity, weight)

    def _weight(self, where: str, entry: Mapping) -> float | None:
        if "weight" not in self.columns:
            return None
        text = self._cell(entry, "weight")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf"):
            raise DataError(f"{where}: the weight is {text!r}, expected a number from 0")
        return weight

    def _cell(self, entry: Mapping, what: str) -> str:
        value = entry.get(self.columns.get(what))
        return "" if value is None else str(value).strip()

    def _labels(self, where: str, entry: Mapping) -> tuple[str, ...]:
        value = entry.get(self.columns.get("label"))
        if isinstance(value, dict | bool):
            raise DataError(
                f"{where}: the label is {value!r}, expected a name, a number or a list of them"
            )
        if isinstance(value, list):
            return tuple(str(label).strip() for label in value)
        text = self._cell(entry, "label")
        if not text or text in self.whole:
            return (text,) if text else ()
        parts = [text]
        for separator in self.separators:
            parts = [piece for part in parts for piece in part.split(separator)]
        return tuple(part.strip() for part in parts if part.strip())
