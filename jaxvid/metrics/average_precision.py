"""Average precision: the area under the precision-recall steps, without interpolation; numpy only.

AP = sum over thresholds of (recall_n - recall_{n-1}) · precision_n, each distinct score being one
threshold: scikit-learn's definition, in which clips of equal score enter together.
"""

import numpy as np

from jaxvid.metrics.binary import binary_pair


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """AP of one class, in [0, 1]; labels 0/1 (n,), scores (n,). NaN without a positive clip."""
    labels, scores = binary_pair(labels, scores)
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last of each equal run
    precision = found[ends] / (ends + 1)
    recall = found[ends] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[float, np.ndarray, list[int]]:
    """(mAP, AP of each class (K,), the classes without a positive clip, left out of the mean).

    labels: 0/1 (n, K); scores: (n, K). Of an undefined class the AP is NaN; so is the mAP when
    every class is.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(
            f"labels have shape {labels.shape} and scores {scores.shape}, expected the same (n, K)"
        )
    each = np.array([average_precision(x, y) for x, y in zip(labels.T, scores.T, strict=True)])
    missing = np.flatnonzero(np.isnan(each)).tolist()
    return (float(np.nanmean(each)) if len(missing) < len(each) else float("nan")), each, missing
