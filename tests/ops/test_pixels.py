import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.ops import pixels


def all_values():
    return np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 1, 16, 16, 3)


def test_uint8_becomes_float32_between_0_and_1():
    video = pixels.to_float(jnp.asarray(all_values()))
    assert video.dtype == jnp.float32
    np.testing.assert_allclose(video, all_values() / 255.0, atol=1e-7)


def test_float_is_not_scaled_twice():
    with pytest.raises(ValueError, match=r"float32 of shape \(1, 2\), expected uint8 in 0..255"):
        pixels.to_float(jnp.zeros((1, 2)))


@pytest.mark.parametrize("name", sorted(pixels.STATISTICS))
def test_normalise_subtracts_the_mean_and_divides_by_the_std(name):
    mean, std = pixels.STATISTICS[name]
    video = pixels.to_float(jnp.asarray(all_values()))
    got = pixels.normalise(video, name)
    np.testing.assert_allclose(got, (all_values() / 255.0 - mean) / std, atol=1e-5)
    np.testing.assert_allclose(pixels.denormalise(got, name), video, atol=1e-6)


def test_half_is_minus_one_to_one_and_the_published_digits_are_kept():
    got = pixels.normalise(pixels.to_float(jnp.asarray(all_values())), "half")
    assert float(got.min()) == -1.0 and float(got.max()) == 1.0
    assert pixels.STATISTICS["imagenet"].mean == (0.485, 0.456, 0.406)
    assert pixels.STATISTICS["torchvision_video"].std == (0.22803, 0.22145, 0.216989)


def test_bfloat16_is_rounded_once_at_the_end():
    video = jax.random.uniform(jax.random.key(0), (2, 1, 3, 3, 3))
    got = pixels.normalise(video, "imagenet", jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, pixels.normalise(video, "imagenet").astype(jnp.bfloat16))


def test_a_pair_serves_as_statistics():
    pair = ([0.1, 0.2, 0.3], [0.5, 0.5, 0.25])
    got = pixels.normalise(jnp.full((1, 3), 0.6), pair)
    np.testing.assert_allclose(got, [[1.0, 0.8, 1.2]], atol=1e-6)


def test_unknown_statistics_name_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown pixel statistics 'imagnet'. Did you mean"):
        pixels.normalise(jnp.zeros((1, 3)), "imagnet")


@pytest.mark.parametrize(
    "pair", [((0, 0, 0), (1, 1, 0)), ((0, 0), (1, 1)), (1, 2), ((0, 0, 0),), None]
)
def test_a_wrong_pair_says_what_is_expected(pair):
    with pytest.raises(
        ValueError, match=r"expected a name \(clip, half, imagenet.* every std above 0"
    ):
        pixels.statistics(pair)


@pytest.mark.parametrize("video", [jnp.zeros((2, 4, 4, 3), jnp.uint8), jnp.zeros((2, 3, 4, 4))])
def test_normalise_wants_float_rgb(video):
    with pytest.raises(ValueError, match="normalise was given .* expected floating point with 3"):
        pixels.normalise(video, "half")


def test_a_video_has_five_axes():
    with pytest.raises(ValueError, match=r"x was given shape \(4, 4, 3\), expected \(N, T, H"):
        pixels.check_float_video(jnp.zeros((4, 4, 3)), "x")


def test_flow_is_cut_off_and_scaled():
    flow = jnp.array([[-50.0, -20.0], [-10.0, 0.0], [5.0, 21.0]])
    got = pixels.normalise_flow(flow)
    np.testing.assert_allclose(got, [[-1, -1], [-0.5, 0], [0.25, 1]])
    assert pixels.normalise_flow(flow, jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("wrong", [jnp.zeros((2, 3)), jnp.zeros((2, 2), jnp.uint8)])
def test_what_is_no_flow(wrong):
    with pytest.raises(ValueError, match="normalise_flow was given .* with 2 channels .right, do"):
        pixels.normalise_flow(wrong)
