"""What the tests of the 3D ResNets have in common; what all models must keep is in test_zoo.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core import lookup

rng = np.random.default_rng(0)
VIDEO = rng.normal(size=(3, 8, 16, 16, 3)).astype(np.float32)
TORCHVISION = {"stem": "backbone/stem"} | {f"layer{i}": f"backbone/stage_{i}" for i in (1, 2, 3, 4)}
PLAIN = {"blocks.0": "backbone/stem"} | {f"blocks.{i}": f"backbone/stage_{i}" for i in (1, 2, 3, 4)}


def pairs_maximum(maps):
    """What PyTorchVideo's pooling makes of stage 1, in its layout."""
    n, t, *rest = maps.shape
    return np.moveaxis(maps.reshape(n, t // 2, 2, *rest).max(2), -1, 1)


POOLED = {
    "blocks.0": "backbone/stem",
    "blocks.1": "backbone/stage_1",
    "blocks.2": ("backbone/stage_1", pairs_maximum),
    **{f"blocks.{i + 1}": f"backbone/stage_{i}" for i in (2, 3, 4)},
}


@functools.cache
def made(name, **overrides):
    """(variables, jitted apply) of a small model; apply: (variables, video, train, key) ->
    (outputs, batch_stats). Weights are noisy, statistics not those of a start: all of it shows."""
    model = jaxvid.create_model(name, variant="test", num_classes=5, **overrides)
    inputs = {"video": VIDEO}
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)
    rng = np.random.default_rng(1)

    def draw(path, shape):
        noise = 0.2 * rng.normal(size=shape.shape).astype(np.float32)
        return 1 + np.abs(noise) if path[-1].key in ("var", "scale") else noise

    variables = jax.tree_util.tree_map_with_path(draw, shapes)

    @functools.partial(jax.jit, static_argnums=2)
    def apply(variables, video, train, key):
        outputs, changed = model.apply(
            variables,
            {"video": video},
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return outputs, changed.get("batch_stats")

    return variables, apply


def count(name, variant, num_classes=400):
    """Parameters of a variant on its own example inputs."""
    module = lookup.module("model", name)
    model = module.build(num_classes, variant=variant)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), module.example_inputs(variant))
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def check_outputs(name, width):
    variables, apply = made(name)
    outputs, _ = apply(variables, VIDEO, False, jax.random.key(0))
    assert outputs["logits"].shape == (3, 5) and outputs["logits"].dtype == jnp.float32
    assert outputs["features"].shape == (3, width) and outputs["features"].dtype == jnp.float32
    head = variables["params"]["head"]
    expected = outputs["features"] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)


def check_options(name):
    """frozen_bn: the statistics stay and are used. Without: they move, those of the batch are used.
    head_dropout: of the logits, in training alone, from the stream "dropout"."""
    key, other = jax.random.split(jax.random.key(0))
    variables, plain = made(name)
    evaluated, _ = plain(variables, VIDEO, False, key)
    trained, stats = plain(variables, VIDEO, True, key)
    moved = jax.tree.map(lambda a, b: np.any(a != b), stats, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    assert np.abs(trained["features"] - evaluated["features"]).max() > 1e-2
    _, frozen = made(name, frozen_bn=True, head_dropout=0.5)
    first, stats = frozen(variables, VIDEO, True, key)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    np.testing.assert_allclose(first["features"], evaluated["features"], rtol=1e-4, atol=1e-4)
    second, _ = frozen(variables, VIDEO, True, other)
    assert np.abs(first["logits"] - second["logits"]).max() > 1e-2


def check_momentum(name):
    """bn_momentum is what stays, bn_epsilon is added to the variance."""
    key = jax.random.key(0)
    variables, plain = made(name)
    _, slow = made(name, bn_momentum=0.99, bn_epsilon=1.0)
    before = variables["batch_stats"]["backbone"]["stem"]["norm"]["mean"]
    steps = [
        apply(variables, VIDEO, True, key)[1]["backbone"]["stem"]["norm"]["mean"] - before
        for apply in (plain, slow)
    ]
    np.testing.assert_allclose(steps[1], steps[0] / 10, rtol=1e-3, atol=1e-6)
    outputs = [apply(variables, VIDEO, False, key)[0]["features"] for apply in (plain, slow)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


def check_wrong_clips(name, frames, size, variant="test", **overrides):
    """No frames in the wrong place, no wrong channels, nothing shorter or smaller than it can see."""
    model = jaxvid.create_model(name, variant=variant, num_classes=5, **overrides)
    init = functools.partial(model.init, train=False)

    def ask(shape):
        video = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(init, jax.random.key(0), {"video": video})

    ask((1, frames, size, size, 3))
    for shape, words in [
        ((8, 32, 32, 3), r"shape \(8, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 8, 32, 32, 2), "2 channels in the last axis"),
        ((1, 3, 8, 32, 32), "32 channels in the last axis"),
        ((1, frames - 1, 32, 32, 3), f"{frames - 1} frames .* needs at least {frames}"),
        ((1, 8, 64, size - 1, 3), f"frames of 64×{size - 1} .* at least {size}×{size}"),
    ]:
        with pytest.raises(ValueError, match=words):
            ask(shape)


def check_stage_lengths(name, field):
    """As many values as stages."""
    model = jaxvid.create_model(name, variant="test", num_classes=5, **{field: (1, 2)})
    init = functools.partial(model.init, train=False)
    with pytest.raises(ValueError, match=rf"{field}=\(1, 2\) has 2 values, .* has 3 stages"):
        jax.eval_shape(init, jax.random.key(0), {"video": VIDEO})


def backwards_differs_by(name):
    variables, apply = made(name)
    key = jax.random.key(0)
    logits = apply(variables, VIDEO, False, key)[0]["logits"]
    other = apply(variables, VIDEO[:, ::-1], False, key)[0]["logits"]
    return float(np.abs(logits - other).max() / np.abs(logits).max())
