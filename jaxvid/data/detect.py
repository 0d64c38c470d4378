"""Which reader fits a folder, for a user who has not said it: each is asked, the one that can read
it wins."""

import logging
from pathlib import Path

from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, DataError

# Of no set in particular: they are asked last, in this order, and the first that fits is taken.
GENERAL = ("folder", "table", "path_list")
_NOT_ASKED = ("synthetic", "tfds")  # one makes its data, the other needs a builder's name
_log = logging.getLogger("jaxvid.data")


def detect(root: str | Path) -> str:
    """The name of the dataset (a file of data/datasets) whose reader can read a split of `root`.

    Files that are absent do not count against a reader, annotations do. Raises DataError when none
    fits, ConfigError when several do; both say how to name one.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}; give the folder that holds the dataset")
    special = [n for n in lookup.names("dataset") if n not in (*GENERAL, *_NOT_ASKED)]
    fitting = [name for name in special if fits(name, root)]
    if len(fitting) > 1:
        raise ConfigError(
            f"{root} can be read as {' and as '.join(fitting)}: say which with --dataset NAME"
        )
    known = lookup.names("dataset")
    fitting += [name for name in GENERAL if name in known and not fitting and fits(name, root)]
    if not fitting:
        raise DataError(
            f"{root} fits no dataset that jaxvid reads. Lay it out as {root}/train/CLASS/clip.mp4 and "
            f"{root}/val/CLASS/clip.mp4 (jaxvid data split divides {root}/CLASS/clip.mp4), or name one of "
            f"{', '.join(known)} with --dataset to hear what it misses"
        )
    return fitting[0]


def fits(name: str, root: Path) -> bool:
    """Whether this reader finds its annotations of one split at least; it says nothing to the log."""
    module = lookup.module("dataset", name)
    was, _log.disabled = _log.disabled, True
    try:
        return any(_loads(module, root, split) for split in module.SPLITS)
    finally:
        _log.disabled = was


def _loads(module, root: Path, split: str) -> bool:
    try:
        return len(module.load(root, split, max_missing=1.0)) > 0
    except (ValueError, TypeError, OSError):  # TypeError: it needs an option that nobody gave
        return False
