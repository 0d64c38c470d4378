"""Tables of positions: which entry each token takes, and which size a table has."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.pooled_attention import linear_weights
from jaxvid.nn.position_table import (
    cubic_weights,
    nearest_rows,
    position_table,
    resize_nearest,
    resize_weighted,
)


def test_each_place_takes_the_row_at_its_share():
    assert nearest_rows(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert nearest_rows(4, 6).tolist() == [0, 0, 1, 2, 2, 3]
    assert nearest_rows(6, 4).tolist() == [0, 1, 3, 4]
    assert nearest_rows(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert nearest_rows(1, 3).tolist() == [0, 0, 0] and nearest_rows(7, 1).tolist() == [0]


@pytest.mark.torch
def test_the_rows_are_pytorchs():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    for rows in (1, 3, 8, 14, 28, 49):
        for size in (1, 2, 5, 6, 9, 14, 15, 21, 28, 33, 56, 96):
            numbers = torch.arange(rows, dtype=torch.float32)[None, None]
            expected = torch.nn.functional.interpolate(numbers, size=size, mode="nearest")
            assert nearest_rows(rows, size).tolist() == expected[0, 0].int().tolist(), (rows, size)


def test_every_axis_but_the_last_is_resized():
    table = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    resized = resize_nearest(table, (4, 3))
    np.testing.assert_array_equal(resized, table[[0, 0, 1, 1]])
    np.testing.assert_array_equal(resize_nearest(table, (2, 6)), table[:, [0, 0, 1, 1, 2, 2]])
    assert resize_nearest(table, (2, 3)) is table
    np.testing.assert_array_equal(resize_nearest(jnp.asarray(table), (4, 3)), resized)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2\) has no \(\*\(4,\), D\) form"):
        resize_nearest(table, (4,))


@pytest.mark.torch
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 3), (2, 7), (9, 5)])
def test_weighted_sums_are_pytorchs(size):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    table = np.random.default_rng(0).standard_normal((3, 4, 2), dtype=np.float32)
    channels_first = torch.tensor(table).permute(2, 0, 1)[None]
    for mode, weights in (("bicubic", cubic_weights), ("bilinear", linear_weights)):
        resized = torch.nn.functional.interpolate(channels_first, size=size, mode=mode)
        expected = resized[0].permute(1, 2, 0).numpy()
        for given in (table, jnp.asarray(table)):
            got = resize_weighted(given, size, weights)
            assert got.dtype == np.float32 and isinstance(got, np.ndarray) == (given is table)
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_weighted_sum_of_the_same_size_is_the_table():
    table = np.ones((2, 3, 2), np.float32)
    assert resize_weighted(table, (2, 3), cubic_weights) is table
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2\) has no \(\*\(4,\), D\) form"):
        resize_weighted(table, (4,), cubic_weights)


class Reading(nn.Module):
    made_for: tuple

    @nn.compact
    def __call__(self, rows, columns):
        normal = nn.initializers.normal(1.0)
        shape = (rows, columns)
        return position_table(self, "places", shape, 2, made_for=self.made_for, init=normal)


def test_a_tables_own_size_is_the_asked_or_the_first_ones():
    for made_for, expected in (((None, None), (4, 6)), ((2, None), (2, 6)), ((2, 3), (2, 3))):
        variables = Reading(made_for).init(jax.random.key(0), 4, 6)
        table = np.asarray(variables["params"]["places"])
        assert table.shape == (*expected, 2) and table.dtype == np.float32
        for rows, columns in ((4, 6), (8, 12), (3, 5)):
            got = Reading(made_for).apply(variables, rows, columns)
            np.testing.assert_array_equal(got, resize_nearest(table, (rows, columns)))
