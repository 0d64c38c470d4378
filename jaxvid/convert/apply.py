"""A conversion table applied, in both directions, and strictly: every key and every leaf accounted.

Works from names and shapes alone when values are missing: whatever has `shape` and `dtype` (a
jax.ShapeDtypeStruct, a `ShapeOnly`) stands in for an array, so that a table is checked against the
listing of a model of any size without its memory.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert.layout import LayoutError, Shape
from jaxvid.convert.rules import Alias, Entry, Pattern, Rule, Waive, patterns
from jaxvid.core.errors import ConversionError
from jaxvid.core.tree import flatten, unflatten

PARAMS = "params"


@dataclasses.dataclass(frozen=True)
class ShapeOnly:
    """Stands in for an array whose values are not at hand."""

    shape: Shape
    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of every key and leaf. used: key -> the paths it went to; waived: key -> why it
    was left; fresh: path -> why it keeps its initial value."""

    used: Mapping[str, tuple[str, ...]]
    waived: Mapping[str, str]
    fresh: Mapping[str, str]

    def lines(self) -> list[str]:
        """For people: what was loaded, what was left aside, what is fresh, with the reasons."""
        said = [f"{len(self.used)} keys of the checkpoint loaded"]
        said += [f"left aside, {reason}: {names}" for reason, names in _grouped(self.waived)]
        fresh = _grouped(self.fresh)
        return said + [f"FRESH, train before use: {names} ({reason})" for reason, names in fresh]


