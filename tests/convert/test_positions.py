import jax
import numpy as np
import pytest

from jaxvid.convert.layout import Layout, LayoutError
from jaxvid.convert.positions import Line, Map, resize_line, resize_map

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((16, 3), dtype=np.float32)


def test_a_line_is_resized_linearly():
    expected = jax.image.resize(TABLE, (24, 3), "linear", antialias=False)
    np.testing.assert_allclose(resize_line(TABLE, 24), expected, atol=1e-5)
    assert resize_line(TABLE, 16) is TABLE


@pytest.mark.parametrize("height, width", [(6, 6), (2, 2), (7, 3)])
def test_a_square_map_is_resized_bilinearly(height, width):
    square = TABLE.reshape(4, 4, 3)
    expected = jax.image.resize(square, (height, width, 3), "linear", antialias=False)
    np.testing.assert_allclose(resize_map(TABLE, height, width), expected, atol=1e-5)


def test_a_table_of_as_many_places_is_of_that_map():
    np.testing.assert_array_equal(resize_map(TABLE, 2, 8), TABLE.reshape(2, 8, 3))
    np.testing.assert_array_equal(resize_map(TABLE[:15], 3, 5), TABLE[:15].reshape(3, 5, 3))


def test_what_is_no_square_is_not_resized():
    with pytest.raises(LayoutError, match="15 places are neither a map of 4×4 nor a square one"):
        resize_map(TABLE[:15], 4, 4)


def test_there_and_back():
    for operation, array, shape in [
        (Line(), TABLE, (16, 3)),
        (Line(Layout("1 l d -> l d")), TABLE[None], (16, 3)),
        (Map(), TABLE, (4, 4, 3)),
        (Map(batched=True), TABLE[None], (4, 4, 3)),
    ]:
        (loaded,) = operation.load([array], [shape])
        assert loaded.shape == shape
        np.testing.assert_array_equal(operation.save([loaded])[0], array)
    assert Line().load([TABLE], [(5, 3)])[0].shape == (5, 3)
    assert Map(batched=True).load([TABLE[None]], [(5, 6, 3)])[0].shape == (5, 6, 3)


def test_tables_with_other_axes_are_left_for_the_report_of_shapes():
    assert Line().load([TABLE[0]], [(5, 3)])[0].shape == (3,)
    assert Map().load([TABLE[None]], [(4, 4, 3)])[0].shape == (1, 16, 3)
