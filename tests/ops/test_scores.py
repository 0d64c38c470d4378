"""Probabilities of every kind against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops.scores import scores
from jaxvid.ops.views import mean_over_views

CHANCES = jnp.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0.5, 0.5]])


def test_probabilities_are_averaged_not_logits():
    of_kind = jax.jit(scores("classify"))
    got = mean_over_views(of_kind(jnp.log(CHANCES)), 2)
    np.testing.assert_allclose(got, [[0.6, 0.4], [0.5, 0.5]], atol=1e-6)


def test_each_class_on_its_own():
    logits = jnp.array([[0.0, np.log(3.0), -100.0]])
    np.testing.assert_allclose(scores("multilabel")(logits), [[0.5, 0.75, 0.0]], atol=1e-6)


def test_each_head_on_its_own():
    logits = jnp.concatenate([jnp.log(CHANCES), jnp.log(jnp.full((4, 3), 7.0))], axis=1)
    got = scores("multihead", (2, 3))(logits)
    np.testing.assert_allclose(got[:, :2], CHANCES, atol=1e-6)
    np.testing.assert_allclose(got[:, 2:], np.full((4, 3), 1 / 3), atol=1e-6)


@pytest.mark.parametrize(
    "kind, heads", [("classify", ()), ("multihead", (1, 1)), ("multilabel", ())]
)
def test_float32_whatever_the_model_computes_in(kind, heads):
    assert scores(kind, heads)(CHANCES.astype(jnp.bfloat16)).dtype == jnp.float32
