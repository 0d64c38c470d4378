import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.metrics import topk

SCORES = np.array([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], np.float32)


def test_by_hand():
    labels = np.array([2, 0, 0])
    assert topk.topk_accuracy(SCORES, labels, 1) == pytest.approx(1 / 3)
    assert topk.topk_accuracy(SCORES, labels, 2) == pytest.approx(2 / 3)
    assert topk.topk_accuracy(SCORES, labels, 3) == 1.0


@pytest.mark.parametrize("k", [1, 3, 5])
def test_both_agree_with_sorting_also_with_ties(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 4, (200, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 200)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = float((best == labels[:, None]).any(axis=1).mean())
    assert topk.topk_accuracy(scores, labels, k) == pytest.approx(expected)
    right, count = jax.jit(lambda s, y: topk.topk_sums(s, y, k=k))(scores, labels)
    assert float(right) / float(count) == pytest.approx(expected)
    assert count == 200


def test_a_model_that_scores_all_alike_or_nan_is_not_right():
    labels = np.array([1, 2])
    assert topk.topk_accuracy(np.zeros((2, 3)), labels) == 0.0
    assert topk.topk_accuracy(np.full((2, 3), np.nan), np.array([0, 1])) == 0.0


def test_weights_and_unlabelled_rows():
    right, count = topk.topk_sums(
        jnp.asarray(SCORES), jnp.array([1, -1, 2]), jnp.array([1.0, 1.0, 0.0])
    )
    assert (float(right), float(count)) == (1.0, 1.0)


def test_soft_targets_are_judged_by_their_largest_part():
    targets = jnp.array([[0.0, 0.7, 0.3], [0.1, 0.1, 0.8], [0.0, 0.0, 0.0]])
    right, count = topk.topk_sums(jnp.asarray(SCORES), targets)
    assert (float(right), float(count)) == (1.0, 2.0)
    right, _ = topk.topk_sums(jnp.asarray(SCORES), targets, jnp.array([True, False, True]))
    assert float(right) == 1.0


def test_no_clips_have_no_accuracy():
    assert np.isnan(topk.topk_accuracy(np.zeros((0, 3)), np.zeros(0, int)))


@pytest.mark.parametrize("k", [0, 4])
def test_k_is_among_the_classes(k):
    with pytest.raises(ValueError, match=f"top-{k} of 3 classes: k must be in 1"):
        topk.topk_accuracy(SCORES, np.zeros(3, int), k)
    with pytest.raises(ValueError, match=f"top-{k} of 3 classes"):
        topk.topk_sums(SCORES, np.zeros(3, int), k=k)
