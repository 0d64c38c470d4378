import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops import flip


def test_a_whole_clip_is_mirrored_or_left():
    video = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 5, 3), dtype=np.uint8)
    flips = jnp.array([True, False, True, False])
    got = np.asarray(flip.flip_video(jnp.asarray(video), flips))
    assert got.dtype == np.uint8
    for n in range(4):
        expected = video[n][:, :, ::-1] if n % 2 == 0 else video[n]
        np.testing.assert_array_equal(got[n], expected)


def test_flow_is_mirrored_and_what_went_right_goes_left():
    flow = np.random.default_rng(0).standard_normal((4, 2, 3, 5, 2)).astype(np.float32)
    got = np.asarray(flip.flip_flow(jnp.asarray(flow), jnp.array([True, False, True, False])))
    for n in (0, 2):
        np.testing.assert_array_equal(got[n, ..., 0], -flow[n, :, :, ::-1, 0])
        np.testing.assert_array_equal(got[n, ..., 1], flow[n, :, :, ::-1, 1])
    np.testing.assert_array_equal(got[1::2], flow[1::2])


def test_decisions_follow_probability_and_key():
    first = flip.flip_decisions(jax.random.key(1), 4000, 0.3)
    assert 0.26 < float(first.mean()) < 0.34
    np.testing.assert_array_equal(first, flip.flip_decisions(jax.random.key(1), 4000, 0.3))
    assert (first != flip.flip_decisions(jax.random.key(2), 4000, 0.3)).any()
    assert flip.flip_decisions(jax.random.key(1), 8, 1.0).all()
    assert not flip.flip_decisions(jax.random.key(1), 8, 0.0).any()


def test_targets_of_flipped_clips_change_into_their_mirror():
    swap = flip.swap_table(["left", "still", "right"], [("left", "right")])
    assert swap.tolist() == [2, 1, 0]
    targets = jnp.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    got = flip.flip_targets(targets, jnp.array([True, False]), swap)
    np.testing.assert_allclose(got, [[0.1, 0.2, 0.7], [0.7, 0.2, 0.1]])


def test_a_probability_is_between_0_and_1():
    with pytest.raises(ValueError, match=r"the probability is 1.5, expected a number in \[0, 1\]"):
        flip.flip_decisions(jax.random.key(0), 2, 1.5)


def test_wrong_pairs_are_named():
    with pytest.raises(ValueError, match=r"flip pair \('a', 'x'\): 'x' is not a class"):
        flip.swap_table(["a", "b"], [("a", "x")])
    with pytest.raises(ValueError, match=r"flip pair \('c', 'a'\): 'a' is in two pairs"):
        flip.swap_table(["a", "b", "c"], [("a", "b"), ("c", "a")])


def test_a_table_of_other_length_is_refused():
    with pytest.raises(ValueError, match="swap table has 2 classes and the targets have 3"):
        flip.flip_targets(jnp.zeros((1, 3)), jnp.array([True]), np.array([1, 0]))
