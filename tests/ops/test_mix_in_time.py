"""Cutmix of stretches of time, and clips that come with sound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.ops import mix

N, T, H, W = 8, 6, 12, 16


def clips(n=N):
    """Clip i is the constant i and of class i, so that every pixel tells where it came from."""
    shape = (n, T, H, W, 3)
    return jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32)[:, None, None, None, None], shape)


@pytest.mark.parametrize("cut", ["frames", "cube"])
def test_targets_tell_the_true_share(cut):
    cutmix = jax.jit(mix.cutmix, static_argnames="cut")
    for key in range(5):
        got, targets = map(np.asarray, cutmix(jax.random.key(key), clips(), jnp.eye(N), cut=cut))
        np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)
        expected = got.mean(axis=(1, 2, 3, 4), dtype=np.float64)
        np.testing.assert_allclose(targets @ np.arange(N), expected, atol=1e-5)


def cut_out(cut, n=600):
    shares = mix._cut_shares(jax.random.key(0), (n, T, H, W), 1.0, cut)
    shares = np.broadcast_to(np.asarray(shares), (n, T, H, W))
    assert set(np.unique(shares)) <= {0.0, 1.0}
    return shares == 0


def test_frames_are_whole_and_neighbours():
    gone = cut_out("frames")
    when = gone.any(axis=(2, 3))
    np.testing.assert_array_equal(gone, np.broadcast_to(when[:, :, None, None], gone.shape))
    assert (np.abs(np.diff(when.astype(int), axis=1)).sum(axis=1) <= 2).all(), "no gaps"
    lengths = when.sum(axis=1)
    assert lengths.max() == T - 1 and lengths.min() == 0
    assert when.any(axis=0).all(), "anywhere"


def test_a_cube_is_a_box_in_a_stretch_of_time_with_the_drawn_volume():
    gone = cut_out("cube")
    when, rows, columns = gone.any((2, 3)), gone.any((1, 3)), gone.any((1, 2))
    box = when[:, :, None, None] & rows[:, None, :, None] & columns[:, None, None, :]
    np.testing.assert_array_equal(gone, box)
    # A side has the share u^(1/3), u uniform in [0, 1]; with its centre anywhere in the frame it
    # loses a quarter of itself for every full side. Rounding down to whole pixels costs some more.
    u = np.linspace(0, 1, 100001)
    side = np.cbrt(u)
    expected = np.mean((side * (1 - side / 4)) ** 3)
    assert 0.7 * expected < gone.mean() < expected
    inner = [np.cbrt(u).mean() * size for size in (T, H, W)]
    uncut = [(x.sum(axis=1)[x.sum(axis=1) > 0]).max() for x in (when, rows, columns)]
    assert all(most >= mean for most, mean in zip(uncut, inner, strict=True))


def test_a_tube_stays_what_it_was():
    shares = mix._cut_shares(jax.random.key(3), (N, T, H, W), 1.0, "tube")
    assert shares.shape == (N, 1, H, W)
    plain = mix.cutmix(jax.random.key(3), clips(), jnp.eye(N))
    named = mix.cutmix(jax.random.key(3), clips(), jnp.eye(N), cut="tube")
    np.testing.assert_array_equal(plain[0], named[0])


@pytest.mark.parametrize("cut", mix.CUTS)
def test_either_kind_with_every_cut(cut):
    got, targets = mix.mixup_or_cutmix(
        jax.random.key(1), clips(64), jnp.eye(64), cut=cut, probability=1.0
    )
    values = np.asarray(got).reshape(64, -1)
    own, partner = np.arange(64)[:, None], np.arange(64)[::-1][:, None]
    whole = (np.isclose(values, own) | np.isclose(values, partner)).all(axis=1)
    assert 0.3 < whole.mean() < 0.7, "the others are blended"
    np.testing.assert_allclose(targets @ np.arange(64), values.mean(axis=1), atol=1e-3)


@pytest.mark.parametrize("cut", mix.CUTS)
def test_sound_is_mixed_by_the_share_of_the_pixels(cut):
    sound = jnp.broadcast_to(jnp.arange(N, dtype=jnp.float32)[:, None, None], (N, 5, 3))
    weights = jnp.array([1, 0, 1, 1, 1, 1, 1, 1])
    sound = sound.at[1].set(jnp.nan)
    both = {"video": clips(), "audio": sound}
    got, targets = mix.mixup_or_cutmix(jax.random.key(2), both, jnp.eye(N), weights, cut=cut)
    assert got["audio"].shape == (N, 5, 3)
    for n in (0, 2, 3, 4, 5, 6, 7):
        expected = np.asarray(targets[n] @ jnp.arange(N))
        np.testing.assert_allclose(got["audio"][n], expected, atol=1e-5)
    np.testing.assert_array_equal(got["audio"][6], 6.0)  # its partner does not count


def test_features_alone_are_mixed_but_not_cut():
    features = {
        "features": jnp.broadcast_to(jnp.arange(N, dtype=jnp.bfloat16)[:, None, None], (N, 4, 7))
    }
    got, targets = mix.mixup_or_cutmix(
        jax.random.key(0), features, jnp.eye(N), mixup_alpha=1.0, cutmix_alpha=0.0
    )
    assert got["features"].dtype == jnp.bfloat16
    expected = np.broadcast_to(np.asarray(targets @ jnp.arange(N))[:, None, None], (N, 4, 7))
    np.testing.assert_allclose(np.asarray(got["features"], np.float32), expected, rtol=0.01)
    with pytest.raises(ValueError, match="cutmix cuts out pixels and these clips have none"):
        mix.cutmix(jax.random.key(0), features, jnp.eye(N))


def test_wrong_inputs():
    with pytest.raises(UnknownNameError, match="unknown cutmix shape 'tubes'. Did you mean 'tube'"):
        mix.cutmix(jax.random.key(0), clips(), jnp.eye(N), cut="tubes")
    with pytest.raises(ValueError, match="expected the same number of clips, height and width"):
        mix.mixup(
            jax.random.key(0), {"video": clips(), "audio": jnp.zeros((N + 1, 2, 2))}, jnp.eye(N)
        )
    with pytest.raises(ValueError, match=r"mixup was given float32 of shape \(8, 2, 2\), expected"):
        mix.mixup(jax.random.key(0), jnp.zeros((N, 2, 2)), jnp.eye(N))
