"""Class lists in files: one name a line, with or without its number."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data import class_lists
from jaxvid.data.datasets import _listed

_NUMBER_FIRST = re.compile(r"([0-9]+)(?:\s*[,;:\t]\s*|\s+)(.*\S)")
_NUMBER_LAST = re.compile(r"(.*\S)\s*[,;\t]\s*([0-9]+)")


def plain(path: str | Path) -> tuple[str, ...]:
    """Names in the order of the lines. Raises DataError for a name that stands twice, or no name."""
    lines = [(number, text.strip()) for number, text in _listed.read_lines(path)]
    _check_names(path, lines)
    return tuple(text for _, text in lines)


def numbered(path: str | Path) -> tuple[tuple[str, ...], int]:
    """(names in the order of their numbers, the first number: 0 or 1) of lines `3 name`, `3,name` or
    `name,3`. Raises DataError for a line without a number, names or numbers that stand twice, gaps.
    """
    pairs = []
    for line, text in _listed.read_lines(path):
        if (pair := _pair(text)) is None:
            raise DataError(f"{path}:{line}: {text!r}, expected a class name and its number")
        pairs.append((line, *pair))
    _check_names(path, [(line, name) for line, name, _ in pairs])
    return in_order(path, {name: number for _, name, number in pairs})


def in_order(path: str | Path, numbers: dict[str, int]) -> tuple[tuple[str, ...], int]:
    """(names sorted by number, the first number). Raises DataError unless the numbers are 0, 1, …, or
    1, 2, …, each of them once."""
    names = sorted(numbers, key=lambda name: numbers[name])
    given = [numbers[name] for name in names]
    base = 1 if given[:1] == [1] else 0
    expected = range(base, base + len(given))
    if given != list(expected):
        wrong = next(n for n, e in zip(given, expected, strict=True) if n != e)
        raise DataError(
            f"{path}: {len(given)} classes with numbers from {given[0]} to {given[-1]}, {wrong} is out of "
            "place; expected 0, 1, 2, … or 1, 2, 3, …, each of them once"
        )
    return tuple(names), base


def chosen(
    root: Path, annotations, given: str | Sequence[str] | None, usual: Sequence[str]
) -> tuple[str, ...] | None:
    """The class names that a user gives: the names themselves, a file of them (with or without
    numbers) or a name of `class_lists`; with None the file of a usual name, if there is one."""
    if isinstance(given, list | tuple):
        return tuple(given)
    if given is None:
        file = _listed.optional_file(root, annotations, usual)
        return None if file is None else _any(file)
    for file in (Path(given).expanduser(), Path(root) / given):
        if file.is_file():
            return _any(file)
    if given in class_lists.names():
        return class_lists.load(given)
    raise ConfigError(
        f"class_names is {given!r}, which is no file here or in {root}, and none of the lists "
        f"{', '.join(class_lists.names())}"
    )


def _any(path: Path) -> tuple[str, ...]:
    lines = _listed.read_lines(path)
    numbers = sorted(pair[1] for _, text in lines if (pair := _pair(text)))
    with_numbers = numbers in (list(range(len(lines))), list(range(1, len(lines) + 1)))
    return numbered(path)[0] if with_numbers else plain(path)


def _pair(text: str) -> tuple[str, int] | None:
    if match := _NUMBER_FIRST.fullmatch(text.strip()):
        return match[2], int(match[1])
    if match := _NUMBER_LAST.fullmatch(text.strip()):
        return match[1], int(match[2])
    return None


def _check_names(path: str | Path, lines: Iterable[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    for line, name in lines:
        if name in first:
            raise DataError(
                f"{path}:{line}: the class {name!r} stands there twice, first in line {first[name]}"
            )
        first[name] = line
    if not first:
        raise DataError(f"{path}: the class list is empty")
