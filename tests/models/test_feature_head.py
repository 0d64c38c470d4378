"""The head on features: its mixture of experts, its poolings by hand, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import feature_head

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 6)).astype(np.float32)


def made(x=X, **fields):
    model = feature_head.FeatureHead(4, **fields)
    variables = model.init(jax.random.key(0), {"features": x}, train=False)
    noisy = [v + 0.3 * RNG.normal(size=v.shape) for v in jax.tree.leaves(variables["params"])]
    params = jax.tree.unflatten(jax.tree.structure(variables["params"]), noisy)
    outputs = model.apply({"params": params}, {"features": x}, train=False)
    return params, {name: np.asarray(value) for name, value in outputs.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_logistic_regression_of_the_mean():
    params, got = made()
    mean = unit(X).mean(axis=1)
    np.testing.assert_allclose(got["features"], mean, atol=1e-5)
    expected = mean @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(got["logits"], expected, atol=1e-5)
    raw = made(unit_features=False)[1]["features"]
    np.testing.assert_allclose(raw, X.mean(axis=1), atol=1e-5)


def test_the_mixtures_logits_are_those_of_its_probabilities():
    gates, experts = RNG.normal(size=(3, 4, 3)), RNG.normal(size=(3, 4, 2))
    p = (softmax(gates)[..., :2] * sigmoid(experts)).sum(-1)
    got = feature_head.mixture_logits(jnp.asarray(gates), jnp.asarray(experts))
    np.testing.assert_allclose(sigmoid(np.asarray(got)), p, atol=1e-5)


def test_the_mixtures_gradient_survives_at_the_ends():
    def loss(experts):
        gates = jnp.zeros((1, 1, 3))
        return feature_head.mixture_logits(gates, experts).sum()

    grad = jax.grad(loss)(jnp.full((1, 1, 2), -80.0))
    assert np.isfinite(grad).all() and np.abs(grad).min() > 0.1


def test_a_mixture_of_experts_is_put_together_class_by_class():
    params, got = made(num_experts=2)
    x = got["features"]
    assert "bias" not in params["gate"] and params["gate"]["kernel"].shape == (6, 4 * 3)
    gates = (x @ params["gate"]["kernel"]).reshape(3, 4, 3)
    experts = (x @ params["expert"]["kernel"] + params["expert"]["bias"]).reshape(3, 4, 2)
    p = (softmax(gates)[..., :2] * sigmoid(experts)).sum(-1)
    np.testing.assert_allclose(sigmoid(got["logits"]), p, atol=1e-5)


def test_attention_is_a_weighted_mean_a_head():
    params, got = made(pooling="attention", clusters=2)
    x, score = unit(X), params["pool"]["score"]
    weights = softmax(x @ score["kernel"] + score["bias"], axis=1)  # (N, T, 2)
    expected = np.concatenate([(weights[..., h, None] * x).sum(1) for h in range(2)], axis=1)
    np.testing.assert_allclose(got["features"], expected, atol=1e-5)


def test_netvlad_sums_what_remains_beside_the_centres():
    params, got = made(pooling="netvlad", clusters=2)
    x, pool = unit(X), params["pool"]
    shares = softmax(x @ pool["assign"]["kernel"] + pool["assign"]["bias"])
    rest = x[:, :, None] - pool["centre"]  # (N, T, K, D)
    parts = unit((shares[..., None] * rest).sum(axis=1))
    np.testing.assert_allclose(got["features"], unit(parts.reshape(3, -1)), atol=1e-5)


def test_a_hidden_layer_gates_itself():
    params, got = made(hidden_width=7)
    x = unit(X).mean(axis=1) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    gate = sigmoid(x @ params["gating"]["kernel"] + params["gating"]["bias"])
    np.testing.assert_allclose(got["features"], x * gate, atol=1e-5)


def test_frames_of_zeros_stay_finite():
    zeros = np.zeros((2, 3, 6), np.float32)
    for pooling in feature_head.POOLINGS:
        assert np.isfinite(made(zeros, pooling=pooling)[1]["logits"]).all()


@pytest.mark.parametrize("variant", feature_head.VARIANTS)
def test_sizes_for_youtube8m(variant):
    model = feature_head.build(3862, variant=variant)
    inputs = feature_head.example_inputs(variant)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), inputs)
    count = sum(x.size for x in jax.tree.leaves(shapes))
    expected = {
        "logistic": 1153 * 3862,
        "moe": 1152 * 3862 * 5 + 2 * 3862,  # three gates without bias, two experts with one
    }
    assert count == expected.get(variant, count)


def test_what_it_refuses():
    model = feature_head.build(4, variant="logistic")
    with pytest.raises(ValueError, match="is told video and expects 'features', float"):
        model.init(jax.random.key(0), {"video": X}, train=False)
    with pytest.raises(
        ValueError, match=r"inputs\['features'\] has shape \(3, 6\), expected \(N, T, D"
    ):
        model.init(jax.random.key(0), {"features": X[:, 0]}, train=False)
    with pytest.raises(UnknownNameError, match="unknown pooling of feature_head 'max'"):
        made(pooling="max")
