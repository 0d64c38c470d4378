import csv
import json

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.evaluate import by_kind, report
from jaxvid.evaluate.multihead import joint_places, multihead_metrics
from jaxvid.evaluate.multilabel import multilabel_metrics

NAMES = ("hold", "sit", "run")
LABELS = np.array([[0, 1], [1, -1], [-1, -1], [2, 0]])
SCORES = np.array([[0.9, 0.6, 0.2], [0.7, 0.3, 0.1], [0.1, 0.2, 0.3], [0.3, 0.1, 0.8]])


def index(labels, names=NAMES, **kind):
    records = (VideoRecord(f"{i}.mp4", str(i), lab) for i, lab in enumerate(labels))
    return DatasetIndex(tuple(records), tuple(names), **kind)


def test_multilabel_numbers_by_hand():
    got = multilabel_metrics(SCORES, LABELS, NAMES)
    # hold: clips 0, 3 are positive, ranked 1 and 3. sit: 0, 1, ranked 1, 2. run: 3, ranked 1.
    each = [(1 + 2 / 3) / 2, 1.0, 1.0]
    assert [row["average_precision"] for row in got["per_class"]] == pytest.approx(each)
    assert [row["support"] for row in got["per_class"]] == [2, 2, 1]
    assert got["mAP"] == pytest.approx(np.mean(each))
    assert got["hit1"] == pytest.approx(2 / 3)  # clip 1 is taken for hold; clip 2 has no label
    present = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
    loss = -np.log(np.where(present, SCORES, 1 - SCORES)).mean()
    assert got["loss"] == pytest.approx(loss)
    # All guesses by score: hits at ranks 1, 2, 4, 5.., of five labels.
    order = np.argsort(-SCORES.ravel(), kind="stable")
    hits = present.ravel()[order]
    assert 0 < got["GAP"] <= 1 and hits[0] == 1
    assert got["undefined"] == []


def test_a_class_without_clips_and_a_set_without_labels_are_said():
    got = multilabel_metrics(SCORES[:2], LABELS[:2], NAMES)
    assert got["undefined"] == ["average_precision: no clips of run (left out of mAP)"]
    assert got["per_class"][2]["average_precision"] is None
    got = multilabel_metrics(SCORES[2:3], LABELS[2:3], NAMES)
    assert got["mAP"] is got["GAP"] is got["hit1"] is None
    assert "hit1, GAP: no clip has a label" in got["undefined"]


def test_multihead_numbers_by_hand():
    verb = np.array([[0.6, 0.4], [0.5, 0.5], [0.1, 0.9]])
    noun = np.array([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0.3, 0.3, 0.4]])
    labels = {"verb": np.array([0, 1, 1]), "noun": np.array([1, 0, 0])}
    got = multihead_metrics(
        {"verb": verb, "noun": noun}, labels, {"verb": ("a", "b"), "noun": ("x", "y", "z")}
    )
    assert got["verb_top1"] == pytest.approx(2 / 3)  # clip 1 is a tie, which the first class wins
    assert got["noun_top1"] == pytest.approx(2 / 3)
    assert got["action_top1"] == pytest.approx(1 / 3)
    assert got["action_top5"] == 1.0
    assert got["loss"] == pytest.approx(got["verb_loss"] + got["noun_loss"])
    assert got["heads"]["noun"]["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert "noun: recall: no clips of z (left out of mean_class_accuracy)" in got["undefined"]


def test_places_of_actions_are_those_of_the_whole_table_of_products():
    rng = np.random.default_rng(0)
    parts = [rng.dirichlet(np.ones(k), 20) for k in (4, 5)]
    labels = [rng.integers(0, k, 20) for k in (4, 5)]
    joint = np.einsum("ni,nj->nij", *parts).reshape(20, -1)
    ranks = (-joint).argsort(axis=1).argsort(axis=1)
    expected = ranks[np.arange(20), labels[0] * 5 + labels[1]]
    np.testing.assert_array_equal(joint_places(parts, labels), expected)


def test_rows_are_measured_by_their_kind_and_clips_without_a_label_are_counted():
    one = index([(0,), (2,), ()])
    rows = {"label": np.array([[0], [2], [-1]]), "probabilities": np.eye(3)}
    got = by_kind.metrics("classify", rows, one)
    assert got["top1"] == 0.5 and got["unlabelled"] == 1
    several = index([(0, 1), (1,), (), (2, 0)], multilabel=True)
    got = by_kind.metrics("multilabel", {"label": LABELS, "probabilities": SCORES}, several)
    assert got["hit1"] == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="none of the clips has a label"):
        by_kind.metrics(
            "classify", {"label": -np.ones((3, 1), int), "probabilities": np.eye(3)}, one
        )


