import numpy as np
import pytest

from jaxvid.metrics.average_precision import average_precision, mean_average_precision


def brute_force(labels, scores):
    """The definition, threshold by threshold: sum of (recall step) x precision."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [y for y, s in zip(labels, scores, strict=True) if s >= threshold]
        recall = sum(taken) / sum(labels)
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    return total


def test_by_hand():
    # scikit-learn's own example: 0.8333…
    assert average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(5 / 6)
    assert average_precision([1, 0], [0.9, 0.1]) == 1.0
    assert average_precision([0, 1], [0.9, 0.1]) == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_against_the_definition_with_ties(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    scores = rng.integers(0, [2, 5, 10, 1000][seed % 4], 60) / 10
    labels[0] = 1
    assert average_precision(labels, scores) == pytest.approx(brute_force(labels, scores))


def test_equal_scores_are_worth_the_share_of_positives_in_any_order():
    labels = np.array([1, 0, 0, 1, 0])
    for order in (slice(None), slice(None, None, -1)):
        assert average_precision(labels[order], np.zeros(5)) == pytest.approx(0.4)


def test_without_a_positive_it_is_undefined():
    assert np.isnan(average_precision([0, 0], [0.1, 0.2]))
    assert np.isnan(average_precision([], []))


def test_map_leaves_out_and_lists_classes_without_positives():
    labels = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.3, 0.8], [0.8, 0.2, 0.6], [0.7, 0.1, 0.4]])
    mean, each, missing = mean_average_precision(labels, scores)
    first, third = brute_force(labels[:, 0], scores[:, 0]), brute_force(labels[:, 2], scores[:, 2])
    assert missing == [1] and np.isnan(each[1])
    assert mean == pytest.approx((first + third) / 2)
    mean, _, missing = mean_average_precision(np.zeros((2, 2)), np.zeros((2, 2)))
    assert np.isnan(mean) and missing == [0, 1]


def test_wrong_input():
    with pytest.raises(ValueError, match=r"labels have shape \(2,\) and scores \(3,\)"):
        average_precision([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"labels hold \[0, 2\], expected only 0 and 1"):
        average_precision([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        average_precision([0, 1], [np.nan, 0.2])
    with pytest.raises(ValueError, match=r"expected the same \(n, K\)"):
        mean_average_precision(np.zeros((2, 3)), np.zeros((2, 2)))
