"""Pooling attention against loops over its formulas; plans of blocks; tables of relative positions."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.nn import pooled_attention as pa

pytestmark = pytest.mark.usefixtures("quickly_made")

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


# --- plans ----------------------------------------------------------------------------------------

SHAPE = {"width": 8, "num_heads": 1, "depth": 4, "stage_starts": (1, 3)}
STRIDES = {"stage_stride": (1, 2, 2), "key_stride": (1, 4, 4)}


def rows(**changes):
    plans = pa.block_plans(**{**SHAPE, **STRIDES, "project_in_attention": False, **changes})
    return [(p.num_heads, p.width, p.inner, p.features) for p in plans], [
        (p.query_stride, p.key_stride) for p in plans
    ]


def test_version_1_widens_in_the_mlp_before_a_stage_and_version_2_in_its_attention():
    sizes, strides = rows()
    assert sizes == [(1, 8, 8, 16), (2, 16, 16, 16), (2, 16, 16, 32), (4, 32, 32, 32)]
    again, same = rows(project_in_attention=True)
    assert again == [(1, 8, 8, 8), (2, 8, 16, 16), (2, 16, 16, 16), (4, 16, 32, 32)]
    one, two = (1, 1, 1), (1, 2, 2)
    assert strides == same == [(one, (1, 4, 4)), (two, two), (one, two), (two, one)]


def test_a_model_of_one_stage():
    assert rows(stage_starts=())[0] == [(1, 8, 8, 8)] * 4


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"stage_starts": (3, 1)}, r"stage_starts=\(3, 1\): expected rising numbers .* 1…3"),
        ({"stage_starts": (0, 2)}, "stage_starts"),
        ({"stage_starts": (1, 4)}, "stage_starts"),
        ({"stage_starts": (1, 1)}, "stage_starts"),
        ({"stage_stride": (1, 3, 3)}, r"stage_stride=\(1, 3, 3\): expected 1 or even numbers"),
        ({"num_heads": 3}, "width 8 is not a multiple of num_heads=3"),
    ],
)
def test_plans_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        rows(**changes)


# --- relative positions ---------------------------------------------------------------------------


@pytest.mark.parametrize("old, new", [(15, 27), (27, 15), (7, 7), (3, 8), (1, 4)])
def test_tables_are_interpolated_between_centres(old, new):
    table = noise(old, 5)
    expected = jax.image.resize(table, (new, 5), "linear", antialias=False)
    np.testing.assert_allclose(pa.linear_weights(old, new) @ table, expected, atol=1e-5)


def test_rows_of_distances():
    np.testing.assert_array_equal(pa.relative_places(3, 3), [[2, 1, 0], [3, 2, 1], [4, 3, 2]])
    np.testing.assert_array_equal(
        pa.relative_places(4, 2), [[2, 0], [3, 1], [4, 2], [5, 3]]
    )  # each key stands for two places
    np.testing.assert_array_equal(pa.relative_places(2, 4), [[3, 2, 1, 0], [5, 4, 3, 2]])
    for queries, keys in ((78, 10), (39, 10), (8, 8), (5, 3)):
        places = pa.relative_places(queries, keys)
        assert places.min() == 0 and places.max() < 2 * max(queries, keys) - 1


@pytest.mark.parametrize("resized", [False, True])
def test_the_bias_of_a_pair_is_the_query_times_three_rows(resized):
    query_grid, key_grid = (2, 4, 6), (2, 2, 3)
    queries = noise(2, math.prod(query_grid), 2, 5)
    tables = [noise(2 * n - 1 + 2 * resized, 5) for n in query_grid]
    bias = jax.jit(functools.partial(pa.relative_bias, query_grid=query_grid, key_grid=key_grid))(
        queries, tables
    )
    if resized:
        tables = [pa.linear_weights(len(t), len(t) - 2) @ t for t in tables]
    expected = np.zeros((2, 2, 48, 12), np.float32)
    places = [pa.relative_places(q, k) for q, k in zip(query_grid, key_grid, strict=True)]
    for i, q in enumerate(itertools.product(*map(range, query_grid))):
        for j, k in enumerate(itertools.product(*map(range, key_grid))):
            row = sum(t[p[a, b]] for t, p, a, b in zip(tables, places, q, k, strict=True))
            expected[:, :, i, j] = queries[:, i] @ row
    np.testing.assert_allclose(bias, expected, atol=1e-5)


# --- modules --------------------------------------------------------------------------------------

GRID = (2, 4, 4)


def started(module, x, **options):
    def init():
        return module.init(jax.random.key(0), x, GRID, **options)

    return jax.tree.map(lambda p: p + 0.3 * noise(*p.shape), jax.jit(init)()["params"])


@pytest.mark.parametrize("alone", [0, 1])
def test_heads_are_pooled_by_one_kernel_and_the_class_token_is_only_normalised(alone):
    pool = pa.HeadPool((3, 3, 3), (1, 2, 2), 1e-6, jnp.float32)
    x = noise(2, alone + 32, 3, 4)
    params = started(pool, x)
    got = np.asarray(pool.apply({"params": params}, x, GRID))
    assert got.shape == (2, alone + 8, 3, 4)
    padded = np.pad(x[:, alone:].reshape(2, *GRID, 3, 4), ((0, 0), *[(1, 1)] * 3, (0, 0), (0, 0)))
    kernel = params["kernel"][:, :, :, 0]  # (3, 3, 3, D)
    pooled = np.zeros((2, 2, 2, 2, 3, 4), np.float32)
    for t, h, w in np.ndindex(2, 2, 2):
        window = padded[:, t : t + 3, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3]
        pooled[:, t, h, w] = np.einsum("nabcyd,abcd->nyd", window, kernel)
    whole = np.concatenate([x[:, :alone], pooled.reshape(2, 8, 3, 4)], axis=1)
    centred = whole - whole.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    expected = normed * params["norm"]["scale"] + params["norm"]["bias"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def attention(**fields):
    return pa.PoolingAttention(2, 8, **{"key_stride": (1, 2, 2), **fields})


def applied(module, params, x):
    return np.asarray(module.apply({"params": params}, x, GRID, train=False))


def test_queries_are_added_to_all_but_the_class_token():
    x = noise(1, 33, 8)
    plain, kept, all_of_it = (
        attention(query_stride=(1, 2, 2), **fields)
        for fields in (
            {},
            {"residual": True},
            {"residual": True, "residual_class_token": True},
        )
    )
    params = started(plain, x, train=False)
    y, with_rest, with_all = (applied(module, params, x) for module in (plain, kept, all_of_it))
    assert y.shape == (1, 9, 8)
    np.testing.assert_array_equal(y[:, 0], with_rest[:, 0])
    assert np.abs(y[:, 0] - with_all[:, 0]).max() > 1e-2
    np.testing.assert_allclose(with_rest[:, 1:], with_all[:, 1:], atol=1e-6)
    assert (np.abs(y - with_rest)[:, 1:].max(-1) > 1e-2).all()


def test_queries_without_a_stride_are_pooled_only_if_asked():
    x = noise(1, 32, 8)
    assert "query_pool" not in started(attention(), x, train=False)
    assert "query_pool" in started(attention(pool_queries=True), x, train=False)


def test_pairs_with_the_class_token_have_no_bias():
    x = noise(1, 33, 8)
    module = attention(table_rows=(3, 7, 7))
    params = started(module, x, train=False)
    tables = {n: p for n, p in params.items() if n.startswith("relative_")}
    assert {n: p.shape for n, p in tables.items()} == {
        "relative_time_position_embedding": (3, 4),
        "relative_height_position_embedding": (7, 4),
        "relative_width_position_embedding": (7, 4),
    }
    without = {n: p for n, p in params.items() if n not in tables}
    y, plain = applied(module, params, x), applied(attention(), without, x)
    np.testing.assert_allclose(y[:, 0], plain[:, 0], atol=1e-6)
    assert (np.abs(y - plain)[:, 1:].max(-1) > 1e-4).all()


def test_biases_of_the_projections():
    x = noise(1, 32, 8)
    params = started(attention(qkv_bias="none"), x, train=False)
    assert "bias" not in params["query"] and "bias" in params["out"]
    with pytest.raises(UnknownNameError, match="unknown qkv_bias 'some'"):
        started(attention(qkv_bias="some"), x, train=False)
