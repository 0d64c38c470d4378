import numpy as np
import pytest

from jaxvid.metrics.roc import roc_auc


def brute_force(labels, scores):
    """Every positive against every negative; a tie is half a win."""
    positives = [s for s, y in zip(scores, labels, strict=True) if y]
    negatives = [s for s, y in zip(scores, labels, strict=True) if not y]
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def test_by_hand():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1], [0.1, 0.9]) == 1.0
    assert roc_auc([1, 0], [0.1, 0.9]) == 0.0
    assert roc_auc([1, 0, 1], [0.3, 0.3, 0.3]) == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_against_all_pairs_with_ties(seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 70), [0, 1])
    scores = rng.integers(0, [2, 4, 20, 10**6][seed % 4], 72) / 7
    assert roc_auc(labels, scores) == pytest.approx(brute_force(labels, scores))


def test_with_one_class_it_is_undefined():
    assert np.isnan(roc_auc([1, 1], [0.1, 0.2])) and np.isnan(roc_auc([0, 0], [0.1, 0.2]))


def test_wrong_input():
    with pytest.raises(ValueError, match=r"labels have shape \(1, 2\)"):
        roc_auc([[0, 1]], [[0.1, 0.2]])
    with pytest.raises(ValueError, match="expected only 0 and 1"):
        roc_auc([-1, 1], [0.1, 0.2])
