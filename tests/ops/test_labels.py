import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops import labels


def test_one_hot():
    got = labels.one_hot_targets(jnp.array([[2], [0], [-1]]), 3)
    np.testing.assert_array_equal(got, [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    assert got.dtype == jnp.float32


def test_smoothing_gives_every_class_its_part_and_an_unlabelled_clip_none():
    got = labels.one_hot_targets(jnp.array([[1], [-1]]), 4, smoothing=0.1)
    np.testing.assert_allclose(got, [[0.025, 0.925, 0.025, 0.025], [0] * 4], atol=1e-7)


def test_multi_hot_ignores_padding_and_repeats():
    got = labels.multi_hot_targets(jnp.array([[2, 0, -1], [1, 1, -1], [-1, -1, -1]]), 4)
    np.testing.assert_array_equal(got, [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert got.dtype == jnp.float32


def test_labelled():
    assert labels.labelled(jnp.array([[-1, 3], [-1, -1]])).tolist() == [True, False]


def test_several_labels_are_not_one_hot():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(B, 1\).* multi_hot_targets"):
        labels.one_hot_targets(jnp.zeros((2, 3), jnp.int32), 4)


def test_smoothing_is_below_1():
    with pytest.raises(ValueError, match=r"label smoothing is 1.0, expected a number in \[0, 1\)"):
        labels.one_hot_targets(jnp.zeros((2, 1), jnp.int32), 4, smoothing=1.0)


def test_flat_labels_are_refused():
    with pytest.raises(ValueError, match=r"multi_hot_targets was given labels of shape \(2,\)"):
        labels.multi_hot_targets(jnp.zeros(2, jnp.int32), 4)


def test_targets_of_heads_stand_in_a_row():
    batch = {"label_verb": jnp.array([[1], [-1]]), "label_noun": jnp.array([[2], [0]])}
    heads = {"verb": 2, "noun": 3}
    got = labels.head_targets(batch, heads)
    np.testing.assert_array_equal(got, [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]])
    smooth = labels.head_targets(batch, heads, 0.3)
    np.testing.assert_allclose(smooth[0], [0.15, 0.85, 0.1, 0.1, 0.8], atol=1e-6)
    np.testing.assert_allclose(smooth[1], [0, 0, 0.8, 0.1, 0.1], atol=1e-6)


def test_a_head_without_labels_is_named():
    batch = {"label_verb": jnp.array([[1]]), "mask": jnp.array([True])}
    with pytest.raises(ValueError, match="no 'label_noun' for head 'noun'; its labels: label_verb"):
        labels.head_targets(batch, {"verb": 2, "noun": 3})
