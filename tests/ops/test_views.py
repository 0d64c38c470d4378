import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops import views


def test_fold_and_unfold_keep_views_of_a_clip_together():
    array = jnp.arange(2 * 3 * 4).reshape(2, 3, 4)
    folded = views.fold(array)
    assert folded.shape == (6, 4)
    np.testing.assert_array_equal(folded[4], array[1, 1])
    np.testing.assert_array_equal(views.unfold(folded, 3), array)


def test_repeat_follows_fold():
    labels = jnp.array([[5], [7]])
    assert views.repeat(labels, 3).ravel().tolist() == [5, 5, 5, 7, 7, 7]
    assert views.repeat(jnp.array([True, False]), 2).tolist() == [True, True, False, False]


def test_mean_over_views():
    np.testing.assert_allclose(views.mean_over_views(jnp.array([1.0, 3.0, 5.0, 9.0]), 2), [2, 7])


def test_wrong_numbers_of_views():
    with pytest.raises(ValueError, match="5 rows cannot be unfolded into 2 views a clip"):
        views.unfold(jnp.zeros((5, 2)), 2)
    with pytest.raises(ValueError, match=r"fold was given shape \(4,\), expected \(B, V, …\)"):
        views.fold(jnp.zeros(4))
    with pytest.raises(ValueError, match="repeat was asked for 0 views"):
        views.repeat(jnp.zeros(4), 0)


def test_each_frame_is_a_clip_of_its_own():
    video = jnp.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    seen = []

    def change(frames):
        seen.append(frames.shape)
        return frames - frames[:, :, :1, :1]

    got = views.each_frame(change, video)
    assert seen == [(6, 1, 2, 2)]
    np.testing.assert_array_equal(got, np.tile([[0.0, 1.0], [2.0, 3.0]], (2, 3, 1, 1)))
    with pytest.raises(ValueError, match=r"each_frame was given shape \(4,\), expected \(N, T"):
        views.each_frame(change, jnp.zeros(4))
