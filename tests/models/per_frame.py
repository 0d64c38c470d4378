"""What the tests of the models with a ResNet on every frame have in common.

Compilations are what these tests cost: two of a step and two of an evaluation for each model.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid

CLIP = (4, 16, 16, 3)
BACKBONE = {"stage_sizes": (1, 1), "width": 8}
VIDEO = np.random.default_rng(0).normal(size=(3, *CLIP)).astype(np.float32)
BATCH = np.random.default_rng(1).normal(size=(4, *CLIP)).astype(np.float32)
ORDER = [2, 0, 3, 1]


@functools.cache
def made(name, **overrides):
    """(model, variables, jitted evaluation, jitted training step) of a small model.

    The step: (variables, video, key) -> gradients of the mean square of the logits, new batch_stats.
    """
    fields = BACKBONE | overrides
    model = jaxvid.create_model(name, variant="test", num_classes=5, **fields)
    init = functools.partial(model.init, train=False)
    variables = _drawn(jax.eval_shape(init, jax.random.key(0), {"video": VIDEO}))

    @jax.jit
    def evaluate(variables, video):
        return model.apply(variables, {"video": video}, train=False)

    @jax.jit
    def step(variables, video, key):
        def loss(params):
            outputs, changed = model.apply(
                {**variables, "params": params},
                {"video": video},
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return jnp.mean(jnp.square(outputs["logits"])), (outputs, changed["batch_stats"])

        grads, (outputs, stats) = jax.grad(loss, has_aux=True)(variables["params"])
        return grads, stats, outputs

    return model, variables, evaluate, step


def _drawn(shapes):
    """Numbers for all leaves, by numpy: compiling an initialisation takes longer than these tests."""
    rng = np.random.default_rng(2)

    def one(path, leaf):
        last, noise = path[-1].key, rng.normal(size=leaf.shape).astype(np.float32)
        if noise.ndim > 1:
            return noise * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return np.float32(last in ("scale", "var")) + np.float32(0.1) * noise

    return jax.tree_util.tree_map_with_path(one, shapes)


def count(name, variant, num_classes=2):
    """Parameters of a variant on its own example inputs."""
    module = jaxvid.core.lookup.module("model", name)
    model = module.build(num_classes, variant=variant)
    inputs = module.example_inputs(variant)

    def init():
        zeros = {n: jnp.zeros(x.shape, x.dtype) for n, x in inputs.items()}
        return model.init(jax.random.key(0), zeros, train=False)

    shapes = jax.eval_shape(init)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def reordering_changes_logits_by(name, **overrides):
    _, variables, evaluate, _ = made(name, **overrides)
    logits = evaluate(variables, VIDEO)["logits"]
    return float(np.abs(evaluate(variables, VIDEO[:, ORDER])["logits"] - logits).max())


def check_training(name, **overrides):
    """Training moves all statistics and learns everywhere."""
    _, variables, evaluate, step = made(name, **overrides)
    grads, stats, outputs = step(variables, BATCH, jax.random.key(0))
    before = variables["batch_stats"]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), stats, before)))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    assert np.abs(outputs["logits"] - evaluate(variables, BATCH)["logits"]).max() > 1e-3


def check_options(name, **overrides):
    """frozen_bn: the statistics stay and are used, all else learns. head_dropout: of the logits, in
    training alone, from the stream "dropout"."""
    overrides |= {"frozen_bn": True, "head_dropout": 0.5}
    model, variables, _, step = made(name, **overrides)
    grads, stats, outputs = step(variables, BATCH, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    del overrides["frozen_bn"], overrides["head_dropout"]
    _, _, evaluate, _ = made(name, **overrides)
    plain = evaluate(variables, BATCH)
    np.testing.assert_allclose(outputs["features"], plain["features"], atol=1e-5)
    other = step(variables, BATCH, jax.random.key(1))[2]
    assert np.abs(outputs["logits"] - other["logits"]).max() > 1e-3
    jax.eval_shape(lambda v, x: model.apply(v, {"video": x}, train=False), variables, BATCH)


def check_outputs(name, width, **overrides):
    model, variables, evaluate, _ = made(name, **overrides)
    outputs = evaluate(variables, VIDEO)
    assert outputs["logits"].shape == (3, 5) and outputs["logits"].dtype == jnp.float32
    assert outputs["features"].shape == (3, width) and outputs["features"].dtype == jnp.float32
    run = jax.jit(lambda v, x: model.clone(dtype=jnp.bfloat16).apply(v, x, train=False))
    half = run(variables, {"video": VIDEO})
    assert half["logits"].dtype == half["features"].dtype == jnp.float32
    np.testing.assert_allclose(half["logits"], outputs["logits"], atol=0.1)
    assert np.abs(half["logits"] - outputs["logits"]).max() > 0  # it did compute in bfloat16


def check_wrong_clips(name, **overrides):
    """No frames in the wrong place, no wrong channels, nothing smaller than the strides."""
    model, variables, _, _ = made(name, **overrides)
    for shape, words in [
        ((4, 16, 16, 3), r"shape \(4, 16, 16, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 4, 16, 16, 1), "1 channels in the last axis"),
        ((1, 3, 4, 16, 16), "16 channels in the last axis"),
        ((1, 0, 16, 16, 3), "0 frames .* needs at least 1"),
        ((1, 4, 16, 3, 3), "frames of 16×3 .* needs at least 4×4"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.apply(variables, {"video": jnp.zeros(shape)}, train=False)
