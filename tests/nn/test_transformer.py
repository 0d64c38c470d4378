"""Blocks against their formula, stacks in both layouts, layouts converted into each other."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.core.tree import flatten
from jaxvid.nn.transformer import Attention, Block, Mlp, Stack, stack_layers, unstack_layers

pytestmark = pytest.mark.usefixtures("quickly_made")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 8), dtype=np.float32)


def randomised(params):
    """Other numbers than those at the start, which has zeros and ones."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, dtype=np.float32), params)


def start(module):
    return jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), X)["params"]


def parameters(module):
    return randomised(start(module))


def apply(module, params, x=X, **options):
    return module.apply({"params": params}, jnp.asarray(x), train=False, **options)


def normalised(x, p, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return centred / spread * np.asarray(p["scale"]) + np.asarray(p["bias"])


def attended(x, p, scale):
    def heads(name):
        y = np.einsum("nli,ihd->nlhd", x, p[name]["kernel"])
        return y + np.asarray(p[name]["bias"]) if "bias" in p[name] else y

    scores = np.einsum("nqhd,nkhd->nhqk", heads("query"), heads("key")) * scale
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    y = np.einsum("nhqk,nkhd->nqhd", weights, heads("value"))
    return np.einsum("nlhd,hdi->nli", y, p["out"]["kernel"]) + np.asarray(p["out"]["bias"])


@pytest.mark.parametrize("biases", ["none", "qv", "all"])
def test_attention_with_every_form_of_biases(biases):
    module = Attention(2, head_dim=3, qkv_bias=biases, scale=0.7)
    params = parameters(module)
    with_bias = {name for name in ("query", "key", "value") if "bias" in params[name]}
    assert (
        with_bias
        == {"none": set(), "qv": {"query", "value"}, "all": {"query", "key", "value"}}[biases]
    )
    np.testing.assert_allclose(apply(module, params), attended(X, params, 0.7), atol=1e-5)


def test_cosine_attention_is_its_formula():
    module = Attention(2, head_dim=3, scale=0.7, cosine=True)
    params = parameters(module)
    assert start(module)["logit_scale"] == pytest.approx(np.log(10.0))
    # One head below the most, one above.
    params["logit_scale"] = jnp.asarray([1.0, 9.0])

    def heads(name):
        y = np.einsum("nli,ihd->nlhd", X, params[name]["kernel"])
        return y + np.asarray(params[name]["bias"])

    def unit(y):
        return y / np.linalg.norm(y, axis=-1, keepdims=True)

    cosines = np.einsum("nqhd,nkhd->nhqk", unit(heads("query")), unit(heads("key")))
    weights = np.exp(cosines * np.asarray([np.e, 100.0])[:, None, None])
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("nhqk,nkhd->nqhd", weights, heads("value"))
    expected = np.einsum("nlhd,hdi->nli", y, params["out"]["kernel"])
    expected += np.asarray(params["out"]["bias"])
    np.testing.assert_allclose(apply(module, params), expected, atol=1e-4)
    # Vectors of length 0 have a gradient too.
    params = jax.tree.map(jnp.zeros_like, params)
    grads = jax.grad(lambda p: jnp.sum(apply(module, p, jnp.zeros_like(X)) ** 2))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_block_is_its_formula():
    module = Block(2, mlp_ratio=1.5, norm_eps=0.1, layer_scale=0.5, activation=jnp.sin)
    p = parameters(module)
    x = X + np.asarray(p["gamma_1"]) * attended(normalised(X, p["norm1"], 0.1), p["attention"], 0.5)
    hidden = normalised(x, p["norm2"], 0.1) @ p["mlp"]["fc1"]["kernel"] + p["mlp"]["fc1"]["bias"]
    assert hidden.shape[-1] == 12
    y = np.sin(hidden) @ p["mlp"]["fc2"]["kernel"] + p["mlp"]["fc2"]["bias"]
    np.testing.assert_allclose(apply(module, p), x + p["gamma_2"] * y, atol=2e-5)


def test_layer_scale_starts_at_its_number_and_is_absent_without():
    params = start(Block(2, layer_scale=0.25))
    assert (params["gamma_1"] == 0.25).all() and (params["gamma_2"] == 0.25).all()
    assert not {"gamma_1", "gamma_2"} & parameters(Block(2)).keys()


def test_query_key_value_can_start_differently():
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    params = start(Block(2, kernel_init=zeros, qkv_init=ones))
    kernels = {k: v for k, v in flatten(params).items() if k.endswith("kernel")}
    for path, kernel in kernels.items():
        of_heads = any(name in path for name in ("query", "key", "value"))
        assert (kernel == float(of_heads)).all(), path


def test_16_bit_computation_over_float32_parameters():
    exact, half = Block(2), Block(2, dtype=jnp.bfloat16)
    params = parameters(exact)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    got = apply(half, params)
    assert got.dtype == jnp.bfloat16
    expected = np.asarray(apply(exact, params))
    assert np.abs(got.astype(np.float32) - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("module", [Attention(2, dropout=0.5), Mlp(6, dropout=0.5)])
def test_dropout_acts_in_training_only(module):
    params = parameters(module)
    rngs = {"dropout": jax.random.key(0)}
    trained = module.apply({"params": params}, X, train=True, rngs=rngs)
    zeroed = np.asarray(trained) == 0
    assert 0.2 < zeroed.mean() < 0.8
    kept = np.asarray(apply(module, params))[~zeroed]
    np.testing.assert_allclose(np.asarray(trained)[~zeroed], 2 * kept, rtol=1e-5)


# --- stacks -------------------------------------------------------------------------------------


def stack(**options):
    block = functools.partial(Block, 2, mlp_ratio=2.0, qkv_bias="qv")
    return Stack(lambda name: block(name=name), 2, **options)


def loss_and_gradients(module, params):
    def loss(p):
        out = apply(module, p)
        return jnp.sum(out * jnp.cos(out)), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return out, grads


@pytest.mark.slow
def test_both_layouts_with_and_without_remat_are_the_same_function():
    params = parameters(stack())
    out, grads = loss_and_gradients(stack(), params)
    assert set(params) == {"block_0", "block_1"}
    for options in ({"remat": True}, {"scan_layers": True}, {"remat": True, "scan_layers": True}):
        scanned = options.get("scan_layers", False)
        given = stack_layers(params) if scanned else params
        shapes = jax.eval_shape(functools.partial(start, stack(**options)))
        assert jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, shapes)
        got, got_grads = loss_and_gradients(stack(**options), given)
        np.testing.assert_allclose(got, out, atol=1e-5)
        got_grads = flatten(unstack_layers(got_grads) if scanned else got_grads)
        for path, gradient in flatten(grads).items():
            atol = 1e-5 * float(jnp.abs(gradient).max())
            np.testing.assert_allclose(got_grads[path], gradient, atol=atol, err_msg=path)


def test_remat_keeps_less_for_the_gradient():
    def kept(module):
        variables = {"params": jax.eval_shape(functools.partial(start, module))}
        pulled = jax.eval_shape(
            lambda v, x: jax.vjp(lambda *a: module.apply(*a, train=False), v, x)[1], variables, X
        )
        return sum(leaf.size for leaf in jax.tree.leaves(pulled))

    assert kept(stack(remat=True)) < 0.5 * kept(stack())


def test_scanned_layers_start_differently():
    kernel = start(stack(scan_layers=True))["blocks"]["mlp"]["fc1"]["kernel"]
    assert float(jnp.abs(kernel[0] - kernel[1]).min()) > 0


def test_what_layers_put_out_can_be_captured_in_both_layouts():
    params = parameters(stack())
    options = {"capture_intermediates": True, "mutable": ["intermediates"]}
    _, plain = apply(stack(), params, **options)
    _, scanned = apply(stack(scan_layers=True), stack_layers(params), **options)
    layers = scanned["intermediates"]["blocks"]["__call__"][0]
    for i in range(2):
        layer = plain["intermediates"][f"block_{i}"]["__call__"][0]
        np.testing.assert_allclose(layers[i], layer, atol=1e-5)


class Rate(nn.Module):
    """Instead of a block: adds its drop-path rate."""

    @nn.compact
    def __call__(self, x, rate=0.0, *, train):
        assert train
        return x + rate


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("depth, rate", [(4, 0.3), (1, 0.3), (3, 0.0)])
def test_drop_path_rates_rise_linearly(scan_layers, depth, rate):
    module = Stack(lambda name: Rate(name=name), depth, rate, scan_layers=scan_layers)
    out = module.apply({}, jnp.zeros((1, 1, 1)), train=True)
    assert float(out[0, 0, 0]) == pytest.approx(sum(np.linspace(0, rate, depth)), abs=1e-6)


@pytest.mark.parametrize("scan_layers, remat", [(False, False), (True, True)])
def test_stochastic_depth_runs_in_training(scan_layers, remat):
    module = stack(drop_path_rate=0.9, scan_layers=scan_layers, remat=remat)
    params = parameters(module)

    @jax.jit
    @jax.value_and_grad
    def loss(p, key):
        return module.apply({"params": p}, X, train=True, rngs={"dropout": key}).sum()

    first, grads = loss(params, jax.random.key(0))
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    assert first == loss(params, jax.random.key(0))[0] != loss(params, jax.random.key(1))[0]


@pytest.mark.parametrize("scan_layers, remat", [(False, True), (True, False), (True, True)])
def test_without_stochastic_depth_nothing_is_drawn(scan_layers, remat):
    module = stack(scan_layers=scan_layers, remat=remat)
    shapes = {"params": jax.eval_shape(functools.partial(start, module))}
    # Without random numbers given, drawing any would be an error.
    out = jax.eval_shape(functools.partial(module.apply, train=True), shapes, X)
    assert out.shape == X.shape


Moments = collections.namedtuple("Moments", "mu nu")


@pytest.mark.parametrize("library", [np, jnp])
def test_layouts_convert_anywhere_in_a_tree(library):
    def branch(offset):
        layers = {f"block_{i}": {"a": {"b": library.full((2,), i + offset)}} for i in range(11)}
        return {"encoder": {**layers, "norm": library.ones(3)}, "head": library.zeros(1)}

    tree = [branch(0), Moments(branch(1), (branch(2), library.ones(1)))]
    stacked = stack_layers(tree)
    encoder = stacked[1].nu[0]["encoder"]
    assert encoder.keys() == {"blocks", "norm"} and isinstance(
        encoder["blocks"]["a"]["b"], library.ndarray
    )
    np.testing.assert_array_equal(encoder["blocks"]["a"]["b"][:, 0], np.arange(2, 13))
    back = unstack_layers(stacked)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back, tree))


