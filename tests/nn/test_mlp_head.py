"""The perceptron of the per-frame models."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.mlp_head import MlpHead

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)


def test_three_layers_with_two_relus():
    head = MlpHead(4, projection_width=6, hidden_width=5)
    variables = head.init(jax.random.key(0), X, train=False)
    logits, hidden = head.apply(variables, X, train=False)
    p = jax.tree.map(np.asarray, variables["params"])
    y = np.maximum(X @ p["projection"]["kernel"] + p["projection"]["bias"], 0)
    y = np.maximum(y @ p["fc"]["kernel"] + p["fc"]["bias"], 0)
    np.testing.assert_allclose(hidden, y, atol=1e-6)
    np.testing.assert_allclose(logits, y @ p["head"]["kernel"] + p["head"]["bias"], atol=1e-6)
    assert logits.shape == (2, 3, 4)


def test_dropout_stands_before_the_head():
    head = MlpHead(4, 6, 5, dropout=0.5)
    variables = head.init(jax.random.key(0), X, train=False)
    _, hidden = head.apply(variables, X, train=False)
    logits, seen = head.apply(variables, X, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(seen, hidden)
    assert np.abs(logits - head.apply(variables, X, train=False)[0]).max() > 1e-3


def test_layers_start_as_torchs():
    head = MlpHead(4, 256, 128)
    variables = head.init(jax.random.key(0), jnp.zeros((1, 64)), train=False)
    kernel = np.asarray(variables["params"]["projection"]["kernel"])
    assert 0.9 / 8 < np.abs(kernel).max() <= 1 / 8  # uniform within 1 / sqrt(64)
