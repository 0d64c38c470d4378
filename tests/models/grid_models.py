"""What the tests of Video Swin and UniFormer have in common: transformers over stages of maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core import lookup
from jaxvid.metrics.multiply_adds import multiply_adds

rng = np.random.default_rng(0)
VIDEO = rng.normal(size=(2, 8, 32, 32, 3)).astype(np.float32)


@functools.cache
def variables(name, **overrides):
    """Noisy ones of the test variant, so that zero-initialised branches show; scales stay near 1."""
    model = jaxvid.create_model(name, variant="test", num_classes=5, **overrides)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), {"video": VIDEO})
    rng = np.random.default_rng(1)

    def draw(path, x):
        noise = 0.2 * rng.normal(size=x.shape).astype(np.float32)
        return 1 + np.abs(noise) if path[-1].key in ("var", "scale") else noise

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def forward(name, shape, train=False, split=False, **fields):
    """(variables, video, key) -> (outputs, batch_stats); quickly compiled rather than quick."""
    fields = {**fields, "split": True} if split else fields
    model = jaxvid.create_model(name, variant="test", num_classes=5, **fields)

    def run(variables, video, key):
        keys = {"dropout": key}
        inputs = {"video": video}
        return model.apply(variables, inputs, train=train, rngs=keys, mutable=["batch_stats"])

    weights = variables(name, split=True) if split else variables(name)
    video = jax.ShapeDtypeStruct(shape, jnp.float32)
    options = {"xla_backend_optimization_level": 0}
    lowered = jax.jit(run).lower(weights, video, jax.random.key(0))
    return functools.partial(lowered.compile(compiler_options=options), weights)


def run(name, video=VIDEO, key=0, **fields):
    return forward(name, video.shape, **fields)(video, jax.random.key(key))[0]


def measure(name, variant, num_classes=400):
    """(parameters, billions of multiply-adds) on the variant's own input."""
    module = lookup.module("model", name)
    model = module.build(num_classes, variant=variant)
    inputs = module.example_inputs(variant)
    made = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)
    work = multiply_adds(functools.partial(model.apply, train=False), made, inputs)
    return sum(x.size for x in jax.tree.leaves(made["params"])), work / 1e9


def check_outputs(name, places, width):
    outputs = run(name)
    assert {k: (x.shape, x.dtype.name) for k, x in outputs.items()} == {
        "logits": ((2, 5), "float32"),
        "features": ((2, width), "float32"),
        "tokens": ((2, places, width), "float32"),
    }
    np.testing.assert_allclose(outputs["features"], outputs["tokens"].mean(1), atol=1e-5)
    head = variables(name)["params"]["head"]
    expected = outputs["features"] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)
    half = run(name, dtype=jnp.bfloat16)
    assert half["tokens"].dtype == jnp.bfloat16
    assert half["logits"].dtype == half["features"].dtype == jnp.float32
    largest = float(jnp.abs(outputs["features"]).max())
    np.testing.assert_allclose(half["features"], outputs["features"], atol=0.1 * largest)


def check_options(name, **fixed):
    """Dropout and stochastic depth are of training only; remat changes nothing but what is kept."""
    rates = {"dropout": 0.3, "head_dropout": 0.3, "drop_path_rate": 0.5}
    for field, rate in rates.items():
        fields = {**fixed, "train": True, field: rate}
        one, other = (run(name, key=i, **fields)["logits"] for i in (0, 1))
        assert np.abs(one - other).max() > 1e-3, field
    plain = run(name)["logits"]
    np.testing.assert_array_equal(run(name, **rates, **fixed)["logits"], plain)
    fields = {**fixed, "train": True, "remat": True}
    for a, b in zip(
        jax.tree.leaves(forward(name, VIDEO.shape, **fields)(VIDEO, jax.random.key(0))),
        jax.tree.leaves(
            forward(name, VIDEO.shape, **{**fields, "remat": False})(VIDEO, jax.random.key(0))
        ),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(np.abs(b).max())))
    assert "remat" in gradient_of(name, remat=True) and "remat" not in gradient_of(name)


def gradient_of(name, **fields):
    """The program of a gradient, in words."""
    model = jaxvid.create_model(name, variant="test", num_classes=5, **fields)

    def loss(params):
        weights = {**variables(name), "params": params}
        inputs = {"video": VIDEO}
        outputs, _ = model.apply(weights, inputs, train=True, mutable=["batch_stats"])
        return jnp.sum(outputs["logits"])

    return str(jax.make_jaxpr(jax.grad(loss))(variables(name)["params"]))


def check_wrong_clips(name, cases, **fields):
    model = jaxvid.create_model(name, variant="test", num_classes=5, **fields)
    init = functools.partial(model.init, train=False)
    common = [
        ((8, 32, 32, 3), r"shape \(8, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 8, 32, 32, 2), "2 channels in the last axis"),
        ((1, 3, 8, 32, 32), "32 channels in the last axis"),
        ((1, 0, 32, 32, 3), "0 frames .* needs at least 1"),
    ]
    for shape, words in (*common, *cases):
        video = jax.ShapeDtypeStruct(shape, jnp.float32)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(init, jax.random.key(0), {"video": video})


def check_wrong_fields(name, words, **fields):
    model = jaxvid.create_model(name, variant="test", num_classes=5, **fields)
    init = functools.partial(model.init, train=False)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(init, jax.random.key(0), {"video": VIDEO})
