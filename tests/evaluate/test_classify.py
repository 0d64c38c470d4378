import json

import numpy as np
import pytest

from jaxvid.evaluate.classify import classification_metrics

FIGHT = ("NonFight", "Fight")


def two(scores):
    scores = np.asarray(scores, np.float32)
    return np.stack([1 - scores, scores], axis=1)


def test_two_classes_by_hand():
    labels = np.array([0, 0, 1, 1])
    got = classification_metrics(two([0.1, 0.4, 0.35, 0.8]), labels, FIGHT)
    assert got["top1"] == 0.75 and "top5" not in got
    assert got["mean_class_accuracy"] == pytest.approx(0.75)
    assert got["loss"] == pytest.approx(-np.log([0.9, 0.6, 0.35, 0.8]).mean(), abs=1e-6)
    assert got["roc_auc"] == pytest.approx(0.75)
    assert got["average_precision"] == pytest.approx(5 / 6)
    assert got["positive_class"] == "Fight"
    assert got["confusion"] == [[2, 0], [1, 1]]
    assert got["per_class"][1] == {
        "class": "Fight",
        "support": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert got["undefined"] == []


def test_many_classes_have_top5_and_no_binary_metrics():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(8), 50)
    labels = rng.integers(0, 8, 50)
    names = [f"c{i}" for i in range(8)]
    got = classification_metrics(probabilities, labels, names)
    best = np.argsort(-probabilities, axis=1)[:, :5]
    assert got["top5"] == pytest.approx((best == labels[:, None]).any(axis=1).mean())
    assert got["top1"] < got["top5"] and "roc_auc" not in got and "positive_class" not in got
    assert np.sum(got["confusion"]) == 50 and len(got["per_class"]) == 8
    assert all(isinstance(got[k], float) for k in ("top1", "top5", "loss", "mean_class_accuracy"))


def test_five_classes_have_no_top5_that_is_always_1():
    got = classification_metrics(np.full((3, 5), 0.2), np.array([0, 1, 2]), "abcde")
    assert "top5" not in got and got["top1"] == pytest.approx(1 / 3)


def test_what_is_undefined_is_none_with_a_reason_and_json_is_strict():
    got = classification_metrics(two([0.1, 0.2]), np.array([0, 0]), FIGHT)
    assert got["roc_auc"] is None and got["average_precision"] is None
    assert got["per_class"][1]["recall"] is None and got["per_class"][1]["f1"] is None
    assert got["mean_class_accuracy"] == 1.0
    assert got["undefined"] == [
        "recall: no clips of Fight (left out of mean_class_accuracy)",
        "roc_auc: all clips are of class NonFight",
        "average_precision: no clips of class Fight",
        "precision: never predicted: Fight",
    ]
    json.dumps(got, allow_nan=False)
    only_positive = classification_metrics(two([0.9]), np.array([1]), FIGHT)
    assert only_positive["average_precision"] == 1.0 and only_positive["roc_auc"] is None


def test_a_probability_of_0_costs_what_float32_can_hold():
    got = classification_metrics(two([1.0]), np.array([0]), FIGHT)
    assert got["loss"] == pytest.approx(87.336, abs=1e-2)


def test_wrong_input_says_what_it_is():
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(n, K\) = \(3, 2\)"):
        classification_metrics(two([0.1, 0.2]), np.array([0, 0, 1]), FIGHT)
    with pytest.raises(ValueError, match="there are no clips to evaluate"):
        classification_metrics(np.zeros((0, 2)), np.zeros(0, int), FIGHT)
    with pytest.raises(ValueError, match=r"1 of 2 clips are not finite \(first: row 1\)"):
        classification_metrics(two([0.1, np.nan]), np.array([0, 0]), FIGHT)
    with pytest.raises(ValueError, match=r"lie in -3..4, expected 0 to 1: .* not logits"):
        classification_metrics(np.array([[-3.0, 4.0]]), np.array([0]), FIGHT)
    with pytest.raises(ValueError, match=r"labels are in -1..0, expected 0..1"):
        classification_metrics(two([0.1, 0.2]), np.array([0, -1]), FIGHT)
