import numpy as np
import pytest

from jaxvid.nn.clip_shape import check_clip


def test_a_clip_that_fits_passes():
    check_clip(np.zeros((1, 4, 32, 40, 3)), frames=4, size=32)
    check_clip(np.zeros((1, 4, 32, 40, 2)), channels=2, name="flow")


@pytest.mark.parametrize(
    "shape, words",
    [
        ((4, 32, 32, 3), r"\(4, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 4, 32, 32, 2), "2 channels in the last axis, expected"),
        ((1, 3, 32, 32, 3), "has 3 frames .* at least 4; give longer clips"),
        ((1, 4, 32, 31, 3), "frames of 32×31 .* at least 32×32; give larger frames"),
    ],
)
def test_what_came_and_what_was_expected(shape, words):
    with pytest.raises(ValueError, match=words):
        check_clip(np.zeros(shape), frames=4, size=32)
