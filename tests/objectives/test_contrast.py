"""The contrastive objective: its two halves, rows that do not count, shared texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.metrics.sums import finish
from jaxvid.objectives import classify, contrast

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((4, 4)).astype(np.float32)


def measured(objective, logits, target, weight):
    targets = {"target": jnp.asarray(target, jnp.float32), "weight": jnp.asarray(weight)}
    return finish(jax.jit(objective)({"logits": logits}, targets))


def cross_entropy(logits, target):
    return -(target * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()


def test_alone_it_is_the_cross_entropy_of_x_clips_fine_tuning():
    target = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
    weight = np.array([1.0, 1.0, 0.0, 1.0], np.float32)
    ours = measured(contrast.build(), LOGITS[:, :2], target, weight)
    assert ours == pytest.approx(measured(classify.build(), LOGITS[:, :2], target, weight))


def test_half_and_half_is_clips_symmetric_loss():
    pairs = np.eye(4)
    expected = (cross_entropy(LOGITS, pairs) + cross_entropy(LOGITS.T, pairs)) / 2
    got = measured(contrast.build(text_to_video=0.5), LOGITS, pairs, np.ones(4, np.float32))
    assert got["loss"] == pytest.approx(expected, rel=1e-5)
    assert got["top1"] == pytest.approx((LOGITS.argmax(1) == np.arange(4)).mean())


def test_clips_of_one_text_share_it():
    labels = np.array([0, 1, 1, 1])
    target = np.eye(3)[labels]
    logits = LOGITS[:, :3]
    scores = logits - np.log(np.exp(logits).sum(0))
    expected = -np.mean([scores[i, label] for i, label in enumerate(labels)])
    objective = contrast.build(text_to_video=1.0)
    got = measured(objective, logits, target, np.ones(4, np.float32))
    assert got["loss"] == pytest.approx(expected, rel=1e-5)
    # A text that is true of three clips is content when it likes all three alike.
    best = np.where(target, 50.0, 0.0).astype(np.float32)
    got = measured(objective, best, target, np.ones(4, np.float32))
    assert got["loss"] == pytest.approx(3 / 4 * np.log(3), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_rows_that_do_not_count_are_nobodys_negatives(share):
    objective = contrast.build(text_to_video=share)
    weight = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    target = np.eye(4)[[0, 1, 2, 2]]
    expected = measured(objective, LOGITS[:2], target[:2], weight[:2])
    logits = LOGITS.copy()
    logits[2] = 1e4
    logits[3] = np.nan
    assert measured(objective, logits, target, weight) == pytest.approx(expected, rel=1e-5)

    def loss(logits, weight):
        targets = {"target": jnp.asarray(target, jnp.float32), "weight": jnp.asarray(weight)}
        return objective({"logits": logits}, targets)["loss"][0]

    logits[3] = 1e4
    grads = jax.grad(loss)(jnp.asarray(logits), weight)
    assert np.isfinite(grads).all() and not grads[2:].any() and grads[:2].any()
    grads = jax.grad(loss)(jnp.asarray(logits), np.zeros(4, np.float32))
    assert not grads.any()


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ConfigError, match=f"text_to_video is {share}, expected a share from 0"):
        contrast.build(text_to_video=share)