def _grouped(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """(reason, the first few names it is given for)"""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return [
        (reason, ", ".join(names[:4]) + (f", … ({len(names)} in all)" if len(names) > 4 else ""))
        for reason, names in groups.items()
    ]


def flatten_variables(variables: Mapping) -> dict[str, Any]:
    """{"params": {"a": {"b": x}}, "batch_stats": {"c": y}} -> {"a/b": x, "batch_stats/c": y}"""
    flat = flatten(variables.get(PARAMS, {}))
    for collection, tree in variables.items():
        if collection != PARAMS:
            flat.update({f"{collection}/{path}": leaf for path, leaf in flatten(tree).items()})
    return flat


def unflatten_variables(flat: Mapping[str, Any], collections: Iterable[str] = ()) -> dict:
    """The inverse of `flatten_variables`, given the names of the collections besides "params"."""
    names = {PARAMS, *collections}
    return unflatten(
        {path if path.split("/")[0] in names else f"{PARAMS}/{path}": x for path, x in flat.items()}
    )


def load(
    state: Mapping[str, Any],
    targets: Mapping[str, Any],
    entries: Sequence[Entry],
    *,
    fresh: Mapping[str, str] | None = None,
    subject: str = "the checkpoint",
) -> tuple[dict[str, Any], Report]:
    """Checkpoint to model.

    state: key -> array. targets: flat path -> anything with shape and dtype; arrays come out in
    that dtype. fresh: path pattern -> reason, for leaves that shall not come from the checkpoint
    (a new head). Returns {path: array} of all leaves but the fresh ones, and a Report.

    Raises ConversionError that lists all missing leaves, left-over keys and wrong shapes at once.
    """
    loading = _Loading(state, targets, entries, _compiled(fresh))
    for rule in loading.rules:
        loading.apply_rule(rule)
    loading.apply_aliases_and_waivers()
    loading.raise_if_wrong(subject)
    used = {key: tuple(paths) for key, paths in loading.used.items()}
    return loading.filled, Report(used, loading.waived, loading.fresh)


def save(
    variables: Mapping[str, Any], entries: Sequence[Entry], name: str = "this format"
) -> dict[str, Any]:
    """Model to checkpoint: flat {path: array} -> {key: array}, by the same table read backwards.

    Where a table knows several spellings of a key the first one is written. Raises ConversionError
    listing all leaves that no rule of `name` writes.
    """
    state: dict[str, Any] = {}
    written: set[str] = set()
    for rule in (e for e in entries if isinstance(e, Rule)):
        for binding in _bindings(rule.path_patterns, variables):
            paths = [p.fill(binding) for p in rule.path_patterns]
            if written.intersection(paths) or not all(path in variables for path in paths):
                continue
            arrays, real = _as_arrays([variables[path] for path in paths])
            keys = [p.fill(binding) for p in rule.key_patterns]
            results = rule.operation.save(arrays)
            state.update(zip(keys, [_result(r, r.dtype, real) for r in results], strict=True))
            written.update(paths)
    _raise_if_unwritten(variables, written, name)
    _add_aliases_and_counters(state, variables, entries)
    return state


def matched(state: Iterable[str], entries: Sequence[Entry]) -> int:
    """How many of these keys the table knows: which table a nameless checkpoint was made for."""
    known = [p for e in entries for p in (e.key_patterns if isinstance(e, Rule) else e.patterns)]
    return sum(any(p.match(key) is not None for p in known) for key in state)


def _compiled(reasons: Mapping[str, str] | None) -> list[tuple[Pattern, str]]:
    return [(patterns(text)[0], reason) for text, reason in (reasons or {}).items()]


def _reason(path: str, reasons: Sequence[tuple[Pattern, str]]) -> str | None:
    return next((reason for pattern, reason in reasons if pattern.match(path) is not None), None)


def _bindings(some: Sequence[Pattern], words: Iterable[str]) -> list:
    found = (pattern.match(word) for word in words for pattern in some)
    return list(dict.fromkeys(binding for binding in found if binding is not None))


def _as_arrays(values: Sequence[Any]) -> tuple[list[np.ndarray], bool]:
    """numpy arrays, and whether all have values; stand-ins become views of one zero, any size."""
    real = all(hasattr(v, "__array__") for v in values)
    if real:
        return [np.asarray(v) for v in values], True
    return [np.broadcast_to(np.zeros((), v.dtype), v.shape) for v in values], False


def _result(array: np.ndarray, dtype: np.dtype, real: bool) -> Any:
    if real:
        return np.asarray(array, dtype, order="C")
    return ShapeOnly(array.shape, np.dtype(dtype))


class _Loading:
    """The state of one `load`: what was filled, used, waived, and all that is wrong so far."""

    def __init__(self, state, targets, entries, fresh):
        self.state, self.targets, self.entries = state, targets, entries
        self.rules = [e for e in entries if isinstance(e, Rule)]
        reasons = {path: _reason(path, fresh) for path in targets}
        self.fresh = {path: reason for path, reason in reasons.items() if reason is not None}
        self.filled: dict[str, Any] = {}
        self.used: dict[str, list[str]] = {}
        self.waived: dict[str, str] = {}
        self.claimed: set[str] = set()  # leaves of wrong shape: wrong, but not also missing
        self.misshaped: list[str] = []
        self.clashes: list[str] = []

    def apply_rule(self, rule: Rule) -> None:
        for binding in _bindings(rule.key_patterns, self.state):
            keys = [p.fill(binding) for p in rule.key_patterns]
            paths = [p.fill(binding) for p in rule.path_patterns]
            if not all(key in self.state for key in keys):
                continue
            if all(path in self.fresh for path in paths):
                self.waived.update(dict.fromkeys(keys, self.fresh[paths[0]]))
            elif all(path in self.targets for path in paths):
                self._fill(rule, keys, paths)

    def _fill(self, rule: Rule, keys: Sequence[str], paths: Sequence[str]) -> None:
        twice = [path for path in paths if path in self.filled or path in self.claimed]
        for path in twice:
            others = [key for key, targets in self.used.items() if path in targets]
            self.clashes.append(f"{path}  <- {', '.join(others)} and also {', '.join(keys)}")
        for key in keys:
            self.used.setdefault(key, []).extend(paths)
        if twice:
            return
        arrays, real = _as_arrays([self.state[key] for key in keys])
        shapes = [tuple(self.targets[path].shape) for path in paths]
        try:
            results = rule.operation.load(arrays, shapes)
        except LayoutError as error:
            return self._note_shape(keys, paths, shapes, str(error))
        if [tuple(r.shape) for r in results] != shapes:
            made = ", ".join(str(tuple(r.shape)) for r in results)
            return self._note_shape(keys, paths, shapes, f"it would make {made}")
        for path, array in zip(paths, results, strict=True):
            self.filled[path] = _result(array, self.targets[path].dtype, real)

    def _note_shape(self, keys, paths, shapes, why: str) -> None:
        self.claimed.update(paths)
        got = ", ".join(f"{key} {tuple(self.state[key].shape)}" for key in keys)
        want = ", ".join(f"{path} {shape}" for path, shape in zip(paths, shapes, strict=True))
        self.misshaped.append(f"{got}  -> {want}: {why}")

    def apply_aliases_and_waivers(self) -> None:
        for entry in self.entries:
            if isinstance(entry, Rule):
                continue
            for key in self.state:
                binding = entry.patterns[0].match(key)
                if binding is None or key in self.used or key in self.waived:
                    continue
                if isinstance(entry, Alias):
                    self._check_alias(key, entry.patterns[1].fill(binding))
                else:
                    self.waived[key] = entry.reason

    def _check_alias(self, key: str, of: str) -> None:
        if of not in self.state:
            return
        pair, real = _as_arrays([self.state[key], self.state[of]])
        if real and not np.array_equal(*pair):
            self.clashes.append(f"{key} must be the same tensor as {of}, and has other values")
        self.waived[key] = f"the same tensor as {of}"

    def raise_if_wrong(self, subject: str) -> None:
        done = self.filled.keys() | self.fresh.keys() | self.claimed
        missing = [self._missing_line(path) for path in self.targets if path not in done]
        left = [k for k in self.state if k not in self.used and k not in self.waived]
        sections = [
            ("missing (the model has it, the checkpoint does not)", missing),
            ("left over (the checkpoint has it, the model does not)", self._with_shapes(left)),
            ("of another shape", self.misshaped),
            ("contradictory", self.clashes),
        ]
        if not any(lines for _, lines in sections):
            return
        counts = ", ".join(f"{len(lines)} {name.split(' (')[0]}" for name, lines in sections)
        text = "".join(
            f"\n  {name}:" + "".join(f"\n    {line}" for line in lines)
            for name, lines in sections
            if lines
        )
        raise ConversionError(f"{subject} does not fit: {counts}; nothing was loaded.{text}")

    def _missing_line(self, path: str) -> str:
        keys = []
        for rule in self.rules:
            for pattern in rule.path_patterns:
                binding = pattern.match(path)
                if binding is not None:
                    keys.append(" + ".join(p.fill(binding) for p in rule.key_patterns))
        shape = tuple(self.targets[path].shape)
        return f"{path} {shape}" + (
            f"  <- {' or '.join(keys)}" if keys else "  <- no rule fills it"
        )

    def _with_shapes(self, keys: Sequence[str]) -> list[str]:
        return [f"{key} {tuple(self.state[key].shape)}" for key in keys]


def _raise_if_unwritten(variables: Mapping[str, Any], written: set[str], name: str) -> None:
    lost = [f"{path} {tuple(x.shape)}" for path, x in variables.items() if path not in written]
    if lost:
        raise ConversionError(
            f"{len(lost)} of the model's leaves have no place in {name}; nothing was saved:"
            + "".join(f"\n    {line}" for line in lost)
        )


def _add_aliases_and_counters(state, variables, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if isinstance(entry, Alias):
            for binding in _bindings(entry.patterns[1:], list(state)):
                key, of = (p.fill(binding) for p in entry.patterns)
                state[key] = state[of]
        elif isinstance(entry, Waive) and entry.beside:
            for binding in _bindings(entry.patterns[1:], variables):
                state[entry.patterns[0].fill(binding)] = np.asarray(entry.value)
