"""Mamba's blocks: starts, causality, two directions, dtypes. The reference's numbers are checked in
tests/convert/test_convert_cnn_mamba.py."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.ssm import DT_MAX, DT_MIN, Block, CausalConv, Mamba, Mixer
from jaxvid.nn.transformer import stack_layers

pytestmark = pytest.mark.usefixtures("quickly_made")

X = np.random.default_rng(0).standard_normal((2, 6, 8)).astype(np.float32)


@functools.cache
def started(module):
    """Variables and a jitted evaluation; the gates are all at work."""
    options = {} if isinstance(module, Mixer) else {"train": False}
    variables = jax.jit(functools.partial(module.init, **options))(jax.random.key(0), X)
    return variables, jax.jit(functools.partial(module.apply, **options))


def size(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def test_a_block_has_the_repositorys_shapes():
    x = jax.ShapeDtypeStruct((1, 4, 512), jnp.float32)
    params = jax.eval_shape(functools.partial(Block().init, train=False), jax.random.key(0), x)
    shapes = jax.tree.map(lambda x: x.shape, params["params"])
    assert shapes == {
        "norm": {"scale": (512,)},
        "mixer": {
            "in_proj": {"kernel": (512, 2048)},
            "out_proj": {"kernel": (1024, 512)},
            "forward": {
                "conv": {"kernel": (4, 1, 1024), "bias": (1024,)},
                "x_proj": {"kernel": (1024, 32 + 2 * 16)},
                "dt_proj": {"kernel": (32, 1024), "bias": (1024,)},
                "A_log": (1024, 16),
                "D": (1024,),
            },
        },
    }
    assert size(params) == 1_695_232


def test_parameters_start_where_the_repositorys_do():
    x = jnp.zeros((1, 2, 64))
    params = jax.jit(functools.partial(Mamba(4).init, train=False))(jax.random.key(0), x)["params"]
    mixer = params["block_3"]["mixer"]
    way = mixer["forward"]
    np.testing.assert_allclose(np.exp(way["A_log"]), np.tile(np.arange(1, 17), (128, 1)), rtol=1e-6)
    np.testing.assert_array_equal(way["D"], 1.0)
    steps = np.asarray(jax.nn.softplus(way["dt_proj"]["bias"]))
    assert steps.min() >= DT_MIN * 0.999 and steps.max() <= DT_MAX * 1.001
    # Evenly in the logarithm: the median is the geometric mean.
    assert abs(np.median(np.log(steps)) - np.log(DT_MIN * DT_MAX) / 2) < 0.5

    def spread(kernel, bound):
        assert np.abs(kernel).max() <= bound and np.abs(kernel).max() > 0.9 * bound
        np.testing.assert_allclose(np.std(kernel), bound / 3**0.5, rtol=0.1)

    spread(way["dt_proj"]["kernel"], 4**-0.5)  # rank 64 / 16
    spread(way["conv"]["kernel"], 4**-0.5)
    spread(way["conv"]["bias"], 4**-0.5)
    spread(mixer["in_proj"]["kernel"], 64**-0.5)
    spread(way["x_proj"]["kernel"], 128**-0.5)
    spread(mixer["out_proj"]["kernel"], (128 * 4) ** -0.5)  # rescaled by the root of 4 blocks


def test_the_convolution_sees_this_step_last():
    kernel = np.arange(1.0, 5.0).reshape(4, 1, 1).astype(np.float32)
    variables = {"params": {"kernel": kernel, "bias": np.asarray([0.5], np.float32)}}
    x = np.asarray([1.0, 0.0, 0.0, 0.0, 0.0, 2.0], np.float32).reshape(1, 6, 1)
    y = CausalConv(4).apply(variables, x)
    np.testing.assert_allclose(y[0, :, 0], np.asarray([4, 3, 2, 1, 0, 8]) + 0.5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_past_is_seen_and_the_future_only_by_two_directions(bidirectional):
    variables, apply = started(Mamba(2, bidirectional=bidirectional))
    changed = X.copy()
    changed[:, 3] += 1.0
    moved = np.abs(apply(variables, X) - apply(variables, changed)).max((0, 2))
    assert (moved[3:] > 1e-4).all()
    assert (moved[:3] > 1e-4).all() if bidirectional else (moved[:3] == 0).all()


def test_two_like_directions_do_not_tell_a_sequence_from_its_reversal():
    variables, apply = started(Mixer(bidirectional=True))
    there, back = apply(variables, X), apply(variables, X[:, ::-1])
    assert np.abs(there - back[:, ::-1]).max() > 1e-3
    params = variables["params"]
    alike = {"params": {**params, "backward": params["forward"]}}
    there, back = apply(alike, X), apply(alike, X[:, ::-1])
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-6)


def test_a_second_direction_is_added_to_the_first():
    variables, apply = started(Mixer(bidirectional=True))
    _, one_way = started(Mixer())
    params = variables["params"]
    # Backward without an output: no scan's coefficients C, no skip.
    silent = jax.tree.map(jnp.zeros_like, params["backward"])
    got = apply({"params": {**params, "backward": silent}}, X)
    rest = {name: x for name, x in params.items() if name != "backward"}
    np.testing.assert_allclose(got, one_way({"params": rest}, X), atol=1e-6)


def test_one_step_is_enough():
    variables, apply = started(Mamba(2, bidirectional=True))
    assert apply(variables, X[:, :1]).shape == (2, 1, 8)


@pytest.mark.parametrize("field", [{"d_state": 3}, {"d_conv": 2}, {"expand": 3}, {"dt_rank": 5}])
def test_sizes_can_be_chosen(field):
    variables, apply = started(Mixer(**field))
    assert apply(variables, X).shape == X.shape
    assert size(variables) != size(started(Mixer())[0])


def test_chunks_of_steps_change_nothing():
    variables, apply = started(Mamba(2))
    _, chunked = started(Mamba(2, chunk=4))
    np.testing.assert_allclose(chunked(variables, X), apply(variables, X), atol=1e-6)


def test_bfloat16_computes_with_float32_parameters_sums_and_states():
    variables, apply = started(Mamba(2))
    half, half_apply = started(Mamba(2, dtype=jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    exact, y = apply(variables, X), half_apply(variables, X)
    assert y.dtype == jnp.float32 and 0 < np.abs(y - exact).max() < 0.1
    _, block = started(Block(dtype=jnp.bfloat16))
    traced = str(jax.make_jaxpr(block)({"params": variables["params"]["block_0"]}, X))
    assert "f32[2,6,16,16]" in traced and "bf16[2,6,16,16]" not in traced  # (N, T, S, E)
    assert block({"params": variables["params"]["block_0"]}, X).dtype == jnp.float32


@pytest.mark.parametrize("layout", [{"remat": True}, {"scan_layers": True}])
def test_other_layouts_of_the_stack_compute_the_same(layout):
    plain, other = Mamba(2), Mamba(2, **layout)
    variables, _ = started(plain)
    params = variables["params"]

    def value_and_gradient(model, params):
        def loss(params):
            return jnp.sum(jnp.sin(model.apply({"params": params}, X, train=False)))

        return jax.jit(jax.value_and_grad(loss))(params)

    value, grads = value_and_gradient(plain, params)
    if "scan_layers" in layout:
        params, grads = stack_layers(params), stack_layers(grads)
    got, got_grads = value_and_gradient(other, params)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4)
    jax.tree.map(close, got_grads, grads)


def test_branches_are_dropped_in_training():
    model = Mamba(2, drop_path_rate=0.9)
    variables, apply = started(model)
    rngs = {"dropout": jax.random.key(0)}
    many = np.repeat(X[:1], 16, 0)
    y = jax.jit(lambda v, x: model.apply(v, x, train=True, rngs=rngs))(variables, many)
    differing = np.abs(y - y[:1]).max((1, 2)) > 1e-4
    assert (
        differing.any()
    )  # the second block's branch, with 0.9, is there for some and not for others
    np.testing.assert_array_equal(apply(variables, many)[0], apply(variables, many)[1])
