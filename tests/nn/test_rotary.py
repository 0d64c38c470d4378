"""Rotary positions: pair by pair in plain numpy, what scores depend on, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.rotary import rotary_attention, rotary_tables, rotate

RNG = np.random.default_rng(0)


def turned(vector, place):
    """One head of one token at (time, row, column), number by number."""
    count = len(vector) // 6
    out = vector.copy()
    for axis, position in enumerate(place):
        for i in range(count):
            first = 2 * count * axis + 2 * i
            a, b = vector[first], vector[first + 1]
            # The angles stand twice in a row: 0 … K-1, 0 … K-1.
            of_a, of_b = (position / 10000 ** ((j % count) / count) for j in (2 * i, 2 * i + 1))
            out[first] = a * np.cos(of_a) - b * np.sin(of_a)
            out[first + 1] = b * np.cos(of_b) + a * np.sin(of_b)
    return out


@pytest.mark.parametrize("head_dim", [6, 8, 16, 24, 64])
def test_every_token_is_turned_by_its_place(head_dim):
    grid = (3, 2, 4)
    x = RNG.normal(size=(2, 24, 2, head_dim)).astype(np.float32)
    got = np.asarray(rotate(jnp.asarray(x), *rotary_tables(grid, head_dim)))
    for token, place in enumerate(np.ndindex(*grid)):
        for n, head in np.ndindex(2, 2):
            expected = turned(x[n, token, head].astype(np.float64), place)
            np.testing.assert_allclose(got[n, token, head], expected, atol=2e-6)
    rest = head_dim - head_dim // 6 * 6
    assert rest in (0, 2, 4)
    np.testing.assert_array_equal(got[..., head_dim - rest :], x[..., head_dim - rest :])


def test_with_one_angle_an_axis_scores_depend_on_distances_alone():
    """Only then is the published form a turn."""
    grid, (q, k) = (4, 3, 3), RNG.normal(size=(2, 6)).astype(np.float32)
    tables = rotary_tables(grid, 6)
    query, key = (np.asarray(rotate(jnp.tile(x, (1, 36, 1, 1)), *tables))[0, :, 0] for x in (q, k))
    scores = (query @ key.T).reshape(*grid, *grid)
    np.testing.assert_allclose(scores[0, 0, 0, 1, 2, 1], scores[2, 0, 1, 3, 2, 2], atol=1e-5)
    assert abs(scores[0, 0, 0, 1, 0, 0] - scores[1, 0, 0, 0, 0, 0]) > 1e-3
    np.testing.assert_allclose(np.linalg.norm(query, axis=-1), np.linalg.norm(q), rtol=1e-5)


def test_attention_turns_queries_and_keys_but_not_values():
    grid = (2, 2, 2)
    query, key, value = RNG.normal(size=(3, 2, 8, 3, 8)).astype(np.float32)
    tables = rotary_tables(grid, 8)
    got = jax.jit(lambda *x: rotary_attention(grid, 8)(*x, scale=0.7))(query, key, value)
    expected = dot_product_attention(
        rotate(query, *tables), rotate(key, *tables), jnp.asarray(value), scale=0.7
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_halves_are_turned_in_float32():
    x = jnp.asarray(RNG.normal(size=(1, 64, 1, 12)), jnp.bfloat16)
    tables = rotary_tables((64, 1, 1), 12)
    got = rotate(x, *tables)
    assert got.dtype == jnp.bfloat16
    exact = rotate(x.astype(jnp.float32), *tables)
    np.testing.assert_array_equal(got, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("head_dim", [4, 9])
def test_heads_that_have_no_room(head_dim):
    with pytest.raises(ValueError, match=f"heads of an even size from 6, got {head_dim}; choose"):
        rotary_tables((1, 1, 1), head_dim)
