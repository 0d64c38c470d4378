"""The area under the receiver operating characteristic; numpy only."""

import numpy as np

from jaxvid.metrics.binary import binary_pair


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a positive clip scores above a negative one, a tie counting one half.

    labels 0/1 (n,), scores (n,). NaN when there are no positives or no negatives. Computed from
    mean ranks (the Mann-Whitney statistic), which is the trapezoidal area.
    """
    labels, scores = binary_pair(labels, scores)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2  # ranks from 1; equal scores share their mean
    wins = mean_rank[group][labels].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))
