"""Blocks of 3D ResNets: what repeats, strides and factors, and the windows of the heads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.resnet3d import Backbone, Block, Factored, Layer, Stage, basic, bottleneck, repeat

pytestmark = pytest.mark.usefixtures("quickly_made")

X = np.random.default_rng(0).normal(size=(2, 5, 8, 6, 4)).astype(np.float32)
NORM = BatchNorm


def run(module, x=X, **apply):
    """(output, params) with freshly drawn weights."""

    @jax.jit
    def both(key, x):
        variables = module.init(key, x, train=False)
        return module.apply(variables, x, train=False), variables["params"]

    return both(jax.random.key(0), x)


def test_a_bottleneck_has_its_time_first_and_its_strides_in_the_middle():
    branch = bottleneck(2, 8, temporal=3, strides=(1, 2, 2))
    assert [layer.kernel_size for layer in branch] == [(3, 1, 1), (1, 3, 3), (1, 1, 1)]
    assert [layer.strides for layer in branch] == [(1, 1, 1), (1, 2, 2), (1, 1, 1)]
    y, params = run(Block(branch, NORM))
    assert y.shape == (2, 5, 4, 3, 8) and (y >= 0).all()
    assert params["conv_1"]["kernel"].shape == (3, 1, 1, 4, 2)
    assert params["conv_3"]["kernel"].shape == (1, 1, 1, 2, 8)
    assert params["shortcut"]["kernel"].shape == (1, 1, 1, 4, 8)


def test_a_basic_block_strides_once():
    y, params = run(Block(basic(4, strides=(2, 2, 2)), NORM))
    assert y.shape == (2, 3, 4, 3, 4)
    assert "conv_3" not in params and params["conv_2"]["kernel"].shape == (3, 3, 3, 4, 4)


def test_the_input_passes_as_it_is_where_the_shape_stays():
    block = Block(bottleneck(2, 4, temporal=3), NORM, zero_last=True)
    y, params = run(block)
    assert "shortcut" not in params
    np.testing.assert_array_equal(params["norm_3"]["scale"], 0)
    np.testing.assert_allclose(y, np.maximum(X, 0), atol=1e-6)  # starts as an identity
    y, params = run(Block(bottleneck(2, 4, temporal=3), NORM))
    np.testing.assert_array_equal(params["norm_3"]["scale"], 1)
    assert np.abs(y - np.maximum(X, 0)).max() > 0.1


def test_a_stage_strides_in_its_first_block_and_takes_its_kernels_in_turn():
    branches = repeat(3, bottleneck, 2, 8, temporal=(3, 1), strides=(1, 2, 2))
    assert [branch[0].kernel_size[0] for branch in branches] == [3, 1, 3]
    assert [branch[1].strides[1] for branch in branches] == [2, 1, 1]
    y, params = run(Stage(branches, NORM))
    assert y.shape == (2, 5, 4, 3, 8)
    assert set(params) == {"block_0", "block_1", "block_2"}
    assert "shortcut" in params["block_0"] and "shortcut" not in params["block_1"]


@pytest.mark.parametrize("first", ["space", "time"])
def test_the_halves_of_a_factored_convolution_come_in_the_order_asked(first):
    layer = Layer(7, (3, 5, 5), (2, 2, 2), 1, first, 6)
    y, params = run(Factored(layer, NORM))
    spatial, temporal = params["spatial"]["kernel"], params["temporal"]["kernel"]
    if first == "space":
        assert spatial.shape == (1, 5, 5, 4, 6) and temporal.shape == (3, 1, 1, 6, 7)
    else:
        assert temporal.shape == (3, 1, 1, 4, 6) and spatial.shape == (1, 5, 5, 6, 7)
    steps = [
        (spatial, (1, 2, 2), ((0, 0), (2, 2), (2, 2))),
        (temporal, (2, 1, 1), ((1, 1), (0, 0), (0, 0))),
    ]
    expected = X
    for i, (kernel, strides, padding) in enumerate(steps if first == "space" else steps[::-1]):
        expected = jax.lax.conv_general_dilated(
            expected, kernel, strides, padding, dimension_numbers=("NTHWC", "THWIO", "NTHWC")
        )
        if i == 0:
            expected = jax.nn.relu(expected / np.sqrt(1 + 1e-5))
    assert y.shape == (2, 3, 4, 3, 7)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def backbone(**options):
    stages = (
        repeat(1, bottleneck, 2, 8),
        repeat(2, bottleneck, 4, 16, strides=(2, 2, 2), kernel_size=(3, 3, 3), groups=4),
    )
    return Backbone(Layer(2, (5, 7, 7), (1, 2, 2)), stages, NORM, **options)


@pytest.mark.parametrize(
    "options, strides, clip",
    [
        ({}, (2, 4, 4), (5, 7)),
        ({"stem_pool": True}, (2, 8, 8), (5, 8)),
        ({"stem_pool": True, "temporal_pool": True}, (4, 8, 8), (5, 8)),
    ],
)
def test_strides_are_those_of_the_maps(options, strides, clip):
    module = backbone(**options)
    assert module.strides() == strides and module.smallest_clip() == clip
    x = jax.ShapeDtypeStruct((1, 8, 16, 32, 3), jnp.float32)
    init = functools.partial(module.init_with_output, train=False)
    y, variables = jax.eval_shape(init, jax.random.key(0), x)
    assert y.shape == (1, 8 // strides[0], 16 // strides[1], 32 // strides[2], 16)
    assert set(variables["params"]) == {"stem", "stage_1", "stage_2"}


def test_an_odd_last_frame_is_left_out_of_the_maximum():
    init = functools.partial(backbone(temporal_pool=True).init_with_output, train=False)
    y, _ = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 5, 8, 8, 3), "float32"))
    assert y.shape[1] == 1  # 5 -> 2 -> 1
