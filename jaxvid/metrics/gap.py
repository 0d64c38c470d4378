"""Global average precision, YouTube-8M's measure: one ranking of the best guesses of all videos.

Abu-El-Haija et al. 2016, section 5.1 (GAP@20 since the first Kaggle challenge): of each video the k
classes of highest score, all of them in one list by score; the average precision of that list, counted
against every label there is, also those that no list has.
"""

import numpy as np


def global_average_precision(labels: np.ndarray, scores: np.ndarray, *, k: int = 20) -> float:
    """GAP@k in [0, 1]; labels 0/1 (n, K), scores (n, K). NaN when no video has a label.

    Guesses of equal score enter together, as in `average_precision`. Raises ValueError for arrays that
    do not fit and k below 1.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(
            f"labels have shape {labels.shape} and scores {scores.shape}, expected the same (n, K)"
        )
    return from_guesses(*best_guesses(labels, scores, k=k), positives=int(np.sum(labels > 0)))


def best_guesses(
    labels: np.ndarray, scores: np.ndarray, *, k: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """(hits bool, scores) of the k best classes of each video, both (n · min(k, K),), for sets too
    large to hold all scores: keep these of every batch. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"GAP@{k}: k must be at least 1")
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    hits = np.take_along_axis(labels, best, axis=1) > 0
    return hits.reshape(-1), np.take_along_axis(scores, best, axis=1).reshape(-1)


def from_guesses(hits: np.ndarray, scores: np.ndarray, *, positives: int) -> float:
    """GAP of guesses (m,) of all videos, of which `positives` is the number of labels. NaN for 0."""
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last of each equal run
    precision = found[ends] / (ends + 1)
    return float(np.sum(np.diff(found[ends], prepend=0) * precision) / positives)
