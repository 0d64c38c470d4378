"""How often each clip, and how much each class, counts where classes are not of one size."""

from collections.abc import Callable

import numpy as np

from jaxvid.core.errors import ConfigError, unknown
from jaxvid.core.record import DatasetIndex

WEIGHT = "weight"  # of a record among others, in VideoRecord.extra


def class_counts(index: DatasetIndex) -> np.ndarray:
    """int64 (K,): the clips of each class; of a multi-head index those of its heads in a row."""
    counts = np.zeros(index.num_classes, np.int64)
    for labels in _columns(index):
        np.add.at(counts, list(labels), 1)
    return counts


def record_weights(index: DatasetIndex, how: str) -> np.ndarray | None:
    """float (n,): how often each record is shown beside the others, None for "natural".

    "balanced": each class as often as any other (1 / its clips); "square_root": 1 / sqrt(its clips),
    half way to it (Mahajan et al. 2018, Exploring the Limits of Weakly Supervised Pretraining, section
    2.2); "weighted": by the number each record brings in extra["weight"]. A clip of several
    labels takes the mean over them, one without labels the mean of all clips. Raises ConfigError for
    another word, and for "weighted" where a record brings no weight.
    """
    if how not in HOW:
        raise unknown("data.class_sampling", how, HOW)
    return HOW[how](index)


def class_weights(index: DatasetIndex) -> tuple[float, ...]:
    """K weights of a loss: clips / (classes · clips of the class), so that each class weighs the
    same (King and Zeng 2001, section 4; scikit-learn's "balanced"). Classes without clips get 1; of
    a multi-head index each head is on its own. A multi-label set has no such weights: ConfigError.
    """
    if index.multilabel:
        raise ConfigError(
            "objective.class_weights='balanced' weighs clips of one class each; this set is multi-label: "
            "use 'none', or data.class_sampling='balanced'"
        )
    counts = class_counts(index)
    weights = np.ones(len(counts))
    start = 0
    for size in index.heads.values() or (len(counts),):
        own = slice(start, start + size)
        there = counts[own] > 0
        inverse = counts[own].sum() / (there.sum() * np.maximum(counts[own], 1))
        weights[own] = np.where(there, inverse, 1.0)
        start += size
    return tuple(weights.tolist())


def _natural(index: DatasetIndex) -> None:
    return None


def _by_class(power: float) -> Callable[[DatasetIndex], np.ndarray]:
    def weights(index: DatasetIndex) -> np.ndarray:
        own = np.maximum(class_counts(index), 1) ** -power
        each = [own[list(labels)].mean() if labels else np.nan for labels in _columns(index)]
        if np.isnan(each).all():
            raise ConfigError("data.class_sampling balances classes, and no clip has a label")
        return np.where(np.isnan(each), np.nanmean(each), each)

    return weights


def _weighted(index: DatasetIndex) -> np.ndarray:
    without = [r for r in index.records if WEIGHT not in r.extra]
    if without:
        raise ConfigError(
            f"data.class_sampling='weighted': {len(without)} of {len(index)} records bring no weight (a "
            f"column {WEIGHT!r} of a table), the first is {without[0].path}"
        )
    return np.array([float(r.extra[WEIGHT]) for r in index.records])


def _columns(index: DatasetIndex) -> list[tuple[int, ...]]:
    """The labels of each record as places among all classes."""
    starts = np.cumsum([0, *index.heads.values()])
    if not index.heads:
        return [r.labels for r in index.records]
    return [
        tuple(int(a + b) for a, b in zip(r.labels, starts, strict=False)) for r in index.records
    ]


HOW = {
    "natural": _natural,
    "balanced": _by_class(1.0),
    "square_root": _by_class(0.5),
    "weighted": _weighted,
}
