import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core import warn_once
from jaxvid.ops import mix

pytestmark = pytest.mark.usefixtures("quickly_made")

N, T, H, W = 8, 2, 12, 20
KINDS = [mix.mixup, mix.cutmix, mix.mixup_or_cutmix]
EITHER_IS_ENOUGH = [*(pytest.param(k, marks=pytest.mark.slow) for k in KINDS[:2]), KINDS[2]]


def clips(n=N):
    """Clip i is the constant i and of class i, so that every pixel tells where it came from."""
    video = jnp.broadcast_to(
        jnp.arange(n, dtype=jnp.float32)[:, None, None, None, None], (n, T, H, W, 3)
    )
    return video, jnp.eye(n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [8, 7])
def test_targets_tell_the_true_share_of_each_clip(kind, n):
    video, targets = clips(n)
    got, got_targets = map(np.asarray, jax.jit(kind)(jax.random.key(0), video, targets))
    np.testing.assert_allclose(got_targets.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(got.mean(axis=(1, 2, 3, 4)), got_targets @ np.arange(n), atol=1e-4)
    for i in range(n):
        others = np.delete(got_targets[i], [i, n - 1 - i])
        assert (others == 0).all(), "only the partner N-1-i"
    if n == 7:
        np.testing.assert_allclose(got[3], video[3], atol=1e-6)  # its own partner


def test_mixup_is_one_share_for_a_whole_clip_and_another_for_the_next():
    video, targets = clips()
    got, got_targets = mix.mixup(jax.random.key(1), video, targets, alpha=0.8)
    assert float(jnp.ptp(got, axis=(1, 2, 3, 4)).max()) < 1e-5
    assert len(np.unique(np.diagonal(got_targets).round(5))) == N


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_shares_are_beta_distributed(alpha):
    shares = np.asarray(mix._mixup_shares(jax.random.key(2), (4000, T, 1, 1, 3), alpha)).ravel()
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_cutmix_is_one_box_through_all_frames():
    video, targets = clips()
    got = np.asarray(mix.cutmix(jax.random.key(3), video, targets)[0])
    cut = (got != np.asarray(video)).all(axis=-1)
    assert (cut == cut[:, :1]).all()
    rows, columns = cut[:, 0].any(axis=2), cut[:, 0].any(axis=1)
    assert (cut[:, 0] == rows[:, :, None] & columns[:, None, :]).all()
    assert cut.any(axis=(1, 2, 3)).sum() >= 6
    others = np.broadcast_to(np.asarray(video)[::-1], got.shape)
    np.testing.assert_array_equal(got[cut], others[cut])


def test_cutmix_boxes_have_their_share_and_lie_everywhere():
    shares = np.asarray(mix._cutmix_shares(jax.random.key(4), (3000, T, 32, 32, 3), 1.0))
    # A box with its centre anywhere loses on average 1/4 of each side that is as long as the
    # frame: E[area] = E[u (1 - sqrt(u)/4)^2] over u uniform in [0, 1].
    u = np.linspace(0, 1, 100001)
    expected = np.mean(u * (1 - np.sqrt(u) / 4) ** 2)
    assert abs((1 - shares).mean() - expected) < 0.02
    covered = (1 - shares).mean(axis=0)
    assert abs(covered[0, 0] - covered[-1, -1]) < 0.05
    assert covered.min() > 0.05


def test_switch_and_probability():
    video = jax.random.normal(jax.random.key(0), (2000, 1, 3, 3, 3))
    targets = jnp.zeros((2000, 2))
    got, _ = mix.mixup_or_cutmix(
        jax.random.key(5), video, targets, probability=0.6, switch_probability=0.25
    )
    own = np.asarray(jnp.isclose(got, video, atol=1e-6).all(-1))[:, 0].reshape(2000, -1)
    other = np.asarray(jnp.isclose(got, video[::-1], atol=1e-6).all(-1))[:, 0].reshape(2000, -1)
    blended = ~(own | other).all(axis=1)
    assert abs(blended.mean() - 0.6 * 0.75) < 0.05
    untouched = own.all(axis=1)
    assert 0.38 < untouched.mean() < 0.50  # 0.4, and cutmix boxes of no pixel


@pytest.mark.parametrize("alphas, boxes", [((0.8, 0.0), False), ((0.0, 1.0), True)])
def test_an_alpha_of_0_leaves_the_other_kind(alphas, boxes):
    video, targets = clips()
    got, _ = mix.mixup_or_cutmix(
        jax.random.key(6), video, targets, mixup_alpha=alphas[0], cutmix_alpha=alphas[1]
    )
    values = np.asarray(got)
    whole = np.isclose(values, np.asarray(video)) | np.isclose(values, np.asarray(video)[::-1])
    assert whole.all() == boxes


@pytest.mark.parametrize("kind", EITHER_IS_ENOUGH)
def test_nothing_of_a_skipped_row_reaches_another(kind):
    video, targets = clips()
    weights = jnp.array([1, 0, 1, 1, 0, 1, 1, 0], bool)  # partners: 0-7 1-6 2-5 3-4
    bad = ~weights
    video = video / 7 + 0.1  # not exact in binary: rounding would show
    video = jnp.where(bad[:, None, None, None, None], jnp.nan, video)
    targets = jnp.where(bad[:, None], jnp.inf, targets)
    got, got_targets = map(np.asarray, jax.jit(kind)(jax.random.key(7), video, targets, weights))
    for i in (0, 3, 6):
        np.testing.assert_array_equal(got[i], video[i])
        np.testing.assert_array_equal(got_targets[i], targets[i])
    for i in (2, 5):
        assert np.isfinite(got[i]).all() and 0 < got_targets[i, i] < 1
    float_weights = kind(jax.random.key(7), video, targets, weights.astype(jnp.float32))
    np.testing.assert_array_equal(got, float_weights[0])


@pytest.mark.parametrize("kind", EITHER_IS_ENOUGH)
def test_video_and_flow_are_mixed_alike(kind):
    video, targets = clips()
    # Of the same values as the video, so that shares, partners and boxes show in both.
    both = {"video": video.astype(jnp.float32), "flow": video[..., :2]}
    weights = jnp.array([1, 0, 1, 1, 1, 1, 1, 1], bool)
    got, got_targets = jax.jit(kind)(jax.random.key(3), both, targets, weights)
    alone, alone_targets = jax.jit(kind)(jax.random.key(3), video, targets, weights)
    np.testing.assert_array_equal(got["video"], alone)
    np.testing.assert_array_equal(got["flow"], alone[..., :2])
    np.testing.assert_array_equal(got_targets, alone_targets)
    assert (np.asarray(alone) != np.asarray(video)).any()


def test_what_is_mixed_together_has_one_size():
    video, targets = clips()
    with pytest.raises(ValueError, match="expected the same number of clips, height and width in"):
        mix.mixup(jax.random.key(0), {"video": video, "flow": video[:, :, ::2, :, :2]}, targets)


def test_dtypes_are_kept():
    video, targets = clips()
    got, got_targets = mix.mixup(jax.random.key(0), video.astype(jnp.bfloat16), targets)
    assert got.dtype == jnp.bfloat16 and got_targets.dtype == jnp.float32


def test_integer_labels_are_refused():
    with pytest.raises(ValueError, match=r"mixup was given targets of shape \(8,\) for 8 clips"):
        mix.mixup(jax.random.key(0), clips()[0], jnp.arange(8))


def test_alpha_is_above_0():
    with pytest.raises(ValueError, match="cutmix was given alpha 0.0, expected a number above 0"):
        mix.cutmix(jax.random.key(0), *clips(), alpha=0.0)
    with pytest.raises(ValueError, match="mixup_or_cutmix was given alpha 0"):
        mix.mixup_or_cutmix(jax.random.key(0), *clips(), mixup_alpha=0.0, cutmix_alpha=0.0)


def test_uint8_is_refused():
    with pytest.raises(ValueError, match="mixup was given uint8"):
        mix.mixup(jax.random.key(0), clips()[0].astype(jnp.uint8), jnp.eye(8))


def test_one_clip_has_nobody_to_mix_with_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(warn_once, "_said", set())
    video, targets = clips(1)
    got, got_targets = mix.mixup_or_cutmix(jax.random.key(0), video, targets)
    np.testing.assert_array_equal(got, video)
    np.testing.assert_array_equal(got_targets, targets)
    assert "nothing is mixed: raise data.batch_size" in caplog.text
