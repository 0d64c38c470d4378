import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.ops.erase import random_erasing

pytestmark = pytest.mark.usefixtures("quickly_made")

N, T, H, W = 300, 2, 24, 40
ONES = jnp.ones((N, T, H, W, 3))


@functools.lru_cache
def erased(**options):
    """The share of rows, columns and area erased for each clip, after checking that it is a box."""
    got = np.asarray(random_erasing(jax.random.key(0), ONES, fill="constant", **options))
    hole = (got == 0).all(axis=-1)  # (N, T, H, W)
    assert ((got == 0).any(axis=-1) == hole).all(), "all channels go together"
    assert (hole == hole[:, :1]).all(), "every frame has the same box"
    hole = hole[:, 0]
    rows, columns = hole.any(axis=2), hole.any(axis=1)
    assert (hole == rows[:, :, None] & columns[:, None, :]).all()
    for line in (*rows, *columns):
        assert (np.diff(np.flatnonzero(line)) == 1).all(), "without gaps"
    return rows.sum(1), columns.sum(1), hole


def test_a_box_of_the_right_area_and_aspect():
    tall, wide, hole = erased(probability=1.0, area=(0.1, 0.3), aspect=(0.5, 2.0))
    share = hole.mean(axis=(1, 2))
    assert (tall > 0).all(), "every clip was chosen and a box was found"
    assert 0.07 < share.min() < 0.13 and 0.27 < share.max() < 0.33
    assert 0.4 < (tall / wide).min() < 0.6 and 1.7 < (tall / wide).max() < 2.4
    assert 0.17 < share.mean() < 0.23
    assert 0.9 < np.exp(np.log(tall / wide).mean()) < 1.1, "aspects are log-uniform"


def test_boxes_lie_everywhere():
    _, _, hole = erased(probability=1.0, area=(0.05, 0.1), aspect=(0.5, 2.0))
    covered = hole.mean(axis=0)
    edges = (covered[0], covered[-1], covered[:, 0], covered[:, -1])
    assert all(edge.max() > 0 for edge in edges), "up to the border"
    assert abs(covered[: H // 2].mean() - covered[H // 2 :].mean()) < 0.02
    assert abs(covered[:, : W // 2].mean() - covered[:, W // 2 :].mean()) < 0.02


def test_probability():
    tall, _, _ = erased(probability=0.25)
    assert 0.17 < (tall > 0).mean() < 0.33


def test_boxes_that_do_not_fit_are_drawn_again():
    # 0.9 of the frame with an aspect up to 3 fits only now and then; never more than the frame.
    tall, wide, _ = erased(probability=1.0, area=(0.1, 0.9), aspect=(1 / 3, 3.0))
    assert (tall > 0).mean() > 0.98 and tall.max() < H and wide.max() < W
    tall, _, _ = erased(probability=1.0, area=(0.9, 0.9), aspect=(5.0, 5.0))
    assert (tall == 0).all(), "a clip without a fitting box keeps its pixels"


def test_noise_is_standard_normal_and_new_in_each_frame():
    video = jnp.full((64, T, H, W, 3), 100.0)
    got = np.asarray(jax.jit(random_erasing)(jax.random.key(5), video))
    noise = got[got != 100.0]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1.0) < 0.05
    both = (got[:, 0] != 100.0) & (got[:, 1] != 100.0)
    assert abs(np.corrcoef(got[:, 0][both], got[:, 1][both])[0, 1]) < 0.05


def test_dtype_is_kept():
    video = jnp.ones((2, 1, 8, 8, 3), jnp.bfloat16)
    for fill in ("pixel", "constant"):
        assert random_erasing(jax.random.key(0), video, fill=fill).dtype == jnp.bfloat16


def test_unknown_fill():
    with pytest.raises(UnknownNameError, match="unknown erasing fill 'pixels'. Did you mean 'pix"):
        random_erasing(jax.random.key(0), ONES, fill="pixels")


@pytest.mark.parametrize("wrong", [{"area": (0.3, 0.1)}, {"area": (0.1, 2)}, {"aspect": (0, 1)}])
def test_wrong_ranges(wrong):
    with pytest.raises(ValueError, match=r"random_erasing has .* expected areas \(low, high\)"):
        random_erasing(jax.random.key(0), ONES, **wrong)


def test_wrong_probability():
    with pytest.raises(ValueError, match="the probability is -1"):
        random_erasing(jax.random.key(0), ONES, probability=-1)
