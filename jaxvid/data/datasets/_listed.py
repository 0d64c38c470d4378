"""What the readers of annotation files share: reading text, csv and JSON, and facing what they list.

Every complaint names the file and, where there is one, the line. Publishers' lists are long
(600,000 rows) and file systems slow: whether files are there is asked once a folder, never once a
file.
"""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from jaxvid.core.errors import ConfigError, DataError, nearest
from jaxvid.core.record import VideoRecord
from jaxvid.data.datasets import _files

_WHOLE = re.compile(r"[+-]?[0-9]+")  # narrower than int(), which takes 1_000
_DECIMAL = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")

_log = logging.getLogger("jaxvid.data")


# --- reading ----------------------------------------------------------------------------------------


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of a UTF-8 file; `\\r\\n` or `\\n`, blank lines left out.

    Raises DataError when the file is not there or is not UTF-8.
    """
    lines = enumerate(_text(path).split("\n"), start=1)
    return [(number, line.rstrip("\r")) for number, line in lines if not line.isspace() and line]


def read_csv(
    path: str | Path, *, delimiter: str = ",", header: Sequence[str] | None
) -> list[tuple[int, dict | list]]:
    """(line number from 1, row) of a csv file, quoted the usual way; blank lines left out.

    header: columns that the file's first line must name, more are fine: rows come as dicts of all
    columns. None: the file has no header line, rows come as lists of strings.

    Raises DataError for columns that are missing, rows that do not fit the header, quotes that do not
    close, and what `read_lines` raises it for.
    """
    rows = _rows(path, delimiter)
    if header is None:
        return rows
    if not rows:
        raise DataError(f"{path}: the file is empty, expected the columns {', '.join(header)}")
    first, columns = rows[0][0], [name.strip() for name in rows[0][1]]
    missing = [name for name in header if name not in columns]
    if missing:
        raise DataError(
            f"{path}:{first}: the header has no column {', '.join(map(repr, missing))}; expected "
            f"{delimiter.join(header)}, got {delimiter.join(columns)!r}"
        )
    return [(number, _as_dict(path, number, columns, row)) for number, row in rows[1:]]


def read_json(path: str | Path) -> object:
    """What a JSON file holds. Raises DataError naming file, line and column of the error."""
    text = _text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: no JSON, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: no annotations: its JSON is nested without end") from error


def whole_number(text: str, what: str, path: str | Path, line: int | None = None) -> int:
    """An int from an annotation's field. Raises DataError naming file, line and field."""
    if _WHOLE.fullmatch(text.strip()):
        return int(text)
    place = path if line is None else f"{path}:{line}"
    raise DataError(f"{place}: {what} is {text!r}, expected a whole number")


def seconds(text: str, what: str, path: str | Path, line: int) -> float:
    """A time of 0 or more from an annotation's field. Raises DataError naming file, line, field."""
    if _DECIMAL.fullmatch(text.strip()):
        return float(text)
    raise DataError(f"{path}:{line}: {what} is {text!r}, expected seconds from 0")


def class_number(
    name: str, numbers: dict[str, int], path: str | Path, line: int, source: str
) -> int:
    """The label of a class name. source: where the names stand. Raises DataError with the nearest."""
    try:
        return numbers[name]
    except KeyError:
        raise DataError(
            f"{path}:{line}: {name!r} is none of the {len(numbers)} classes of {source}."
            f"{nearest(name, numbers)}"
        ) from None


def _text(path: str | Path) -> str:
    path = Path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"{path}: there is no such file; {path.parent} holds {_files.contents(path.parent)}"
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8"
        ) from error


