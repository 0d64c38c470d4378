"""Global average precision of rankings small enough to count by hand."""

import numpy as np
import pytest

from jaxvid.metrics import gap
from jaxvid.metrics.average_precision import average_precision
from jaxvid.metrics.gap import global_average_precision


def test_counted_by_hand():
    labels = np.array([[1, 0, 1], [0, 1, 0]])
    scores = np.array([[0.9, 0.8, 0.1], [0.3, 0.7, 0.2]])
    # k=2: 0.9 hit, 0.8 miss, 0.7 hit, 0.3 miss; three labels in all
    assert global_average_precision(labels, scores, k=2) == pytest.approx((1 / 1 + 2 / 3) / 3)
    # k=1: 0.9 hit, 0.7 hit
    assert global_average_precision(labels, scores, k=1) == pytest.approx(2 / 3)


def test_with_all_classes_it_is_the_average_precision_of_everything():
    rng = np.random.default_rng(0)
    labels, scores = rng.random((40, 12)) < 0.2, rng.random((40, 12)).round(2)  # with ties
    assert len(np.unique(scores)) < scores.size
    expected = average_precision(labels.reshape(-1), scores.reshape(-1))
    assert global_average_precision(labels, scores) == pytest.approx(expected)


def test_a_perfect_ranking_is_1_and_equal_scores_do_not_help():
    labels = np.eye(30)[:, :25]
    assert global_average_precision(labels[:25], labels[:25].astype(float)) == 1
    even = np.array([[1, 0], [1, 0]])
    assert global_average_precision(even, np.ones((2, 2)), k=2) == pytest.approx(0.5)


def test_in_batches_as_in_one():
    rng = np.random.default_rng(1)
    labels, scores = rng.random((30, 50)) < 0.1, rng.random((30, 50))
    parts = [gap.best_guesses(labels[i : i + 7], scores[i : i + 7], k=5) for i in range(0, 30, 7)]
    hits, best = (np.concatenate(x) for x in zip(*parts, strict=True))
    assert hits.dtype == bool and hits.shape == best.shape == (150,)
    got = gap.from_guesses(hits, best, positives=int(labels.sum()))
    assert got == pytest.approx(global_average_precision(labels, scores, k=5))


def test_nothing_to_find_is_nan():
    assert np.isnan(global_average_precision(np.zeros((3, 4)), np.ones((3, 4))))


def test_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match=r"labels have shape \(3,\) and scores \(3, 4\), expected"):
        global_average_precision(np.zeros(3), np.ones((3, 4)))
    with pytest.raises(ValueError, match="GAP@0: k must be at least 1"):
        global_average_precision(np.zeros((3, 4)), np.ones((3, 4)), k=0)
