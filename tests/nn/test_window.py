"""Windows of maps of any size, against attention of every token to every other with a mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxvid.nn import window
from jaxvid.nn.rows import rows_divided
from jaxvid.nn.window import WindowAttention

pytestmark = pytest.mark.usefixtures("quickly_made")

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "size, shifted, expected",
    [
        ((16, 56, 56), False, ((8, 7, 7), (0, 0, 0))),
        ((16, 56, 56), True, ((8, 7, 7), (4, 3, 3))),
        ((8, 7, 8), True, ((8, 7, 7), (0, 0, 3))),
        ((4, 3, 56), True, ((4, 3, 7), (0, 0, 3))),
    ],
)
def test_a_window_fits_its_map(size, shifted, expected):
    assert window.fit_window((8, 7, 7), size, shifted) == expected


def test_windows_hold_neighbours_and_go_back_to_their_places():
    x = normal(2, 4, 6, 6, 5)
    cut = window.cut_windows(x, (2, 3, 2))
    assert cut.shape == (2, 2, 2, 3, 12, 5)
    np.testing.assert_array_equal(cut[1, 1, 0, 2], x[1, 2:4, :3, 4:].reshape(12, 5))
    np.testing.assert_array_equal(window.join_windows(cut, (2, 3, 2)), x)


def offsets_table(size, heads=3):
    return normal(*[2 * n - 1 for n in size], heads)


@pytest.mark.parametrize("tokens", [24, 18, 13, 4, 1])
def test_the_bias_of_two_tokens_is_that_of_their_offset(tokens):
    size = (2, 3, 4)
    table = offsets_table(size)
    bias = np.asarray(jax.jit(window.relative_bias, static_argnums=1)(table, tokens))
    assert bias.shape == (3, tokens, tokens)
    places = np.indices(size).reshape(3, -1).T[:tokens]
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            np.testing.assert_array_equal(bias[:, i, j], table[tuple(a - b + np.array(size) - 1)])


def test_only_the_ends_of_a_rolled_map_are_kept_apart():
    along_t, along_h, along_w = window.borders((2, 2, 3), (1, 0, 1))
    assert not along_h.any()
    t, w = np.indices((2, 2, 3)).reshape(3, -1)[[0, 2]]
    np.testing.assert_array_equal(along_t == 0, (t[:, None] >= 1) == (t[None] >= 1))
    np.testing.assert_array_equal(along_w == 0, (w[:, None] >= 2) == (w[None] >= 2))
    assert set(np.unique(along_w)) == {-100.0, 0.0}


def dense(params, x, size, heads, shifted):
    """The definition: every token of the padded, rolled map against every other, with a mask."""
    shape = np.array(x.shape[1:4])
    fitted, shift = (np.array(v) for v in window.fit_window(size, shape, shifted))
    padded = -(-shape // fitted) * fitted
    x = np.pad(x, [(0, 0), *((0, n) for n in padded - shape), (0, 0)])
    here = np.indices(padded).reshape(3, -1).T
    rolled = (here - shift) % padded
    same_window = (rolled[:, None] // fitted == rolled[None] // fitted).all(-1)
    # What a roll brought from the front to the end is not beside what was at the end.
    wrapped = rolled >= padded - shift
    together = same_window & (wrapped[:, None] == wrapped[None]).all(-1)
    # The references count tokens of a smaller window as the first ones of the full window.
    number = np.ravel_multi_index(tuple((rolled % fitted).T), fitted)
    place = np.stack(np.unravel_index(number, size), -1)
    offset = np.clip(place[:, None] - place[None] + np.array(size) - 1, 0, 2 * np.array(size) - 2)
    bias = np.moveaxis(params["relative_position_bias"][tuple(np.moveaxis(offset, -1, 0))], -1, 0)
    tokens = x.reshape(len(x), -1, x.shape[-1])

    def project(name):
        return (
            np.einsum("nlc,chd->nhld", tokens, params[name]["kernel"])
            + (params[name]["bias"][:, None])
        )

    q, k, v = (project(name) for name in ("query", "key", "value"))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias
    weights = jax.nn.softmax(np.where(together, scores, -np.inf), axis=-1)
    y = np.einsum("nhld,hdc->nlc", weights @ v, params["out"]["kernel"]) + params["out"]["bias"]
    t, h, w = shape
    return y.reshape(x.shape)[:, :t, :h, :w]


@pytest.mark.parametrize(
    "shape, size, shifted",
    [
        ((4, 6, 6), (2, 3, 3), False),
        ((4, 6, 6), (2, 3, 3), True),
        ((5, 7, 4), (2, 3, 3), True),  # padded along all three
        ((3, 5, 2), (4, 3, 3), True),  # smaller than the window in time and width
        ((2, 2, 2), (4, 3, 3), True),
    ],
)
def test_attention_is_that_of_the_definition(shape, size, shifted):
    x = normal(2, *shape, 8)
    attention = WindowAttention(2, size, shifted)
    init = jax.jit(functools.partial(attention.init, train=False))
    params = jax.tree.map(lambda p: normal(*p.shape), init(jax.random.key(0), x)["params"])
    got = jax.jit(functools.partial(attention.apply, train=False))({"params": params}, x)
    assert got.shape == x.shape
    np.testing.assert_allclose(got, dense(params, x, size, 2, shifted), atol=2e-4)


def test_no_gradient_crosses_from_one_end_of_the_map_to_the_other():
    x = normal(1, 4, 6, 6, 4)
    attention = WindowAttention(1, (2, 3, 3), shifted=True)
    variables = attention.init(jax.random.key(0), x, train=False)

    def corner(x):
        return jnp.sum(attention.apply(variables, x, train=False)[0, 0, 0, 0])

    seen = np.asarray(jax.jit(jax.grad(corner))(x))[0].any(-1)
    assert seen[0, :1, :1].all()
    seen[:1, :1, :1] = False  # half a window of 2×3×3, rounded down, is 1×1×1
    assert not seen.any()


def test_other_fields():
    x = normal(1, 2, 3, 3, 6)
    with pytest.raises(ValueError, match=r"width 6 is not a multiple of num_heads=4"):
        WindowAttention(4, (2, 3, 3)).init(jax.random.key(0), x, train=False)
    attention = WindowAttention(2, (2, 3, 3), dropout=0.5, dtype=jnp.bfloat16)
    variables = attention.init(jax.random.key(0), x, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert variables["params"]["relative_position_bias"].shape == (3, 5, 5, 2)
    y, z = (
        attention.apply(variables, x, train=True, rngs={"dropout": jax.random.key(i)})
        for i in (0, 1)
    )
    assert y.dtype == jnp.bfloat16 and (y != z).any()


def divided(*shape):
    """How batches are divided over a mesh (data, fsdp, tensor) of all devices."""
    axes = ("data", "fsdp", "tensor")
    mesh = jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * 3, devices=jax.devices())
    return NamedSharding(mesh, PartitionSpec(axes[:2]))


@pytest.mark.parametrize("shape", [(2, 4, 1), (2, 2, 2)])
def test_devices_add_up_gradients_of_the_table_and_not_of_the_bias(shape):
    layer, by = WindowAttention(2, (2, 4, 4), shifted=True), divided(*shape)
    x = normal(8, 4, 8, 8, 8)
    variables = layer.init(jax.random.key(0), x[:1], train=False)

    def gradients(variables, x, by):
        def loss(variables):
            with rows_divided(by):
                return jnp.sum(jnp.square(layer.apply(variables, x, train=True)))

        return jax.grad(loss)(variables)

    step = jax.jit(functools.partial(gradients, by=by)).lower(variables, jax.device_put(x, by))
    compiled = step.compile(compiler_options={"xla_backend_optimization_level": 0})
    got = compiled(variables, jax.device_put(x, by))["params"]
    expected = jax.jit(functools.partial(gradients, by=None))(variables, x)["params"]
    for gradient in (got, expected):
        del gradient["key"]["bias"]  # zero but for rounding: it moves all scores of a query alike
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(np.abs(other).max()))
    sums = [line for line in compiled.as_text().splitlines() if " all-reduce" in line]
    of_table, of_bias = (any(t in line for line in sums) for t in ("f32[3,7,7,2]", "f32[2,32,32]"))
    # Devices that share rows divide heads between them: left to the compiler.
    assert (of_table, of_bias) == ((True, False) if shape[2] == 1 else (False, True))
