import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.metrics.sums import finish
from jaxvid.objectives import classify, multihead, multilabel


def case(classes=5, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    return logits, labels, np.eye(classes, dtype=np.float32)[labels]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def measured(objective, logits, target, weight):
    targets = {"target": jnp.asarray(target), "weight": jnp.asarray(weight, jnp.float32)}
    return finish(jax.jit(objective)({"logits": jnp.asarray(logits)}, targets))


def test_cross_entropy_counts_what_weighs():
    logits, labels, target = case()
    weight = np.array([1, 1, 0, 1, 0, 1.0])
    got = measured(classify.build(), logits, target, weight)
    own = -log_softmax(logits)[np.arange(6), labels]
    assert got["loss"] == pytest.approx((own * weight).sum() / 4, rel=1e-5)
    assert got["top1"] == pytest.approx(((logits.argmax(1) == labels) * weight).sum() / 4)


def test_class_weights_are_torch_s_weighted_mean():
    logits, labels, target = case()
    factors = np.array([0.5, 2.0, 1.0, 3.0, 0.1], np.float32)
    got = measured(classify.build(class_weights=tuple(factors)), logits, target, np.ones(6))
    own = -log_softmax(logits)[np.arange(6), labels] * factors[labels]
    assert got["loss"] == pytest.approx(own.sum() / factors[labels].sum(), rel=1e-5)
    assert got["top1"] == pytest.approx((logits.argmax(1) == labels).mean())


def test_multilabel_is_binary_cross_entropy_of_each_class():
    logits, _, _ = case()
    target = (np.random.default_rng(1).random((6, 5)) < 0.4).astype(np.float32)
    target[2] = 0  # nothing to be seen: it teaches, but has no best class
    target[0, logits[0].argmax()] = 1
    p = 1 / (1 + np.exp(-logits))
    each = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    got = measured(multilabel.build(), logits, target, np.ones(6))
    assert got["loss"] == pytest.approx(each.mean(), rel=1e-5)
    labelled = target.any(axis=1)
    hits = target[np.arange(6), logits.argmax(1)]
    assert got["hit1"] == pytest.approx(hits[labelled].mean())
    heavier = -(3 * target * np.log(p) + (1 - target) * np.log(1 - p))
    got = measured(multilabel.build(positive_weight=3.0), logits, target, np.ones(6))
    assert got["loss"] == pytest.approx(heavier.mean(), rel=1e-5)


def test_multihead_adds_the_heads_up_and_wants_all_of_them_right():
    verb_logits, verbs, verb_target = case(3, seed=3)
    noun_logits, nouns, noun_target = case(4, seed=4)
    logits = np.concatenate([verb_logits, noun_logits], axis=1)
    target = np.concatenate([verb_target, noun_target], axis=1)
    objective = multihead.build(heads={"verb": 3, "noun": 4})
    got = measured(objective, logits, target, np.ones(6))
    rows = np.arange(6)
    loss = -log_softmax(verb_logits)[rows, verbs] - log_softmax(noun_logits)[rows, nouns]
    verb_hits, noun_hits = verb_logits.argmax(1) == verbs, noun_logits.argmax(1) == nouns
    assert got["loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert got["top1_verb"] == pytest.approx(verb_hits.mean())
    assert got["top1_noun"] == pytest.approx(noun_hits.mean())
    assert got["top1"] == pytest.approx((verb_hits & noun_hits).mean())
    factors = (2.0, 1.0, 1.0) + (1.0,) * 4
    weighed = multihead.build(heads={"verb": 3, "noun": 4}, class_weights=factors)
    loss -= (verbs == 0) * log_softmax(verb_logits)[rows, verbs]
    assert measured(weighed, logits, target, np.ones(6))["loss"] == pytest.approx(
        loss.mean(), rel=1e-5
    )


def test_a_head_without_a_label_is_never_right():
    logits = np.zeros((2, 5), np.float32)  # every head says class 0
    target = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 1, 0]], np.float32)
    got = measured(multihead.build(heads={"verb": 2, "noun": 3}), logits, target, np.ones(2))
    assert (got["top1_verb"], got["top1_noun"], got["top1"]) == (1.0, 0.0, 0.0)
    assert got["loss"] == pytest.approx((2 * np.log(2) + np.log(3)) / 2)


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="positive_weight is 0, expected a number above 0"):
        multilabel.build(positive_weight=0)
    with pytest.raises(ConfigError, match="'multihead' is for sets with several heads"):
        multihead.build(heads={})
