import numpy as np
import pytest

from jaxvid.decode.orientation import Orientation

PICTURE = np.arange(2 * 3 * 3).reshape(2, 3, 3)
# The four numbers (a, b, c, d) that put a stored point at (a x + c y, b x + d y).
TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def matrix(a, b, c, d):
    one = 1 << 16
    return np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], np.int32)


@pytest.mark.parametrize("degrees", TURNS)
def test_turns(degrees):
    orientation = Orientation.from_matrix(matrix(*TURNS[degrees]))
    expected = np.rot90(PICTURE, -degrees // 90)
    np.testing.assert_array_equal(orientation.upright(PICTURE), expected)
    assert orientation.degrees_clockwise == degrees
    assert not orientation.mirrored


@pytest.mark.parametrize("degrees", TURNS)
def test_mirrored_left_to_right_and_then_turned(degrees):
    a, b, c, d = TURNS[degrees]
    orientation = Orientation.from_matrix(matrix(-a, -b, c, d))
    expected = np.rot90(PICTURE[:, ::-1], -degrees // 90)
    np.testing.assert_array_equal(orientation.upright(PICTURE), expected)
    assert orientation.degrees_clockwise == degrees
    assert orientation.mirrored


def test_an_odd_angle_is_taken_for_the_nearest_quarter_turn():
    turn = np.deg2rad(87)
    values = (np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn))
    assert Orientation.from_matrix(matrix(*values)).degrees_clockwise == 90