def test_layouts_that_do_not_convert():
    with pytest.raises(ValueError, match="expected block_0 to block_1, there are block_0, block_2"):
        stack_layers({"block_0": {"a": np.ones(1)}, "block_2": {"a": np.ones(1)}})
    with pytest.raises(ValueError, match=r"leading axes \[2, 3\], expected one size"):
        unstack_layers({"blocks": {"a": np.ones(2), "b": np.ones(3)}})


def test_options_that_cannot_be():
    with pytest.raises(UnknownNameError, match="unknown qkv_bias 'qk'.*Did you mean 'qv'"):
        parameters(Attention(2, qkv_bias="qk"))
    with pytest.raises(ValueError, match="width 8 is not a multiple of num_heads=3"):
        parameters(Attention(3))
    with pytest.raises(ValueError, match="drop path rate is 1.0, expected"):
        parameters(stack(drop_path_rate=1.0))


def test_an_mlp_of_another_width_with_dropout_inside():
    params = start(Mlp(6, features=3))
    assert params["fc2"]["kernel"].shape == (6, 3)
    module = Mlp(6, features=3, hidden_dropout=0.5)

    def run(seed, train):
        return module.apply(
            {"params": params}, jnp.asarray(X), train=train, rngs={"dropout": jax.random.key(seed)}
        )

    np.testing.assert_array_equal(run(0, False), apply(Mlp(6, features=3), params))
    assert (run(0, True) != run(1, True)).any()
    only_inside = Mlp(6, features=3, hidden_dropout=1.0)
    dropped = only_inside.apply(
        {"params": params}, jnp.asarray(X), train=True, rngs={"dropout": jax.random.key(0)}
    )
    np.testing.assert_array_equal(dropped, np.broadcast_to(params["fc2"]["bias"], (2, 5, 3)))
