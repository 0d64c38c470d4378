"""One bar of progress for everything that takes long, in a terminal or in a log."""

import sys
from collections.abc import Iterable

import tqdm

LOG_SECONDS = 15  # between lines where stderr is no terminal: a cluster's log should not be all bar


def bar(
    things: Iterable | None = None, *, total: int | None, what: str, unit: str, show: bool = True
) -> tqdm.tqdm:
    """tqdm's bar on stderr, around `things` or to be updated by hand: count, rate, remaining time."""
    terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        things,
        desc=what,
        total=total,
        unit=unit,
        disable=not show,
        mininterval=0.1 if terminal else LOG_SECONDS,
        leave=not terminal,
        dynamic_ncols=terminal,
    )
