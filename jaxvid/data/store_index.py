"""Which clips the videos of a store are of: the records of each prepared split, so that a machine
that has only the store can train.

    STORE/index/train-3f2a91c0.jsonl     a line of facts about the split, then one record a line

What a split holds depends on the options of its reader, so each choice of them has a file of its
own: one store may serve all three folds of a set. So it is with annotations: fold1/train.csv and
fold2/train.csv are kept apart, and found again by as much of their paths as another machine has.
Paths are relative to the set's root, as in the store. `jaxvid data prepare` writes these files before
the videos, whole or not at all.
"""

import glob
import hashlib
import inspect
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvid.core.errors import DataError
from jaxvid.core.files import write_atomically
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.store_format import Settings, key_of

VERSION = 1
FOLDER, ENDING = "index", ".jsonl"
ANNOTATIONS = "annotations"
# Of a reader's options: where files lie, and how many may be absent, changes no record that is there.
_NO_CHOICE = ("videos", "max_missing")
_PREPARE = "Where the files are, run jaxvid data prepare"

logger = logging.getLogger("jaxvid.data")


def choices(load: Callable, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a reader's `load` that decide what a split holds, as JSON has them, without those
    that say its own defaults. Annotations come with their whole path."""
    chosen = {name: value for name, value in options.items() if name not in _NO_CHOICE}
    if isinstance(chosen.get(ANNOTATIONS), str | os.PathLike):
        chosen[ANNOTATIONS] = os.path.abspath(os.path.expanduser(chosen[ANNOTATIONS]))
    parameters = inspect.signature(load).parameters
    defaults = {name: p.default for name, p in parameters.items() if name in chosen}
    chosen, defaults = (json.loads(json.dumps(d, default=str)) for d in (chosen, defaults))
    return {name: v for name, v in chosen.items() if name not in defaults or v != defaults[name]}


def write(
    folder: str | os.PathLike,
    index: DatasetIndex,
    *,
    split: str,
    chosen: Mapping[str, Any],
    root: str | os.PathLike,
) -> Path:
    """Keeps the records of a split in the store; what was kept of the same choices and from the same
    annotations is replaced.

    chosen: see `choices`. root: what paths are relative to. Raises DataError for records whose extra
    JSON cannot hold, OSError when the store cannot be written to.
    """
    lines = _lines(index, root)
    facts = {"version": VERSION, "split": split, "options": _named(chosen), "records": len(index)}
    facts |= {"fingerprint": _fingerprint(_classes(index), lines), **_classes(index)}
    facts |= {ANNOTATIONS: _annotations(chosen)}
    path = _path_to_write(Path(folder), split, chosen, facts["fingerprint"])
    write_atomically(path, "".join(f"{line}\n" for line in (json.dumps(facts), *lines)).encode())
    return path


def read(
    folder: str | os.PathLike,
    *,
    dataset: str,
    split: str,
    chosen: Mapping[str, Any],
    root: str | os.PathLike,
) -> DatasetIndex:
    """The records of a split, their paths below `root`, in the order in which the reader gave them.

    Raises DataError for a folder that holds no store, a store of another dataset, one made before
    stores kept records, one without this split or with other choices only, one that holds it of
    several annotations none of which is clearly the one asked for, and for damaged records.
    """
    folder = Path(folder)
    theirs = Settings.read(folder).dataset
    if theirs != dataset:
        raise DataError(f"{folder}: this is a store of {theirs!r}, and data.dataset is {dataset!r}")
    kept = _kept(folder, split, chosen)
    if not kept:
        raise DataError(_absence(folder, dataset, split, _named(chosen)))
    path = _nearest(kept, chosen)
    if path is None:
        raise DataError(_ambiguity(folder, split, kept, chosen))
    facts = kept[path]
    _warn_of_other_annotations(folder, split, facts, chosen)
    try:
        index = _parsed(facts, path.read_text().split("\n")[1:-1], root)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: the list of records is damaged ({error}); copy the store again, or run jaxvid data "
            "prepare again where the files are"
        ) from error
    logger.info("the records of %s come from the store %s: %d clips", split, folder, len(index))
    return index


def holds(folder: str | os.PathLike, split: str, chosen: Mapping[str, Any]) -> bool:
    """Whether records of this split were kept, by these choices."""
    return bool(_files(Path(folder), split, chosen))


def warn_if_changed(
    folder: str | os.PathLike,
    index: DatasetIndex,
    *,
    split: str,
    chosen: Mapping[str, Any],
    root: str | os.PathLike,
) -> None:
    """Says in the log when the records that were read from the files are others than those kept."""
    kept = _kept(Path(folder), split, chosen)
    path = _nearest(kept, chosen)
    if path is None:
        return
    if kept[path].get("fingerprint") != _fingerprint(_classes(index), _lines(index, root)):
        logger.warning(
            "%s: its records of %s are others than those that %s has now, which count here. A machine "
            "that has only the store goes by the old ones until jaxvid data prepare is run again",
            *(folder, split, root),
        )


# --- files ------------------------------------------------------------------------------------------


def _path(folder: Path, split: str, chosen: Mapping[str, Any]) -> Path:
    """Of the first annotations of a name; `_path_to_write` adds to it for others."""
    name = re.sub(r"[^\w.-]", "_", split)
    return folder / FOLDER / f"{name}-{_short_hash([split, _named(chosen)])}{ENDING}"


def _path_to_write(folder: Path, split: str, chosen: Mapping[str, Any], fingerprint: str) -> Path:
    """Where the records lie that these replace, or a path that is free."""
    asked, unnamed, files = _annotations(chosen), [], _files(folder, split, chosen)
    for path in files:
        try:
            facts = _facts(path)
        except DataError:  # damaged: of use to nobody
            unnamed.append(path)
            continue
        theirs = facts.get(ANNOTATIONS)
        if theirs == asked:
            return path
        if theirs is None and facts.get("fingerprint") == fingerprint:  # of an older jaxvid
            unnamed.append(path)
    if unnamed:
        return unnamed[0]
    path = _path(folder, split, chosen)
    return path.with_name(f"{path.stem}-{_short_hash(asked)}{ENDING}") if path in files else path


def _short_hash(told: Any) -> str:
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=4).hexdigest()


def _files(folder: Path, split: str, chosen: Mapping[str, Any]) -> list[Path]:
    """Of this split and these choices, of all annotations of this name."""
    path = _path(folder, split, chosen)
    return sorted(path.parent.glob(f"{glob.escape(path.stem)}*{ENDING}"))


def _kept(folder: Path, split: str, chosen: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """{file: its facts} of `_files`."""
    return {path: _facts(path) for path in _files(folder, split, chosen)}


# --- annotations: their name is a choice, their folder may be another on another machine -------------


def _named(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The choices with the name of the annotations alone."""
    if not isinstance(chosen.get(ANNOTATIONS), str):
        return dict(chosen)
    return {**chosen, ANNOTATIONS: Path(chosen[ANNOTATIONS]).name}


def _annotations(chosen: Mapping[str, Any]) -> str | None:
    """Their path, where they are files."""
    path = chosen.get(ANNOTATIONS)
    return path if isinstance(path, str) else None


def _nearest(kept: Mapping[Path, dict[str, Any]], chosen: Mapping[str, Any]) -> Path | None:
    """The records from the annotations whose path ends most like the one asked for, in more than the
    name; None where several might be meant."""
    asked = _annotations(chosen)
    alike = {path: _same_end(asked, facts.get(ANNOTATIONS)) for path, facts in kept.items()}
    most = max(alike.values(), default=0)
    nearest = [path for path, parts in alike.items() if parts == most > 1]
    if len(nearest) == 1:
        return nearest[0]
    all_the_same = len({facts.get("fingerprint") for facts in kept.values()}) == 1
    return next(iter(kept)) if all_the_same else None


def _same_end(path: str | None, other: str | None) -> int:
    """How many of their last parts are the same."""
    pairs = zip(Path(path or "").parts[::-1], Path(other or "").parts[::-1], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _ambiguity(
    folder: Path, split: str, kept: Mapping[Path, dict[str, Any]], chosen: Mapping[str, Any]
) -> str:
    theirs = [facts.get(ANNOTATIONS) or "a place that was not noted" for facts in kept.values()]
    return (
        f"{folder}: the split {split!r} was prepared from several annotations of this name, with other "
        f"records: {', '.join(sorted(theirs))}; asked for is {_annotations(chosen)}. Name them with the last "
        f"folders of one of these, or run jaxvid data prepare with them where the files are"
    )


def _warn_of_other_annotations(
    folder: Path, split: str, facts: Mapping[str, Any], chosen: Mapping[str, Any]
) -> None:
    theirs, asked = facts.get(ANNOTATIONS), _annotations(chosen)
    if theirs and asked and _same_end(theirs, asked) < 2:
        logger.warning(
            "%s: its records of %s come from the annotations %s; asked for is %s, of which only the name "
            "is the same",
            *(folder, split, theirs, asked),
        )


# --- the first line ---------------------------------------------------------------------------------


def _facts(path: Path) -> dict[str, Any]:
    """The first line. Raises DataError where it is none, or one of another version."""
    try:
        with open(path) as file:
            facts = json.loads(file.readline())
        version = facts["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: the list of records is damaged ({error}). {_PREPARE} again"
        ) from error
    if version != VERSION:
        raise DataError(
            f"{path}: the records have version {version!r}, this jaxvid reads {VERSION}. {_PREPARE} again"
        )
    return facts


def _absence(folder: Path, dataset: str, split: str, chosen: Mapping[str, Any]) -> str:
    """Why there are no such records, and what to do."""
    kept = [_facts(path) for path in sorted((folder / FOLDER).glob(f"*{ENDING}"))]
    if not kept:
        return (
            f"{folder}: this store holds the videos of {dataset!r} and not their splits and labels: an "
            f"older jaxvid made it. {_PREPARE} again, which adds them and leaves the videos as they are"
        )
    same = [facts["options"] for facts in kept if facts["split"] == split]
    if not same:
        there = ", ".join(dict.fromkeys(facts["split"] for facts in kept))
        return (
            f"{folder}: the split {split!r} of {dataset!r} is not in this store, which holds {there}. "
            f"{_PREPARE} again, with --split {split}"
        )
    asked = [_unlike(chosen, options) for options in same]
    made = [_unlike(options, chosen) for options in same]
    return (
        f"{folder}: the split {split!r} was prepared with {' and with '.join(made)}; asked for "
        f"(data.options) is {' or '.join(dict.fromkeys(asked))}. Give the same options, or run jaxvid data "
        "prepare with these where the files are"
    )


def _unlike(options: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """The options that differ from the others, in words."""
    names = sorted({*options, *others})
    return ", ".join(
        f"{name}={options[name]!r}" if name in options else f"{name} unset"
        for name in names
        if options.get(name) != others.get(name)
    )


# --- records ----------------------------------------------------------------------------------------


def _classes(index: DatasetIndex) -> dict[str, Any]:
    return {
        "class_names": list(index.class_names),
        "multilabel": index.multilabel,
        "heads": dict(index.heads),
    }


def _lines(index: DatasetIndex, root: str | os.PathLike) -> list[str]:
    """A text for each record."""
    return [_line(record, root) for record in index.records]


def _line(record: VideoRecord, root: str | os.PathLike) -> str:
    told = {
        "path": key_of(record.path, root),
        "id": record.id,
        "labels": [int(label) for label in record.labels],
        "start_seconds": record.start_seconds,
        "end_seconds": record.end_seconds,
        "extra": dict(record.extra),
    }
    try:
        return json.dumps(told, default=_plain)
    except TypeError as error:
        raise DataError(
            f"{record.path}: what its reader tells in extra cannot be kept in a store: {error}; numbers, "
            "texts, lists and dicts can"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _parsed(facts: dict[str, Any], lines: Sequence[str], root: str | os.PathLike) -> DatasetIndex:
    """The index. Raises ValueError, TypeError or KeyError for what `write` has not written."""
    classes = {name: facts[name] for name in ("class_names", "multilabel", "heads")}
    if len(lines) != facts["records"]:
        raise ValueError(f"it has {len(lines)} of {facts['records']} records")
    if _fingerprint(classes, lines) != facts["fingerprint"]:
        raise ValueError("its fingerprint is another")
    records = tuple(_record(json.loads(line), root) for line in lines)
    return DatasetIndex(
        records, tuple(facts["class_names"]), facts["multilabel"], dict(facts["heads"])
    )


def _record(told: dict[str, Any], root: str | os.PathLike) -> VideoRecord:
    return VideoRecord(
        os.path.join(root, told["path"]),
        told["id"],
        tuple(told["labels"]),
        told["start_seconds"],
        told["end_seconds"],
        {name: _frozen(value) for name, value in told["extra"].items()},
    )


def _frozen(value: Any) -> Any:
    """Lists as the tuples that readers write."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {name: _frozen(inner) for name, inner in value.items()}
    return value


def _fingerprint(classes: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Of all that the annotations say."""
    hashed = hashlib.blake2b(json.dumps(classes).encode(), digest_size=12)
    for line in lines:
        hashed.update(line.encode() + b"\n")
    return hashed.hexdigest()
