"""The confusion matrix of single-label classification and what follows from it; numpy only.

A ratio without a denominator is undefined: NaN here, never 0, and left out of every mean.
"""

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (K, K): [i, j] is the number of clips of class i that were predicted as class j.

    labels, predicted: int (n,) in 0..K-1; ValueError otherwise.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1:
        raise ValueError(
            f"labels have shape {labels.shape} and predictions {predicted.shape}, "
            "expected the same (n,)"
        )
    for what, values in (("labels", labels), ("predictions", predicted)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(
                f"{what} are in {values.min()}..{values.max()}, expected 0..{num_classes - 1}"
            )
    flat = labels.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """{"precision", "recall", "f1": float64 (K,), "support": int64 (K,)} of a confusion matrix.

    recall is NaN for a class without clips, precision for a class that was never predicted, f1
    for a class that is both.
    """
    right = np.diagonal(matrix).astype(np.float64)
    support, claimed = matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        "precision": _ratio(right, claimed),
        "recall": _ratio(right, support),
        "f1": _ratio(2 * right, support + claimed),
        "support": support,
    }


def mean_class_accuracy(matrix: np.ndarray) -> tuple[float, list[int]]:
    """(mean recall of the classes that have clips, the classes that have none)."""
    recall = per_class(matrix)["recall"]
    missing = np.flatnonzero(np.isnan(recall)).tolist()
    return (float(np.nanmean(recall)) if len(missing) < len(recall) else float("nan")), missing


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
