"""What two-class ranking metrics are given: labels 0 or 1, and a score that grows with 1."""

import numpy as np


def binary_pair(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool (n,), float64 (n,)); raises ValueError for other shapes, labels or a NaN score."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"labels have shape {labels.shape} and scores {scores.shape}, expected the same (n,)"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"labels hold {np.unique(labels)[:5].tolist()}, expected only 0 and 1 (1 = positive)"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN; they cannot be ranked"
        )
    return labels.astype(bool), scores
