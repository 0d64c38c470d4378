import jax.numpy as jnp
import numpy as np

from jaxvid.ops.box import inside_box, inside_stretch


def test_half_open_and_cut_off_at_the_border():
    inside = inside_box(
        jnp.array([1, -2, 0]),
        jnp.array([2, 3, 1]),
        jnp.array([3, 1, 0]),
        jnp.array([4, 9, 2]),
        4,
        5,
    )
    expected = np.zeros((3, 4, 5), bool)
    expected[0, 1:3, 2:4] = True
    expected[1, 0:1, 3:5] = True  # from -2, up to 9
    np.testing.assert_array_equal(inside, expected)  # the third is empty


def test_stretches_of_time_by_hand():
    got = inside_stretch(jnp.array([1, -2, 3, 0]), jnp.array([3, 1, 9, 0]), 4)
    expected = [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(got, np.array(expected, bool))
