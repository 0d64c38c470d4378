"""2D weights in 3D kernels, over frames, in flow stacks; what has no way says so."""

import functools

import numpy as np
import pytest

from jaxvid.convert import apply, inflate
from jaxvid.convert.source import Transfer
from jaxvid.core.errors import ConversionError, UnknownNameError

KERNEL = np.random.default_rng(0).normal(size=(3, 5, 3, 4)).astype(np.float32)  # h w i o


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_over_time_the_sum_stays(frames):
    inflated = inflate.inflate(KERNEL, (frames, 3, 5, 3, 4))
    assert inflated.shape == (frames, 3, 5, 3, 4) and inflated.dtype == np.float32
    np.testing.assert_allclose(inflated.sum(0), KERNEL, atol=1e-6)
    for tap in inflated:
        np.testing.assert_allclose(tap, KERNEL / frames, atol=1e-7)


@pytest.mark.parametrize("frames, centre", [(1, 0), (3, 1), (4, 2), (5, 2)])
def test_in_the_centre_alone(frames, centre):
    inflated = inflate.inflate(KERNEL, (frames, 3, 5, 3, 4), "centre")
    np.testing.assert_array_equal(inflated[centre], KERNEL)
    assert np.count_nonzero(inflated.any((1, 2, 3, 4))) == 1


def test_over_frames_that_are_channels():
    repeated = inflate.repeat_frames(KERNEL, (3, 5, 6, 4))
    np.testing.assert_allclose(repeated[:, :, :3], KERNEL / 2)
    np.testing.assert_allclose(repeated[:, :, 3:], KERNEL / 2)
    pixel = np.random.default_rng(1).normal(size=(3, 5, 3)).astype(np.float32)
    still = np.concatenate([pixel, pixel], axis=-1)
    np.testing.assert_allclose(
        np.einsum("hwi,hwio->o", still, repeated),
        np.einsum("hwi,hwio->o", pixel, KERNEL),
        atol=1e-5,
    )


def test_into_flow_every_channel_is_the_mean_of_the_colours():
    flow = inflate.rgb_to_flow(KERNEL, (3, 5, 20, 4))
    assert flow.shape == (3, 5, 20, 4) and flow.dtype == np.float32
    for channel in range(20):
        np.testing.assert_allclose(flow[:, :, channel], KERNEL.mean(2), atol=1e-6)


def test_adapt_finds_the_way():
    same = np.arange(3.0)
    assert inflate.adapt("norm/scale", same, (3,)) is same
    np.testing.assert_array_equal(
        inflate.adapt("k", KERNEL, (4, 3, 5, 3, 4)), inflate.inflate(KERNEL, (4, 3, 5, 3, 4))
    )
    np.testing.assert_array_equal(
        inflate.adapt("k", KERNEL, (3, 5, 30, 4)), inflate.repeat_frames(KERNEL, (3, 5, 30, 4))
    )
    centre = functools.partial(inflate.adapt, how="centre")
    assert not centre("k", KERNEL, (3, 3, 5, 3, 4))[0].any()


def test_for_flow_the_same_number_of_channels_means_something_else():
    flow = inflate.adapt_to_flow("k", KERNEL, (3, 5, 30, 4))
    np.testing.assert_array_equal(flow, inflate.rgb_to_flow(KERNEL, (3, 5, 30, 4)))
    both = inflate.adapt_to_flow("k", KERNEL, (7, 3, 5, 2, 4))  # two streams of an I3D
    np.testing.assert_allclose(both.sum(0), flow[:, :, :2], atol=1e-6)
    of_clips = inflate.adapt_to_flow("k", both[..., :1, :].repeat(3, -2), (7, 3, 5, 2, 4))
    np.testing.assert_allclose(of_clips, both, atol=1e-6)


@pytest.mark.parametrize(
    "shape, words",
    [
        (
            (3, 5, 3, 8),
            r"a/kernel: no inflation of a kernel \(3, 5, 3, 4\) into one of \(3, 5, 3, 8\)",
        ),
        (
            (3, 7, 3, 4),
            r"into one of \(3, 7, 3, 4\): expected \(h, w, i, o\) and \(t, h, w, i, o\)",
        ),
        ((2, 3, 5, 3, 8), r"\(2, 3, 5, 3, 8\): expected \(h, w, i, o\)"),
        ((3, 5, 20, 4), "expected a multiple of the input channels"),
        ((3, 4), r"into one of \(3, 4\): expected"),
    ],
)
def test_no_way(shape, words):
    with pytest.raises(ConversionError, match=words):
        inflate.adapt("a/kernel", KERNEL, shape)


def test_no_way_to_flow():
    for array, shape in [(KERNEL, (3, 5, 21, 4)), (KERNEL[:, :, :2], (3, 5, 20, 4))]:
        with pytest.raises(ConversionError, match="expected 3 channels, then an even number"):
            inflate.adapt_to_flow("", array, shape)


def test_no_way_between_vectors():
    with pytest.raises(
        ConversionError, match=r"no inflation of a kernel \(3,\) into one of \(4,\)"
    ):
        inflate.adapt("", np.zeros(3), (4,))


def test_unknown_way():
    with pytest.raises(UnknownNameError, match="unknown inflation 'center'.*centre"):
        inflate.inflate(KERNEL, (3, 3, 5, 3, 4), "center")


def test_a_transfer_lists_every_leaf_that_has_no_way():
    transfer = Transfer(lambda a: a, {}, adapt=inflate.adapt)
    state = {"a/kernel": KERNEL, "b/kernel": KERNEL, "c/kernel": KERNEL}
    shapes = {"a/kernel": (2, 3, 5, 3, 4), "b/kernel": (2, 3, 5, 3, 8), "c/kernel": (1, 1)}
    targets = {path: apply.ShapeOnly(shape, np.dtype("float32")) for path, shape in shapes.items()}
    with pytest.raises(ConversionError, match="(?s)2 of another shape.*b/kernel.*c/kernel"):
        apply.load(state, targets, transfer.entries)
    targets = {"a/kernel": targets["a/kernel"]}
    filled, _ = apply.load({"a/kernel": KERNEL}, targets, transfer.entries)
    np.testing.assert_allclose(filled["a/kernel"].sum(0), KERNEL, atol=1e-6)
