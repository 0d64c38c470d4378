"""Every number of an evaluation with several heads: each head's, and that of the action they make
up."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxvid.evaluate.classify import classification_metrics

TOP = 5


def multihead_metrics(
    probabilities: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    class_names: Mapping[str, Sequence[str]],
) -> dict:
    """All metrics as plain Python values, ready for JSON; accuracies are fractions.

    probabilities: {head: float (n, K_head), rows summing to 1}; labels: {head: int (n,)};
    class_names: {head: K_head names}. Returns <head>_top1, <head>_top5, <head>_mean_class_accuracy
    and <head>_loss of each head; action_top1, action_top5: whether the labels of all heads are the
    most, or among the five most probable combinations, the probability of a combination being the
    product of its parts' (Damen et al. 2022, section 4.1); loss: the sum of the heads'; heads: the
    whole table of each, see evaluate/classify.py; undefined.
    """
    tables = {
        head: classification_metrics(probabilities[head], labels[head], class_names[head])
        for head in probabilities
    }
    metrics = {
        f"{head}_{name}": table[name]
        for head, table in tables.items()
        for name in ("top1", "top5", "mean_class_accuracy", "loss")
        if name in table
    }
    places = joint_places(list(probabilities.values()), list(labels.values()))
    return {
        **metrics,
        "action_top1": float((places < 1).mean()),
        f"action_top{TOP}": float((places < TOP).mean()),
        "loss": sum(table["loss"] for table in tables.values()),
        "heads": tables,
        "undefined": [f"{head}: {r}" for head, table in tables.items() for r in table["undefined"]],
    }


def joint_places(probabilities: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> np.ndarray:
    """int (n,): how many combinations are more probable than that of the labels; of equal ones
    those that come first in order of the classes. probabilities: (n, K_i) of each head; labels:
    (n,) of each."""
    places = np.empty(len(labels[0]), np.int64)
    for row in range(len(places)):
        joint = np.ones(1)
        place = 0
        for scores, label in zip(probabilities, labels, strict=True):
            joint = np.multiply.outer(joint, np.asarray(scores[row], np.float64)).ravel()
            place = place * scores.shape[1] + int(label[row])
        own = joint[place]
        places[row] = (joint > own).sum() + (joint[:place] == own).sum()
    return places
