"""Masks: exact counts, their structure, every choice equally likely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.ops.tube_mask import (
    KINDS,
    frame_mask,
    make_mask,
    num_masked,
    random_mask,
    split_tokens,
    tube_mask,
)

pytestmark = pytest.mark.usefixtures("quickly_made")

GRID = (4, 3, 5)


def drawn(kind, batch=6, ratio=0.5, seed=0):
    mask = make_mask(kind, jax.random.key(seed), batch, GRID, ratio)
    assert mask.shape == (batch, 60) and mask.dtype == jnp.bool_
    return np.asarray(mask)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_each_row_masks_the_promised_number(kind, ratio):
    if (kind, ratio) == ("frame", 0.9):
        ratio = 0.75
    assert (drawn(kind, ratio=ratio).sum(axis=1) == num_masked(kind, GRID, ratio)).all()


def test_numbers_of_the_paper():
    assert num_masked("tube", (8, 14, 14), 0.9) == 8 * 176  # 160 visible
    assert num_masked("tube", (8, 14, 14), 0.75) == 8 * 147
    assert num_masked("random", (8, 14, 14), 0.9) == 1411
    assert num_masked("frame", (8, 14, 14), 0.875) == 7 * 196
    assert num_masked("random", (1, 10, 10), 0.29) == 29  # 0.29·100 is 28.999999999999996


def test_tubes_are_the_same_at_every_moment():
    by_moment = drawn("tube").reshape(6, 4, 15)
    assert (by_moment == by_moment[:, :1]).all()
    by_moment = drawn("random").reshape(6, 4, 15)
    assert not (by_moment == by_moment[:, :1]).all(axis=(1, 2)).any()


def test_frames_are_hidden_whole():
    by_moment = drawn("frame").reshape(6, 4, 15)
    assert (by_moment == by_moment[:, :, :1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_keys_differ_and_repeat(kind):
    one = drawn(kind, batch=32)
    assert len(np.unique(one, axis=0)) > 3
    np.testing.assert_array_equal(one, drawn(kind, batch=32))
    assert (one != drawn(kind, batch=32, seed=1)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_masked_equally_often(kind):
    rows = 4000
    often = drawn(kind, batch=rows).mean(axis=0)
    share = num_masked(kind, GRID, 0.5) / 60
    assert np.abs(often - share).max() < 5 * np.sqrt(share * (1 - share) / rows)


def test_every_pair_is_masked_equally_often():
    mask = drawn("random", batch=4000).astype(np.float64)
    together = (mask.T @ mask / len(mask))[~np.eye(60, dtype=bool)]
    expected = 30 / 60 * 29 / 59
    assert np.abs(together - expected).max() < 6 * np.sqrt(expected * (1 - expected) / 4000)


def test_under_jit_it_is_the_same():
    traced = jax.jit(tube_mask, static_argnums=(1, 2, 3))(jax.random.key(3), 5, GRID, 0.6)
    np.testing.assert_array_equal(traced, tube_mask(jax.random.key(3), 5, GRID, 0.6))


def test_named_and_direct_are_the_same():
    for kind, function in zip(KINDS, (tube_mask, random_mask, frame_mask), strict=True):
        np.testing.assert_array_equal(
            function(jax.random.key(0), 6, GRID, 0.5), drawn(kind), err_msg=kind
        )


def test_tokens_are_split_in_raster_order():
    mask = drawn("random")
    visible, masked = split_tokens(jnp.asarray(mask), 30)
    for row, seen, hidden in zip(mask, visible, masked, strict=True):
        np.testing.assert_array_equal(seen, np.flatnonzero(~row))
        np.testing.assert_array_equal(hidden, np.flatnonzero(row))


@pytest.mark.parametrize(
    "kind, ratio, words",
    [
        ("tube", 0.0, "hides 0 of the 15 tubes"),
        ("tube", 1.0, "hides 15 of the 15 tubes"),
        ("frame", 0.2, "hides 0 of the 4 moments .* a ratio from 0.25 to 0.75"),
        ("random", 0.01, "hides 0 of the 60 tokens"),
        ("random", -1, "hides -60"),
    ],
)
def test_ratios_that_leave_nothing(kind, ratio, words):
    with pytest.raises(ValueError, match=words):
        num_masked(kind, GRID, ratio)
    with pytest.raises(ValueError, match="at least one hidden and one visible"):
        make_mask(kind, jax.random.key(0), 2, GRID, ratio)


def test_unknown_kinds():
    for call in (lambda: num_masked("tubes", GRID, 0.5), lambda: drawn("tubes")):
        with pytest.raises(UnknownNameError, match="Did you mean 'tube'"):
            call()
