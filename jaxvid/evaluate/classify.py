"""Every number of a single-label evaluation, from the averaged probabilities of its clips."""

from collections.abc import Sequence

import numpy as np

from jaxvid.metrics.average_precision import average_precision
from jaxvid.metrics.confusion import confusion_matrix, mean_class_accuracy, per_class
from jaxvid.metrics.roc import roc_auc
from jaxvid.metrics.topk import topk_accuracy

_LISTED = 10  # names of a reason, which with hundreds of classes would fill the screen


def classification_metrics(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict:
    """All metrics as plain Python values, ready for JSON; accuracies are fractions.

    probabilities: float (n, K), rows summing to 1; labels: int (n,) in 0..K-1. Returns
        top1, top5 (only with more than 5 classes), mean_class_accuracy, loss (mean negative log
        probability of the label, in nats), with two classes roc_auc and average_precision of
        class 1, named in positive_class;
        per_class: [{"class", "support", "precision", "recall", "f1"}, …];
        confusion: K lists of K counts, row = label, column = prediction;
        undefined: a reason for each value that is None, and for each class left out of a mean.
    Raises ValueError for no clips, other shapes, labels out of range or what is no distribution.
    """
    probabilities = _distributions(probabilities, labels, class_names)
    labels, undefined = np.asarray(labels), []
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    metrics = {"top1": topk_accuracy(probabilities, labels, 1)}
    if len(class_names) > 5:
        metrics["top5"] = topk_accuracy(probabilities, labels, 5)
    metrics["mean_class_accuracy"], without_clips = mean_class_accuracy(matrix)
    metrics["loss"] = _negative_log_likelihood(probabilities, labels)
    if without_clips:
        names = listed([class_names[i] for i in without_clips])
        undefined.append(f"recall: no clips of {names} (left out of mean_class_accuracy)")
    if len(class_names) == 2:
        metrics |= _two_classes(probabilities[:, 1], labels, class_names, undefined)
    metrics["per_class"] = _class_table(matrix, class_names, undefined)
    metrics["confusion"] = matrix.tolist()
    metrics["undefined"] = undefined
    return metrics


def _distributions(probabilities, labels, class_names) -> np.ndarray:
    probabilities = finite_probabilities(probabilities, labels, class_names)
    if np.abs(probabilities.sum(axis=1) - 1).max() > 1e-2:
        raise ValueError(
            f"probabilities sum to {probabilities.sum(axis=1).min():.3g}.."
            f"{probabilities.sum(axis=1).max():.3g} and not to 1 for every clip; expected the mean "
            "softmax over views, not logits"
        )
    return probabilities


def finite_probabilities(probabilities, labels, class_names) -> np.ndarray:
    """float64 (n, K) in 0..1. Raises ValueError for no clips, other shapes and other numbers."""
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}, expected (n, K) = "
            f"({len(labels)}, {len(class_names)}) for the labels and class names given"
        )
    if not len(labels):
        raise ValueError("there are no clips to evaluate")
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"the probabilities of {len(wrong)} of {len(labels)} clips are not finite (first: row "
            f"{wrong[0]}); the weights or the activations of the model overflow"
        )
    if probabilities.min() < 0 or probabilities.max() > 1 + 1e-3:
        raise ValueError(
            f"probabilities lie in {probabilities.min():.3g}..{probabilities.max():.3g}, expected 0 to "
            "1: softmax or sigmoid, not logits"
        )
    return probabilities


def _negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    # Below the smallest normal float32 a softmax on the device is 0: -log of it is 87.3.
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())


def _two_classes(scores, labels, class_names, undefined: list[str]) -> dict:
    present = np.unique(labels)
    if len(present) < 2:
        undefined.append(f"roc_auc: all clips are of class {class_names[present[0]]}")
        if present[0] == 0:
            undefined.append(f"average_precision: no clips of class {class_names[1]}")
    return {
        "roc_auc": or_none(roc_auc(labels, scores)),
        "average_precision": or_none(average_precision(labels, scores)),
        "positive_class": class_names[1],
    }


def _class_table(matrix, class_names, undefined: list[str]) -> list[dict]:
    scores = per_class(matrix)
    never = [class_names[i] for i in np.flatnonzero(matrix.sum(axis=0) == 0)]
    if never:
        undefined.append(f"precision: never predicted: {listed(never)}")
    return [
        {
            "class": name,
            "support": int(scores["support"][i]),
            **{k: or_none(scores[k][i]) for k in ("precision", "recall", "f1")},
        }
        for i, name in enumerate(class_names)
    ]


def listed(names: Sequence[str]) -> str:
    """The first of them in a row, and how many more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def or_none(value: float) -> float | None:
    """None for NaN."""
    return None if np.isnan(value) else float(value)
