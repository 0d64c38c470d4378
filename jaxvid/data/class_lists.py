"""The class names of the public sets, in label order, as they ship with the package.

    class_lists.load("kinetics400")[0]      # 'abseiling'

One text file a set in `labels/`, one class a line. Readers of a set fall back on them when the
set's own list is not at hand, and a checkpoint's 400 numbers get names. "ava" keeps the publisher's
ids, which have gaps: its lines are `id: name`.
"""

import functools
from importlib import resources

from jaxvid.core.errors import unknown

_FOLDER = resources.files("jaxvid.data") / "labels"


def names() -> tuple[str, ...]:
    """The sets whose class names are known, sorted."""
    found = (entry.name for entry in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(".txt") for name in found if name.endswith(".txt")))


@functools.cache
def load(name: str) -> tuple[str, ...]:
    """The class names of a set in label order. Raises UnknownNameError for a name not in `names()`."""
    if name not in names():
        raise unknown("class list", name, names())
    text = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)
