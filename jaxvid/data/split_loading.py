"""All splits of a dataset for a check: what can be read is read, and what cannot is told, not
raised."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxvid.core import lookup
from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.core.record import DatasetIndex
from jaxvid.data.findings import ERROR, WARNING, Finding

_MISSING = "missing"  # of findings.KINDS
_NEEDED = 2  # of SPLITS, the first ones: those to train and to measure by


def load_splits(
    dataset: str,
    root: str | Path,
    *,
    splits: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, DatasetIndex], list[Finding]]:
    """({split: its index}, what went wrong or was warned of on the way).

    splits: any that the reader's load takes, all of them needed; None: the reader's SPLITS, of which
    the first two are needed and the others (test) may be absent with a warning, as may all but the
    first where the set itself says which it has. options: further keywords of the reader's load.
    Where files are absent the split comes without them, and that is an error among the findings.
    Raises UnknownNameError for a dataset, or a split that was asked for, ConfigError for an option that
    has a wrong value.
    """
    module = lookup.module("dataset", dataset)
    needed = tuple(splits or module.SPLITS[:_NEEDED])
    indices, findings = {}, []
    for split in splits or module.SPLITS:
        is_elsewhere = False
        with _Listening() as heard:
            try:
                index, wrong = _load(module, root, split, dict(options or {}))
            except UnknownNameError as error:
                if splits or not error.kind.startswith("split of "):
                    raise
                index, wrong, is_elsewhere = None, [("split", str(error))], split != needed[0]
        level = ERROR if index is not None or (split in needed and not is_elsewhere) else WARNING
        if level == WARNING:  # many sets have no such split: no advice on how to come by one
            wrong = [(kind, f"not there: {text.partition(chr(10))[0]}") for kind, text in wrong]
        findings += [Finding(level, kind, f"{split}: {text}") for kind, text in wrong]
        findings += [Finding(WARNING, "reader", f"{split}: {text}") for text in heard.warnings]
        if index is not None:
            indices[split] = index
    return indices, findings


def lacks_files(split: str, findings: Sequence[Finding]) -> bool:
    """Whether more of a split's files are absent than the options tolerate: its index is a part of
    it."""
    return any(f.kind == _MISSING and f.message.startswith(f"{split}: ") for f in findings)


def _load(module: ModuleType, root, split: str, options: dict) -> tuple[DatasetIndex | None, list]:
    """(index or None, [(kind, what is wrong)]); once more without the absent files, if need be."""
    try:
        return module.load(root, split, **options), []
    except DataError as error:
        first = str(error)
    if "max_missing" in inspect.signature(module.load).parameters:
        try:
            index = module.load(root, split, **(options | {"max_missing": 1.0}))
            return index, [(_MISSING, first)]
        except DataError:
            pass  # it is not the files, so the first message stands
    return None, [("split", first)]


class _Listening(logging.Handler):
    """Collects what readers warn of while it is entered, in place of the terminal."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.warnings: list[str] = []
        self._logger = logging.getLogger("jaxvid.data")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.warnings:  # the second attempt says it again
            self.warnings.append(text)

    def __enter__(self):
        self._logger.addHandler(self)
        self._propagated, self._logger.propagate = self._logger.propagate, False
        return self

    def __exit__(self, *_):
        self._logger.propagate = self._propagated
        self._logger.removeHandler(self)
