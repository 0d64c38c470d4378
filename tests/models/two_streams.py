"""What the tests of the models with a stream of pixels and one of optical flow have in common.

What every model must keep (gradients everywhere, statistics that move, …) is in test_zoo.py.
"""

import functools

import jax
import numpy as np
import pytest

from jaxvid.core import lookup

RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((2, 8, 32, 32, 3), dtype=np.float32)
FLOW = RNG.uniform(-1, 1, (2, 8, 32, 32, 2)).astype(np.float32)
INPUTS = {"video": VIDEO, "flow": FLOW}
CLASSES = 5


@functools.cache
def made(name, **fields):
    """(variables, jitted forward pass: (variables, inputs) -> outputs) of the small model."""
    model = lookup.module("model", name).build(CLASSES, variant="test", **fields)
    forward = jax.jit(functools.partial(model.apply, train=False))
    return drawn(model), forward


def drawn(model):
    """Weights as large as those of a start, made by numpy: nothing is compiled for them."""
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), INPUTS)
    rng = np.random.default_rng(1)

    def draw(path, shape):
        noise = rng.standard_normal(shape.shape, dtype=np.float32)
        if path[-1].key in ("var", "scale"):
            return 1 + 0.1 * np.abs(noise)
        fan_in = np.prod(shape.shape[:-1]) if path[-1].key == "kernel" else 100
        return noise * np.float32(np.sqrt(2 / fan_in))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def in_training(name, **fields):
    """(logits of one clip batch with two keys of dropout, statistics before, after)"""
    model = lookup.module("model", name).build(CLASSES, variant="test", **fields)
    variables = drawn(model)

    @jax.jit
    def train(key):
        outputs, changed = model.apply(
            variables, INPUTS, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs["logits"], changed["batch_stats"]

    one, after = train(jax.random.key(0))
    other, _ = train(jax.random.key(1))
    return (one, other), variables["batch_stats"], after


WRONG_INPUTS = [
    ({"flow": None}, "inputs has 'video' and no 'flow'.*set data.flow to 'tvl1' or 'dis'"),
    ({"flow": FLOW[..., :1]}, r"inputs\['flow'\] .* 1 channels in the last axis"),
    ({"flow": FLOW[:, :4]}, r"\(2, 8, 32, 32, 3\) and inputs\['flow'\] \(2, 4, 32, 32, 2\): exp"),
    ({"flow": FLOW[:, :, :16]}, "expected the same clips, frames, height and width"),
    ({"video": VIDEO[..., :2]}, r"inputs\['video'\] .* 2 channels in the last axis"),
    ({"video": VIDEO[:, :1], "flow": FLOW[:, :1]}, "1 frames.*needs at least .*data.num_frames"),
    ({"video": VIDEO[:, :, :4, :4], "flow": FLOW[:, :, :4, :4]}, "needs at least .*data.size"),
]


def check_wrong_inputs(name, change, words):
    inputs = {key: x for key, x in (INPUTS | change).items() if x is not None}
    variables, forward = made(name)
    with pytest.raises(ValueError, match=words):
        forward(variables, inputs)
