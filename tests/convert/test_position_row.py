"""Rows of positions, resized as the original code resizes them."""

import numpy as np
import pytest
from scipy import ndimage

from jaxvid.convert.layout import LayoutError
from jaxvid.convert.position_row import PositionRow, ResizedGrid, resize_grid

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "old, new",
    [
        ((4, 6, 6), (4, 9, 9)),
        ((4, 5, 7), (8, 3, 2)),
        ((14, 14), (24, 20)),
        ((16,), (4,)),
        ((2,), (7,)),
    ],
)
def test_as_scipys_zoom_of_order_1(old, new):
    table = RNG.normal(size=(*old, 5)).astype(np.float32)
    zoom = [n / o for n, o in zip((*new, 5), (*old, 5), strict=True)]
    got = resize_grid(table, new)
    assert got.dtype == np.float32 and got.shape == (*new, 5)
    np.testing.assert_allclose(got, ndimage.zoom(table, zoom, order=1), atol=1e-5)


def test_one_position_is_repeated_and_equal_grids_are_left():
    table = RNG.normal(size=(1, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(resize_grid(table, (5, 3)), np.repeat(table, 5, 0))
    assert resize_grid(table, (1, 3)) is table
    np.testing.assert_array_equal(resize_grid(table, (1, 1)), table[:, :1])
    with pytest.raises(LayoutError, match=r"positions over \(1, 3\) to \(3,\)"):
        resize_grid(table, (3,))


@pytest.mark.parametrize("token", [False, True])
def test_a_row_becomes_a_grid_and_back(token):
    row = RNG.normal(size=(1, 24 + token, 5)).astype(np.float32)
    wanted = [(5,)] * token + [(2, 3, 4, 5)]
    for grid in (None, (2, 3, 4)):
        operation = PositionRow(grid, token)
        made = operation.load([row], wanted)
        np.testing.assert_array_equal(made[-1].reshape(24, 5), row[0, int(token) :])
        assert len(made) == 1 + token and (not token or (made[0] == row[0, 0]).all())
        np.testing.assert_array_equal(operation.save(made)[0], row)


def test_a_row_of_another_grid_is_resized():
    row = RNG.normal(size=(1, 25, 5)).astype(np.float32)
    made = PositionRow((2, 3, 4), True).load([row], [(5,), (4, 3, 2, 5)])
    expected = resize_grid(row[0, 1:].reshape(2, 3, 4, 5), (4, 3, 2))
    np.testing.assert_array_equal(made[1], expected)
    with pytest.raises(
        LayoutError, match=r"not the positions of \(2, 3, 4\) patches, \(1, 24, …\)"
    ):
        PositionRow((2, 3, 4)).load([row], [(2, 3, 4, 5)])
    with pytest.raises(LayoutError, match=r"shape \(25, 5\)"):
        PositionRow((2, 3, 4), True).load([row[0]], [(5,), (2, 3, 4, 5)])


def test_a_grid_of_one_frame_is_that_of_every_frame():
    table = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    (made,) = ResizedGrid().load([table], [(6, 3, 4, 5)])
    np.testing.assert_array_equal(made, np.broadcast_to(table, (6, 3, 4, 5)))
    (made,) = ResizedGrid().load([table], [(5, 2, 5)])
    assert made.shape == (5, 2, 5)
    np.testing.assert_array_equal(ResizedGrid().save([table])[0], table)
