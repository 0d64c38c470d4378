"""The correction by labelled clips: it helps, it never hurts the clips it saw, it has a limit."""

import numpy as np
import pytest

from jaxvid.infer import few_shot
from jaxvid.infer.few_shot import Correction, fit


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def separable(rng, per_class, classes=4, width=32):
    """Unit features about one direction a class, and their labels."""
    centres = np.linalg.qr(np.random.default_rng(7).standard_normal((width, classes)))[0].T
    labels = np.repeat(np.arange(classes), per_class)
    noise = 0.1 * rng.standard_normal((len(labels), width))
    return unit(centres[labels] + noise).astype(np.float32), labels, centres


def loss(logits, labels):
    scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -scores[np.arange(len(labels)), labels].mean()


def accuracy(logits, labels):
    return (np.argmax(logits, axis=1) == labels).mean()


def test_it_helps_clips_it_has_not_seen():
    rng = np.random.default_rng(0)
    seen, labels, centres = separable(rng, 4)
    unseen, wanted, _ = separable(rng, 50)
    texts = unit(centres[[1, 0, 2, 3]] + 0.5 * centres)  # the words of two classes are misleading
    zero_shot = lambda x: (5 * x @ texts.T).astype(np.float32)
    found = fit(zero_shot(seen), seen, labels)
    before, after = zero_shot(unseen), found(zero_shot(unseen), unseen)
    assert accuracy(before, wanted) < 0.6 and accuracy(after, wanted) > 0.95
    assert loss(after, wanted) < loss(before, wanted)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("penalty", [1e-3, 0.01, 1.0])
def test_the_clips_it_saw_are_never_worse_off(seed, penalty):
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 12)), int(rng.integers(2, 6))
    features = unit(rng.standard_normal((n, 16))).astype(np.float32)
    logits = (rng.choice([0.1, 5.0, 100.0]) * rng.standard_normal((n, classes))).astype(np.float32)
    labels = rng.integers(0, classes, n)
    found = fit(logits, features, labels, penalty=penalty)
    with np.errstate(over="ignore"):
        wide = logits.astype(np.float64)
        assert loss(found(wide, features), labels) <= loss(wide, labels) + 1e-6


def test_it_is_the_minimum():
    rng = np.random.default_rng(3)
    features, labels, _ = separable(rng, 3)
    logits = rng.standard_normal((len(labels), 4)).astype(np.float32)
    found = fit(logits, features, labels, penalty=0.01)
    # The slope of the mean cross-entropy is what the penalty holds against.
    corrected = found(logits, features)
    odds = np.exp(corrected) / np.exp(corrected).sum(1, keepdims=True) - np.eye(4)[labels]
    np.testing.assert_allclose(features.T @ odds / len(labels), -0.01 * found.weight, atol=2e-6)
    np.testing.assert_allclose(odds.mean(axis=0), -0.01 * found.bias, atol=2e-6)


def test_a_large_penalty_trusts_the_words():
    features, labels, _ = separable(np.random.default_rng(1), 2)
    logits = np.zeros((len(labels), 4), np.float32)
    small, large = (fit(logits, features, labels, penalty=p) for p in (0.01, 100.0))
    assert np.abs(large.weight).max() < 0.01 < np.abs(small.weight).max()


def test_clips_that_need_nothing_change_nothing(monkeypatch):
    calls = few_shot._minimise

    def worse(*args):
        found, before, _ = calls(*args)
        return found, before, before + 1

    monkeypatch.setattr(few_shot, "_minimise", worse)
    features, labels, _ = separable(np.random.default_rng(1), 2)
    found = fit(np.zeros((8, 4)), features, labels)
    assert isinstance(found, Correction) and not found.weight.any() and not found.bias.any()


FEATURES = np.eye(3, 5, dtype=np.float32)


@pytest.mark.parametrize(
    "logits, labels, options, words",
    [
        (np.zeros((0, 2)), np.zeros(0, int), {}, "n above 0"),
        (np.zeros(3), [0, 1, 0], {}, r"logits \(3,\).*expected \(n, K\)"),
        (np.zeros((2, 2)), [0, 1, 0], {}, "not the same number of clips"),
        (np.zeros((3, 2)), [0, 1, 2], {}, "from 0 to 2; expected indices of 2 classes"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], {}, "labels are float64"),
        (
            np.zeros((3, 2)),
            [0, 1, 1],
            {"penalty": 0.0},
            "penalty is 0.0, expected a number above 0",
        ),
    ],
)
def test_what_does_not_fit(logits, labels, options, words):
    with pytest.raises(ValueError, match=words):
        fit(logits, FEATURES[: max(len(labels), 1)], np.asarray(labels), **options)
