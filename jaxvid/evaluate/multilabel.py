"""Every number of a multi-label evaluation, from the probabilities of each class on its own."""

from collections.abc import Sequence

import numpy as np

from jaxvid.evaluate.classify import finite_probabilities, listed, or_none
from jaxvid.metrics.average_precision import mean_average_precision
from jaxvid.metrics.gap import global_average_precision

GAP_AT = 20


def multilabel_metrics(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict:
    """All metrics as plain Python values, ready for JSON; shares are fractions.

    probabilities: float (n, K) in 0..1, each class on its own; labels: int (n, L) padded with -1.
    Returns
        mAP: the mean over classes of average precision (Charades, AVA, ActivityNet untrimmed);
        GAP: YouTube-8M's, over the 20 best classes of each clip;
        hit1: clips that have the class of their highest score, of those with a label;
        loss: mean binary cross-entropy of all clips and classes, in nats;
        per_class: [{"class", "support", "average_precision"}, …];
        undefined: a reason for each value that is None and each class left out of a mean.
    Raises ValueError for no clips, other shapes, or what is no probability.
    """
    probabilities = finite_probabilities(probabilities, labels, class_names)
    present = many_hot(labels, len(class_names))
    mean, each, without = mean_average_precision(present, probabilities)
    some = present.any(axis=1)
    best = probabilities.argmax(axis=1)
    hits = present[np.arange(len(present)), best][some]
    undefined = []
    if without:
        names = listed([class_names[i] for i in without])
        undefined.append(f"average_precision: no clips of {names} (left out of mAP)")
    if not some.any():
        undefined.append("hit1, GAP: no clip has a label")
    return {
        "mAP": or_none(mean),
        "GAP": or_none(global_average_precision(present, probabilities, k=GAP_AT)),
        "hit1": or_none(hits.mean()) if len(hits) else None,
        "loss": _binary_cross_entropy(probabilities, present),
        "per_class": [
            {
                "class": name,
                "support": int(present[:, i].sum()),
                "average_precision": or_none(each[i]),
            }
            for i, name in enumerate(class_names)
        ],
        "undefined": undefined,
    }


def many_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """int (n, L) padded with -1 -> bool (n, K)."""
    result = np.zeros((len(labels), num_classes), bool)
    rows, places = np.nonzero(labels >= 0)
    result[rows, labels[rows, places]] = True
    return result


def _binary_cross_entropy(probabilities: np.ndarray, present: np.ndarray) -> float:
    tiny = np.finfo(np.float32).eps
    right = np.where(present, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, tiny)).mean())
