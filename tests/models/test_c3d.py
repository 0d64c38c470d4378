"""C3D: the reference's numbers, sizes, the clips its linear layers fix, options."""

import functools
import math
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxvid.models import c3d
from jaxvid.nn.pool import max_pool

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def pooled(window):
    """ReLU and a pool, channels first."""
    return lambda x: np.moveaxis(
        np.asarray(max_pool(nn.relu(x), window, strides=window, padding="VALID")), -1, 1
    )


PROBES = {  # of the reference -> module of ours, and what the reference does to its output
    "backbone.pool1": ("backbone/conv_1a", pooled((1, 2, 2))),
    "backbone.pool3": ("backbone/conv_3b", pooled((2, 2, 2))),
    "backbone.pool5": "backbone",
    "backbone.fc6": "fc_6",
    "backbone.fc7": "fc_7",
}


def test_the_references_numbers():
    check.check_golden("mmaction_c3d", "mmaction/c3d", PROBES)


def shapes(model, clip):
    inputs = {"video": jax.ShapeDtypeStruct(clip, np.float32)}
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)


@pytest.mark.parametrize(
    "size, num_classes, expected",
    [(112, 101, 78_409_573), (112, 487, 78_409_573 + 386 * 4097), (64, 10, 63_356_682)],
)
def test_parameters_are_as_many_as_published(size, num_classes, expected):
    tree = shapes(c3d.build(num_classes), (1, 16, size, size, 3))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(tree["params"])) == expected
    assert "batch_stats" not in tree


# --- the small one --------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 8, 32, 32, 3), dtype=np.float32)


def small(**fields):
    return c3d.build(5, variant="test", **fields)


def start(model, inputs):
    """Variables of the right shapes, their numbers such that nothing dies out."""
    tree = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)
    rng = np.random.default_rng(1)

    def number(path, leaf):
        noise = rng.standard_normal(leaf.shape, dtype=np.float32)
        if path[-1].key == "kernel":
            return noise * np.sqrt(2 / math.prod(leaf.shape[:-1])).astype(np.float32)
        return 0.1 * noise + (path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(number, tree)


@functools.cache
def forward(model):
    return jax.jit(functools.partial(model.apply, train=False))


@functools.cache
def step(model):
    def train(variables, key):
        rngs = {"dropout": key}
        return model.apply(
            variables, {"video": VIDEO}, train=True, rngs=rngs, mutable=["batch_stats"]
        )

    return jax.jit(train)


@pytest.fixture(scope="module")
def variables():
    return start(small(), {"video": VIDEO})


def test_outputs(variables):
    found = {
        name: (x.shape, x.dtype.name)
        for name, x in forward(small())(variables, {"video": VIDEO}).items()
    }
    assert found == {"logits": ((2, 5), "float32"), "features": ((2, 64), "float32")}


def evaluated(variables, shape):
    inputs = {"video": jax.ShapeDtypeStruct(shape, np.float32)}
    return jax.eval_shape(functools.partial(small().apply, train=False), variables, inputs)


def test_the_clips_of_the_start_fix_the_size(variables):
    # The last map is 2×5×5 places of 48 channels; a pixel more on a side does not change it.
    assert variables["params"]["fc_6"]["kernel"].shape == (2 * 5 * 5 * 48, 64)
    assert evaluated(variables, (1, 8, 33, 33, 3))["logits"].shape == (1, 5)
    for shape, places in (((1, 8, 48, 48, 3), "2×7×7"), ((1, 16, 32, 32, 3), "4×5×5")):
        message = (
            rf"{places} places, but the weights of C3D's first linear layer are for 50 places: give "
            ".*16×112×112 in the paper"
        )
        with pytest.raises(ValueError, match=message):
            evaluated(variables, shape)
    larger = shapes(small(), (1, 8, 48, 48, 3))
    assert larger["params"]["fc_6"]["kernel"].shape == (2 * 7 * 7 * 48, 64)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((16, 112, 112, 3), r"shape \(16, 112, 112, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 16, 112, 112, 1), "1 channels in the last axis"),
        ((1, 15, 112, 112, 3), "15 frames .* at least 16"),
        ((1, 16, 15, 112, 3), "frames of 15×112 .* at least 16×16"),
    ],
)
def test_clips_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        shapes(c3d.build(5), shape)


def test_a_norm_takes_the_place_of_the_bias():
    names = {
        normed: set(shapes(small(batch_norm=normed), VIDEO.shape)["params"]["backbone"])
        for normed in (True, False)
    }
    convolutions = {"conv_1a", "conv_2a", "conv_3a", "conv_3b"}
    assert names[False] == convolutions
    assert names[True] == convolutions | {name.replace("conv", "norm") for name in convolutions}
    plain = shapes(small(batch_norm=False), VIDEO.shape)["params"]["backbone"]["conv_1a"]
    normed = shapes(small(), VIDEO.shape)["params"]["backbone"]["conv_1a"]
    assert set(plain) == {"kernel", "bias"} and set(normed) == {"kernel"}


def test_training_updates_the_statistics(variables):
    _, changed = step(small())(variables, jax.random.key(1))
    before, after = jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(changed)
    assert len(after) == len(before) > 0
    assert all(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True))


def test_dropout_is_of_training_alone_and_frozen_norms_do_not_move(variables):
    model = small(head_dropout=0.5, frozen_bn=True)
    (one, stats), (other, _) = (step(model)(variables, jax.random.key(i)) for i in (1, 2))
    assert np.abs(one["logits"] - other["logits"]).max() > 1e-2
    jax.tree.map(np.testing.assert_array_equal, stats["batch_stats"], variables["batch_stats"])
    plain = forward(small())(variables, {"video": VIDEO})
    np.testing.assert_allclose(one["features"], plain["features"], atol=1e-5)
    evaluated = forward(model)(variables, {"video": VIDEO})
    np.testing.assert_allclose(evaluated["logits"], plain["logits"], atol=1e-6)


def test_the_inner_layers_are_dropped_between(variables):
    model = small(dropout=0.5, frozen_bn=True)
    one, other = (step(model)(variables, jax.random.key(i))[0]["features"] for i in (1, 2))
    assert np.abs(one - other).max() > 1e-2


def test_the_start_is_the_references():
    model = c3d.build(10, widths=(8, 16), depths=(1, 1), pools=((1, 2, 2), (2, 2, 2)), fc_width=256)
    clip = {"video": np.zeros((1, 2, 16, 16, 3), np.float32)}
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), clip)["params"]
    deviations = {name: float(np.std(params[name]["kernel"])) for name in ("fc_6", "fc_7", "head")}
    for name, expected in {"fc_6": 0.005, "fc_7": 0.005, "head": 0.01}.items():
        np.testing.assert_allclose(deviations[name], expected, rtol=0.1)
    fan_out = np.sqrt(2 / (27 * 16))
    np.testing.assert_allclose(np.std(params["backbone"]["conv_2a"]["kernel"]), fan_out, rtol=0.1)