def _rows(path: str | Path, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    rows, line = [], 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append((line, row))
            line = reader.line_num + 1  # of the next row: a quoted field may hold line ends
    except csv.Error as error:
        raise DataError(
            f"{path}:{line}: not readable as csv: {error}. A field that holds quotes is written in "
            'quotes with each of them doubled: "say ""hello"".mp4"'
        ) from error
    return rows


def _as_dict(path, line: int, columns: list[str], row: list[str]) -> dict[str, str]:
    surplus = row[len(columns) :]
    if len(row) < len(columns) or any(surplus):
        raise DataError(
            f"{path}:{line}: {len(row)} fields, expected {len(columns)}: {', '.join(columns)}; a field "
            f"that holds the delimiter needs quotes. The line holds {row}"
        )
    return dict(zip(columns, row, strict=False))


# --- finding ----------------------------------------------------------------------------------------


def annotation_file(
    dataset: str, root: str | Path, annotations: str | Path | None, names: Sequence[str]
) -> Path:
    """The annotation file: `annotations` if that is a file, else the first of `names` that is there.

    names: usual names, relative to the folder `annotations`, or to root when that is None; `*` stands
    for anything. A relative `annotations` may also be meant from root. Raises DataError that says what
    was looked for where, and what is there; or which files could be meant.
    """
    folder = given_place(Path(root), annotations)
    if folder.is_file():
        return folder
    for name in names:
        found = _matches(folder, name)
        if len(found) > 1:
            raise DataError(
                f"{dataset}: {len(found)} files of {folder} could be meant: "
                f"{', '.join(f.name for f in found)}. Set data.options.annotations to one of them"
            )
        if found:
            return found[0]
    some = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise DataError(
        f"{dataset}: no annotation file. Looked in {folder} for {some}; it holds "
        f"{_files.contents(folder)}. Set data.root to the folder that holds it, or "
        "data.options.annotations to the file itself"
    )


def optional_file(
    root: str | Path, annotations: str | Path | None, names: Sequence[str]
) -> Path | None:
    """Like `annotation_file` for a file that need not be there, such as a class list: the first of
    `names` in or beside `annotations`, or in root."""
    root = Path(root)
    given = given_place(root, annotations)
    for folder in (given.parent if given.is_file() else given, root):
        for name in names:
            if found := _matches(folder, name):
                return found[0]
    return None


def given_place(root: Path, place: str | Path | None) -> Path:
    """`annotations` or `videos` as a path; root when not given, from root when only there."""
    if place is None:
        return root
    given = Path(place).expanduser()
    return root / given if not given.exists() and (root / given).exists() else given


def _matches(folder: Path, name: str) -> list[Path]:
    found = sorted(folder.glob(name)) if "*" in name else [folder / name]
    return [file for file in found if file.is_file()]


def of_split(place: str | Path | None, split: str) -> str | None:
    """`annotations` or `videos` as given, with `{split}` replaced: one option serves all splits."""
    return None if place is None else str(place).replace("{split}", split)


class Folders:
    """What folders hold, each read once, at its first question."""

    def __init__(self):
        self._names: dict[str, set[str]] = {}
        self._stems: dict[str, dict[str, str]] = {}

    def names(self, folder: str) -> set[str]:
        """The names in a folder, those of broken links left out; none when it is not there."""
        if folder not in self._names:
            self._names[folder] = _names(folder or ".")
        return self._names[folder]

    def has(self, path: str) -> bool:
        """Whether a file or folder is there."""
        folder, name = os.path.split(path.rstrip("/") or path)
        if name in self.names(folder):
            return True
        # Some file systems know a name in more spellings than the one they list.
        return (not name.isascii() or name in ("", ".", "..")) and os.path.exists(path)

    def clip(self, path: str) -> str:
        """`path`, or what stands in its place: the same name with another video ending (sets are
        often re-encoded), or the folder of that name without an ending (its frames)."""
        if self.has(path):
            return path
        folder, name = os.path.split(path)
        if folder not in self._stems:
            self._stems[folder] = {_stem(n): n for n in sorted(self.names(folder))}
        other = self._stems[folder].get(_stem(name))
        return path if other is None else os.path.join(folder, other)


def video_folder(
    root: str | Path,
    videos: str | Path | None,
    usual: Sequence[str],
    paths: Sequence[str],
    folders: Folders,
) -> str:
    """The folder that relative `paths` start from: `videos` or root itself, or the first of their
    subfolders `usual` that holds more of the (first hundred) paths."""
    base = given_place(Path(root), videos)
    choices = [str(base), *(str(base / name) for name in usual)]
    some = paths[:: max(1, len(paths) // 100)]
    held = [sum(_held(folders, os.path.join(c, p)) for p in some) for c in choices]
    if max(held):
        return choices[held.index(max(held))]
    return next((c for c in choices[1:] if os.path.isdir(c)), choices[0])


def _held(folders: Folders, path: str) -> bool:
    return folders.has(folders.clip(path))


def _names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as found:
            return {e.name for e in found if not e.is_symlink() or os.path.exists(e.path)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _stem(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in _files.VIDEO_EXTENSIONS else name


# --- facing -----------------------------------------------------------------------------------------


def keep_present(
    dataset: str,
    records: Sequence[VideoRecord],
    *,
    max_missing: float,
    folders: Folders | None = None,
) -> tuple[VideoRecord, ...]:
    """The records whose file or folder of frames is there; how many are not is logged.

    max_missing: the share of files, 0 to 1, that may be missing. folders: what was already read.
    Raises DataError when more are missing, or all, ConfigError for a share outside 0..1.
    """
    if not isinstance(max_missing, int | float) or not 0 <= max_missing <= 1:
        raise ConfigError(f"max_missing is {max_missing!r}, expected a share from 0.0 to 1.0")
    folders = folders or Folders()
    paths = dict.fromkeys(record.path for record in records)
    missing = {path: None for path in paths if not folders.has(path)}
    if not missing:
        return tuple(records)
    share = len(missing) / len(paths)
    said = f"{dataset}: {len(missing)} of {len(paths)} files are missing; {_first(missing, 'file')}"
    if share > max_missing or len(missing) == len(paths):
        raise DataError(
            f"{said}\nThat is a share of {share:.4f}, tolerated are {max_missing} "
            "(data.options.max_missing). Should the videos lie elsewhere: data.options.videos"
        )
    kept = tuple(record for record in records if record.path not in missing)
    _log.warning("%s\n%d records left out, %d stay", said, len(records) - len(kept), len(kept))
    return kept


def drop_duplicates(
    dataset: str,
    records: Sequence[VideoRecord],
    *,
    file: str | Path | None = None,
    lines: Sequence[int] | None = None,
) -> list[VideoRecord]:
    """The records without those that say again what an earlier one said, which the log counts.

    file, lines: where the records stand, a line a record. Raises DataError when two records of one id
    differ in labels, file or times: it lists the first ten pairs.
    """
    first: dict[str, int] = {}
    kept, clashes, repeated = [], [], []
    for row, record in enumerate(records):
        before = first.setdefault(record.id, row)
        if before == row:
            kept.append(record)
        elif _same(records[before], record):
            repeated.append(row)
        else:
            clashes.append((before, row))
    where = f"{file}: " if file else ""
    at = (lambda row: f"line {lines[row]}: ") if lines else (lambda row: "")
    if clashes:
        pairs = {
            f"{records[a].id!r}: {at(a)}{_facts(records[a])}; {at(b)}{_facts(records[b])}": None
            for a, b in clashes
        }
        raise DataError(
            f"{dataset}: {where}{len(clashes)} clips are listed again with another label, file or time; "
            f"{_first(pairs, 'clip')}"
        )
    if repeated:
        again = {at(row) + records[row].id: None for row in repeated}
        _log.warning(
            "%s: %s%d duplicate rows left out; %s",
            dataset,
            where,
            len(repeated),
            _first(again, "row"),
        )
    return kept


def _same(a: VideoRecord, b: VideoRecord) -> bool:
    return _facts(a) == _facts(b)


def _facts(record: VideoRecord) -> str:
    end = "" if record.end_seconds is None else f", {record.start_seconds}-{record.end_seconds} s"
    return f"labels {list(record.labels)}, {record.path}{end}"


def _first(names: Collection[str], what: str, most: int = 10) -> str:
    some = list(names)[:most]
    head = f"the first {most} {what}s:" if len(names) > most else f"the {what}s:"
    return "\n    ".join([head if len(names) > 1 else f"the {what}:", *some])


def label_base(dataset: str, labels: Iterable[int], num_classes: int) -> int:
    """0 or 1: the number of the first class in a list whose labels count `num_classes` classes.

    1 when the highest label is num_classes and there is no 0, else 0; which of them is logged, and with
    a warning when both would do (give labels of all splits, so that it does not come to this). Raises
    DataError for labels that fit neither.
    """
    seen = set(labels)
    if not seen:
        return 0
    low, high = min(seen), max(seen)
    base = 1 if low >= 1 and high == num_classes else 0
    if low < base or high >= num_classes + base:
        raise DataError(
            f"{dataset}: the labels run from {low} to {high}, and there are {num_classes} classes: "
            f"expected 0 to {num_classes - 1}, or 1 to {num_classes}"
        )
    unclear = base == 0 and low >= 1
    _log.log(
        logging.WARNING if unclear else logging.INFO,
        "%s: labels %d to %d of %d classes, taken to count from %d%s",
        dataset,
        low,
        high,
        num_classes,
        base,
        "; no label is 0, so they might count from 1" if unclear else "",
    )
    return base
