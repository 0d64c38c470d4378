"""Which numbers belong to which kind of training: from the rows of an evaluation to its metrics."""

from collections.abc import Mapping

import numpy as np

from jaxvid.core.batch import LABEL
from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import DatasetIndex
from jaxvid.evaluate.classify import classification_metrics
from jaxvid.evaluate.multihead import multihead_metrics
from jaxvid.evaluate.multilabel import multilabel_metrics

Rows = Mapping[str, np.ndarray]


def metrics(kind: str, rows: Rows, index: DatasetIndex) -> dict:
    """All metrics of an evaluation of this kind ("classify", "multilabel", "multihead").

    rows: {"probabilities": float (n, K), "label": int (n, L) padded with -1, or "label_<head>" (n, 1)
    of each head}. Clips without a label are left out of single-label metrics and counted in
    metrics["unlabelled"]. Raises DataError when no clip has a label.
    """
    if kind == "multilabel":
        return multilabel_metrics(rows["probabilities"], rows[LABEL], index.class_names)
    labels = {name: rows[name][:, 0] for name in _label_names(index)}
    known = np.all([x >= 0 for x in labels.values()], axis=0)
    if not known.any():
        raise DataError("none of the clips has a label: there is nothing to compare with")
    labels = {name: x[known] for name, x in labels.items()}
    probabilities = rows["probabilities"][known]
    if kind == "multihead":
        result = _of_heads(probabilities, labels, index)
    else:
        result = classification_metrics(probabilities, labels[LABEL], index.class_names)
    if not known.all():
        result["unlabelled"] = int((~known).sum())
    return result


def any_label(rows: Rows) -> bool:
    """Whether any of these clips has a label, of every head."""
    labels = [x for name, x in rows.items() if name.startswith(LABEL)]
    return bool(np.all([x[:, 0] >= 0 for x in labels], axis=0).any())


def head_parts(index: DatasetIndex) -> dict[str, slice]:
    """{head: its part of the classes}, {} of a set with one list of classes."""
    ends = np.cumsum(list(index.heads.values())).tolist()
    return {
        head: slice(end - size, end)
        for (head, size), end in zip(index.heads.items(), ends, strict=True)
    }


def check_kind(kind: str, index: DatasetIndex, dataset: str) -> None:
    """Raises ConfigError when the objective is not of the kind of labels that the set has."""
    needed = "multihead" if index.heads else "multilabel" if index.multilabel else "classify"
    if kind in (needed, "masked") or (kind == "multilabel" and not index.heads):
        return  # one label, or none, is a number of labels too
    how = {
        "multihead": f"several heads ({', '.join(index.heads)}): set objective.name='multihead'",
        "multilabel": "several labels a clip: set objective.name='multilabel' and eval.metric='mAP'",
        "classify": "one label a clip: set objective.name='classify'",
    }
    raise ConfigError(f"dataset {dataset!r} has {how[needed]}")


def check_metric(kind: str, metric: str, index: DatasetIndex) -> None:
    """Raises UnknownNameError for an eval.metric that an evaluation of this kind does not give of these
    classes."""
    two, more = index.num_classes == 2, index.num_classes > 5
    of_classes = {"top5": more, "roc_auc": two, "average_precision": two}
    known = {
        "classify": [name for name in _CLASSIFY if of_classes.get(name, True)],
        "multilabel": ("mAP", "GAP", "hit1", "loss"),
        "multihead": (
            *("action_top1", "action_top5", "loss"),
            *(f"{head}_{name}" for head in index.heads for name in _OF_HEAD),
        ),
        "masked": ("loss",),
    }[kind]
    if metric not in known:
        what = f"eval.metric of a {kind} training with {index.num_classes} classes"
        raise unknown(what, metric, known)


def check_pooling(kind: str, pooling: str) -> None:
    """Raises ConfigError for an eval.pooling that leaves no probabilities of this kind."""
    if pooling == "max" and kind in ("classify", "multihead"):
        raise ConfigError(
            "eval.pooling='max' is for several labels a clip: the highest of each class over the views "
            "adds up to more than 1 where one label is asked for; use 'mean'"
        )


_OF_HEAD = ("top1", "top5", "mean_class_accuracy", "loss")
_CLASSIFY = (*_OF_HEAD, "roc_auc", "average_precision")


def _label_names(index: DatasetIndex) -> list[str]:
    return [f"{LABEL}_{head}" for head in index.heads] or [LABEL]


def _of_heads(probabilities: np.ndarray, labels: Rows, index: DatasetIndex) -> dict:
    parts = head_parts(index)
    return multihead_metrics(
        {head: probabilities[:, part] for head, part in parts.items()},
        {head: labels[f"{LABEL}_{head}"] for head in parts},
        {head: index.class_names[part] for head, part in parts.items()},
    )
