"""The trunk of I3D and S3D: what stands where, what gates and windows compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.tree import flatten
from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.inception import (
    BLOCKS,
    STRIDES,
    Inception,
    Mixed,
    Parts,
    SeparableConv,
    Unit,
    reach,
)

pytestmark = pytest.mark.usefixtures("quickly_made")

PLAIN = Parts(BatchNorm)
VIDEO = np.random.default_rng(0).standard_normal((2, 4, 8, 8, 3), dtype=np.float32)


def start(module, x=VIDEO):
    return jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), x)


@functools.cache
def forward(module):
    return jax.jit(functools.partial(module.apply, train=False))


def run(module, variables, x=VIDEO):
    return np.asarray(forward(module)(variables, x))


def test_widths_of_the_last_map():
    outputs = {
        f"{stage}{letter}": w[0] + w[2] + w[4] + w[5]
        for stage, blocks in BLOCKS.items()
        for letter, w in blocks.items()
    }
    assert list(outputs.values()) == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_branches_stand_side_by_side_in_their_order():
    block = Mixed((1, 2, 3, 4, 5, 6), PLAIN)
    variables = start(block)
    whole = run(block, variables)
    assert whole.shape == (2, 4, 8, 8, 1 + 3 + 5 + 6)
    places = {"branch_0": (0, 1), "branch_1b": (1, 4), "branch_2b": (4, 9), "branch_3b": (9, 15)}
    for name, (first, last) in places.items():
        params = dict(variables["params"])
        params[name] = jax.tree.map(jnp.zeros_like, params[name])
        changed = run(block, {**variables, "params": params})
        assert not changed[..., first:last].any(), name
        for rest in (np.s_[..., :first], np.s_[..., last:]):
            np.testing.assert_array_equal(changed[rest], whole[rest])


def test_a_pool_is_before_the_last_branch_alone():
    block = Mixed((1, 1, 1, 1, 1, 1), PLAIN)
    variables = start(block)
    kernel = variables["params"]["branch_3b"]["conv"]["kernel"]
    padded = np.pad(VIDEO, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), axis=(1, 2, 3))
    expected = np.maximum(windows.max((-3, -2, -1)) @ kernel[0, 0, 0] / np.sqrt(1 + 1e-5), 0)
    whole = run(block, variables)
    np.testing.assert_allclose(whole[..., 3:], expected, atol=1e-5)
    point = np.maximum(VIDEO @ variables["params"]["branch_0"]["conv"]["kernel"][0, 0, 0], 0)
    np.testing.assert_allclose(whole[..., :1] * np.sqrt(1 + 1e-5), point, atol=1e-5)


@pytest.mark.parametrize("separable", [False, True])
def test_parameter_paths(separable):
    unit = Unit(4, (3, 3, 3), Parts(BatchNorm, separable=separable))
    paths = {path: x.shape for path, x in flatten(start(unit)["params"]).items()}
    norm = {"norm/scale": (4,), "norm/bias": (4,)}
    if separable:
        inner = {f"conv/{path}": shape for path, shape in norm.items()}
        kernels = {"conv/spatial/kernel": (1, 3, 3, 3, 4), "conv/temporal/kernel": (3, 1, 1, 4, 4)}
        assert paths == {**norm, **inner, **kernels}
    else:
        assert paths == {**norm, "conv/kernel": (3, 3, 3, 3, 4)}


def test_a_separated_convolution_is_space_then_norm_then_relu_then_time():
    conv = SeparableConv(5, (3, 3, 3), (2, 2, 2), Parts(BatchNorm, padding="half", separable=True))
    variables = start(conv)
    params = variables["params"]
    space = jax.lax.conv_general_dilated(
        VIDEO,
        params["spatial"]["kernel"],
        (1, 2, 2),
        ((0, 0), (1, 1), (1, 1)),
        dimension_numbers=("NTHWC", "THWIO", "NTHWC"),
    )
    between = np.maximum(space / np.sqrt(1 + 1e-5), 0)
    expected = jax.lax.conv_general_dilated(
        between,
        params["temporal"]["kernel"],
        (2, 1, 1),
        ((1, 1), (0, 0), (0, 0)),
        dimension_numbers=("NTHWC", "THWIO", "NTHWC"),
    )
    np.testing.assert_allclose(run(conv, variables), expected, atol=1e-5)


def test_a_gate_weighs_channels_by_the_whole_clip():
    widths = (2, 1, 2, 1, 2, 2)
    variables = start(Mixed(widths, Parts(BatchNorm, gating=True)))
    plain = {
        name: {path: x for path, x in tree.items() if not path.startswith("gate")}
        for name, tree in variables.items()
    }
    gated = run(Mixed(widths, Parts(BatchNorm, gating=True)), variables)
    ungated = run(Mixed(widths, PLAIN), plain)
    for i in range(4):
        branch = ungated[..., 2 * i : 2 * i + 2]
        dense = variables["params"][f"gate_{i}"]
        scores = branch.mean((1, 2, 3)) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
        weights = 1 / (1 + np.exp(-scores))
        expected = branch * weights[:, None, None, None]
        np.testing.assert_allclose(gated[..., 2 * i : 2 * i + 2], expected, atol=1e-6)


def test_a_gated_trunk_has_a_gate_behind_conv_2c_and_each_branch():
    parts = Parts(BatchNorm, padding="half", separable=True, gating=True)
    trunk = Inception(parts, 0.1, (1, 0, 0))
    x = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(functools.partial(trunk.init, train=False), jax.random.key(0), x)
    paths = flatten(params["params"])
    gates = {path.removesuffix("/kernel") for path in paths if "gate" in path and "kernel" in path}
    assert gates == {"gate_2c", *(f"mixed_3b/gate_{i}" for i in range(4))}
    assert paths["gate_2c/kernel"].shape == (19, 19)


def test_there_is_no_pool_where_nothing_strides_and_widths_have_a_floor():
    trunk = Inception(Parts(BatchNorm, padding="half"), 0.01, (1, 1, 1), ((1, 1, 1),) * 5)
    shape = jax.eval_shape(
        functools.partial(trunk.init_with_output, train=False), jax.random.key(0), VIDEO
    )
    assert shape[0].shape == (2, 4, 8, 8, 16)  # 4 of each branch


def test_how_much_of_the_input_is_one_place():
    assert reach(STRIDES) == (8, 32)
    assert reach(((2, 1, 3), (2, 2, 2))) == (4, 6)