def heads_case():
    heads = index(
        [(0, 2), (1, 0)], ("take", "put", "cup", "pan", "lid"), heads={"verb": 2, "noun": 3}
    )
    rows = {
        "row": np.arange(2),
        "label_verb": np.array([[0], [1]]),
        "label_noun": np.array([[2], [0]]),
        "probabilities": np.array([[0.9, 0.1, 0.1, 0.2, 0.7], [0.8, 0.2, 0.5, 0.3, 0.2]]),
    }
    return heads, rows


def test_heads_have_their_own_files(tmp_path):
    heads, rows = heads_case()
    metrics = by_kind.metrics("multihead", rows, heads)
    assert metrics["action_top1"] == 0.5
    assert (metrics["verb_top1"], metrics["noun_top1"]) == (0.5, 1.0)
    result = {"split": "val", "n": 2, "step": 3, "checkpoint": "w", "protocol": {}}
    result["metrics"] = metrics
    report.write_evaluation(tmp_path, result, index=heads, rows=rows)
    lines = list(csv.DictReader((tmp_path / "eval" / "val_noun_predictions.csv").open()))
    assert [(x["label"], x["predicted"], x["correct"]) for x in lines] == [
        ("lid", "lid", "1"),
        ("cup", "cup", "1"),
    ]
    assert (tmp_path / "eval" / "val_verb_confusion.png").is_file()
    stored = json.loads((tmp_path / "eval" / "val.json").read_text())
    assert stored["metrics"]["heads"]["verb"]["confusion"] == [[1, 0], [1, 0]]
    text = report.summary(result)
    assert "action_top1" in text and "\nverb\nclass" in text


def test_several_labels_are_joined_in_the_table_of_predictions(tmp_path):
    several = index([(0, 1), (1,), (), (2, 0)], multilabel=True)
    rows = {"row": np.arange(4), "label": LABELS, "probabilities": SCORES}
    result = {"split": "val", "n": 4, "step": 3, "checkpoint": "w", "protocol": {}}
    result["metrics"] = by_kind.metrics("multilabel", rows, several)
    report.write_evaluation(tmp_path, result, index=several, rows=rows)
    lines = list(csv.DictReader((tmp_path / "eval" / "val_predictions.csv").open()))
    assert [(x["label"], x["correct"]) for x in lines] == [
        ("hold;sit", "1"),
        ("sit", "0"),
        ("", ""),
        ("run;hold", "1"),
    ]
    assert "average_precision" in report.summary(result)


def test_the_objective_has_to_fit_the_labels():
    several, heads = index([(0, 1)], multilabel=True), heads_case()[0]
    by_kind.check_kind("multilabel", several, "charades")
    by_kind.check_kind("masked", several, "charades")
    with pytest.raises(
        ConfigError, match="'charades' has several labels a clip: set objective.name"
    ):
        by_kind.check_kind("classify", several, "charades")
    with pytest.raises(
        ConfigError, match=r"several heads \(verb, noun\): set objective.name='multihead'"
    ):
        by_kind.check_kind("classify", heads, "epic")
    with pytest.raises(ConfigError, match="'rwf2000' has one label a clip"):
        by_kind.check_kind("multihead", index([(0,)]), "rwf2000")


def test_a_metric_that_no_evaluation_gives_is_named_before_training():
    several, two = index([(0,)]), index([(0,)], names=("a", "b"))
    six = index([(0,)], names="abcdef")
    by_kind.check_metric("multihead", "verb_top1", heads_case()[0])
    by_kind.check_metric("classify", "mean_class_accuracy", several)
    by_kind.check_metric("classify", "roc_auc", two)
    by_kind.check_metric("classify", "top5", six)
    with pytest.raises(
        UnknownNameError,
        match="eval.metric of a multilabel training with 3 classes 'map'.*GAP.*mAP",
    ):
        by_kind.check_metric("multilabel", "map", several)
    for metric, classes in (("roc_auc", several), ("average_precision", six), ("top5", two)):
        with pytest.raises(UnknownNameError, match=f"classes '{metric}'"):
            by_kind.check_metric("classify", metric, classes)


def test_whether_any_clip_has_a_label_of_every_head():
    some, none = np.array([[3], [-1]]), np.array([[-1], [2]])
    assert by_kind.any_label({"label": some})
    assert not by_kind.any_label({"label": none[:1]})
    assert not by_kind.any_label({"label_verb": some, "label_noun": none})
    assert not by_kind.any_label({"label": some[:0]})


def test_the_highest_of_the_views_is_for_several_labels():
    views = np.array([[0.9, 0.1], [0.2, 0.8]])  # of one clip, over which "max" has more than 1
    with pytest.raises(ValueError, match="sum to 1.7"):
        by_kind.metrics(
            "classify",
            {"probabilities": views.max(axis=0)[None], "label": np.array([[0]])},
            index([(0,)], NAMES[:2]),
        )
    for kind in ("classify", "multihead"):
        by_kind.check_pooling(kind, "mean")
        with pytest.raises(ConfigError, match="eval.pooling='max' is for several labels a clip"):
            by_kind.check_pooling(kind, "max")
    for kind in ("multilabel", "masked"):
        by_kind.check_pooling(kind, "max")
