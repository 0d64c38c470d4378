import numpy as np
import pytest

from jaxvid.metrics import confusion


def test_matrix_by_hand():
    matrix = confusion.confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert matrix.dtype == np.int64


def test_per_class_against_counting():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 6, (2, 300))
    got = confusion.per_class(confusion.confusion_matrix(labels, predicted, 6))
    for k in range(6):
        both = np.sum((labels == k) & (predicted == k))
        precision, recall = both / np.sum(predicted == k), both / np.sum(labels == k)
        assert got["precision"][k] == pytest.approx(precision)
        assert got["recall"][k] == pytest.approx(recall)
        assert got["f1"][k] == pytest.approx(2 * precision * recall / (precision + recall))
        assert got["support"][k] == np.sum(labels == k)


def test_what_is_undefined_is_nan_and_nothing_else():
    # class 1 has clips but is never predicted, class 2 is predicted but has none, 3 is neither
    with np.errstate(all="raise"):
        got = confusion.per_class(np.array([[2, 0, 1, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]))
    assert np.isnan(got["precision"]).tolist() == [False, True, False, True]
    assert np.isnan(got["recall"]).tolist() == [False, False, True, True]
    assert np.isnan(got["f1"]).tolist() == [False, False, False, True]
    assert got["f1"][1] == 0.0 and got["precision"][2] == 0.0


def test_mean_class_accuracy_leaves_out_and_lists_classes_without_clips():
    mean, missing = confusion.mean_class_accuracy(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]]))
    assert mean == pytest.approx((3 / 4 + 1 / 2) / 2) and missing == [1]
    mean, missing = confusion.mean_class_accuracy(np.zeros((2, 2), int))
    assert np.isnan(mean) and missing == [0, 1]


def test_wrong_input():
    with pytest.raises(ValueError, match=r"labels have shape \(2,\) and predictions \(3,\)"):
        confusion.confusion_matrix(np.zeros(2, int), np.zeros(3, int), 2)
    with pytest.raises(ValueError, match=r"labels are in -1..1, expected 0..1"):
        confusion.confusion_matrix(np.array([-1, 1]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match=r"predictions are in 0..2, expected 0..1"):
        confusion.confusion_matrix(np.array([0, 1]), np.array([0, 2]), 2)
