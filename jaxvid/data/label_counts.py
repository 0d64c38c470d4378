"""How many clips each class has, by name, and how uneven that is."""

import collections
from collections.abc import Mapping

from jaxvid.core.record import DatasetIndex
from jaxvid.data.balance import class_counts


def label_counts(index: DatasetIndex) -> dict[str, dict[str, int]]:
    """{head: {class name: clips}} in label order, with classes of no clip; the head is "" where a set
    has one. A clip of several labels counts for each of them."""
    counts, start, result = class_counts(index).tolist(), 0, {}
    for head, names in class_names_of_heads(index).items():
        result[head] = dict(zip(names, counts[start : start + len(names)], strict=True))
        start += len(names)
    return result


def class_names_of_heads(index: DatasetIndex) -> dict[str, tuple[str, ...]]:
    """{head: its class names}, each name once: classes that share one get their number behind it."""
    if not index.heads:
        return {"": _distinct(index.class_names)}
    start, result = 0, {}
    for head, count in index.heads.items():
        result[head] = _distinct(index.class_names[start : start + count])
        start += count
    return result


def balance(counts: Mapping[str, int]) -> dict[str, float]:
    """What the counts of one head mean for training.

    labels: their sum. classes, empty: how many there are, and have no clip. largest_share: of the
    largest class among the labels, the top-1 of always guessing it in a single-label set. ratio:
    largest to smallest class, those without clips left out.
    """
    held = [n for n in counts.values() if n]
    total = sum(held)
    return {
        "labels": total,
        "classes": len(counts),
        "empty": len(counts) - len(held),
        "largest_share": max(held) / total if held else 0.0,
        "ratio": max(held) / min(held) if held else 0.0,
    }


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    shared = collections.Counter(names)
    return tuple(f"{n} [{i}]" if shared[n] > 1 else n for i, n in enumerate(names))
