"""SlowFast: PyTorchVideo's numbers, sizes, which frames are slow, input checks, options."""

import functools
import sys
from pathlib import Path

import clip_resnets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_resnets import VIDEO

import jaxvid
from jaxvid.models import slowfast

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_pytorchvideos_numbers():
    # The fixture has no probes.
    check.check_golden("ptv_slowfast_r50", "pytorchvideo/slowfast_r50")


@pytest.mark.parametrize(
    "variant, expected",
    [
        ("R50_4x16", 34_480_216),  # published as 34.48M, 34.57M, 62.83M, 53.77M
        ("R50_8x8", 34_566_488),
        ("R101_8x8", 62_826_968),
        ("R101_16x8", 53_774_808),
    ],
)
def test_published_sizes(variant, expected):
    assert clip_resnets.count("slowfast", variant) == expected
    frames = 64 if variant == "R101_16x8" else 32
    assert slowfast.example_inputs(variant)["video"].shape == (1, frames, 224, 224, 3)
    model = slowfast.build(2, variant=variant)
    slow = frames // model.alpha
    assert model.head_pools == ((slow, 7, 7), (frames, 7, 7))
    assert variant.endswith(f"_{slow}x{2 * model.alpha}")  # of every second frame of the video


@pytest.mark.parametrize(
    "frames, alpha, expected",
    [
        # of torch.linspace(0, frames - 1, frames // alpha).long()
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),
        (32, 8, [0, 10, 20, 31]),
        (64, 4, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
        (16, 4, [0, 5, 10, 15]),
        (8, 4, [0, 7]),
        (4, 4, [0]),
        (6, 1, [0, 1, 2, 3, 4, 5]),
        # float32: 159 * 13 / 39 is 53, and comes out just below
        (160, 4, [159 * i // 39 - (i == 13) for i in range(40)]),
    ],
)
def test_the_slow_frames_are_those_of_the_reference(frames, alpha, expected):
    np.testing.assert_array_equal(slowfast.slow_frames(frames, alpha), expected)


def test_the_fixtures_slow_frames():
    stored = check.stored("ptv_slowfast_r50")["in.slow_idx"]
    np.testing.assert_array_equal(slowfast.slow_frames(32, 4), stored)


def test_the_slow_pathway_sees_the_slow_frames_alone():
    model = jaxvid.create_model("slowfast", variant="test", num_classes=5)
    variables, _ = clip_resnets.made("slowfast")

    @jax.jit
    def pathways(video):
        _, kept = model.apply(
            variables, {"video": video}, train=False, capture_intermediates=True, mutable=True
        )
        backbone = kept["intermediates"]["backbone"]
        return [backbone[name]["stem"]["__call__"][0] for name in ("slow", "fast")]

    other = VIDEO.copy()
    other[:, 1:7] += 1  # all but frames 0 and 7
    (slow, fast), (same, changed) = pathways(VIDEO), pathways(other)
    assert slow.shape == (3, 2, 8, 8, 16) and fast.shape == (3, 8, 8, 8, 4)
    np.testing.assert_array_equal(slow, same)
    assert np.abs(fast - changed).max() > 1e-2


def test_frames_that_cannot_be_shared_out():
    model = jaxvid.create_model("slowfast", variant="test", num_classes=5)
    video = jax.ShapeDtypeStruct((1, 10, 16, 16, 3), jnp.float32)
    words = r"a clip of 10 frames .* one of 4 \(alpha\), .* multiple of 4 .*, as 8"
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(
            functools.partial(model.init, train=False), jax.random.key(0), {"video": video}
        )


def test_outputs():
    clip_resnets.check_outputs("slowfast", 256 + 64)


def test_options():
    clip_resnets.check_options("slowfast")


@pytest.mark.parametrize("variant, size", [("test", 7), ("R50_8x8", 32)])
def test_wrong_clips(variant, size):
    model = jaxvid.create_model("slowfast", variant=variant, num_classes=5)
    init = functools.partial(model.init, train=False)

    def ask(shape):
        video = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(init, jax.random.key(0), {"video": video})

    ask((1, 8, size, size, 3))
    for shape, words in [
        ((8, 32, 32, 3), r"shape \(8, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 8, 32, 32, 2), "2 channels in the last axis"),
        ((1, 4, 32, 32, 3), "4 frames .* needs at least 5"),
        ((1, 8, 64, size - 1, 3), f"frames of 64×{size - 1} .* at least {size}×{size}"),
    ]:
        with pytest.raises(ValueError, match=words):
            ask(shape)


def test_one_value_a_stage():
    for field in ("spatial_strides", "slow_temporal_kernels", "fast_temporal_kernels"):
        clip_resnets.check_stage_lengths("slowfast", field)


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("slowfast") > 1e-3


def test_windows_smaller_than_the_maps_slide_each_by_itself():
    maps = [np.random.default_rng(0).normal(size=(2, t, 3, 3, c)) for t, c in ((3, 4), (6, 2))]
    maps = [x.astype(np.float32) for x in maps]
    features = slowfast.pooled(maps, ((2, 3, 3), (6, 2, 2)))
    slow = np.mean([maps[0][:, t : t + 2].mean((1, 2, 3)) for t in (0, 1)], axis=0)
    corners = [(h, w) for h in (0, 1) for w in (0, 1)]
    fast = [maps[1][:, :, h : h + 2, w : w + 2].mean((1, 2, 3)) for h, w in corners]
    expected = np.concatenate([slow, np.mean(fast, axis=0)], axis=-1)
    np.testing.assert_allclose(features, expected, atol=1e-6)
    whole = slowfast.pooled(maps, None)
    np.testing.assert_allclose(whole[:, :4], maps[0].mean((1, 2, 3)), atol=1e-6)


def test_blocks_start_as_identities_and_nothing_else_does():
    model = jaxvid.create_model("slowfast", variant="test", num_classes=5)
    fields = {**slowfast.fields_of(model), "width": 8, "stage_sizes": (1,), "spatial_strides": (1,)}
    init = functools.partial(slowfast.Backbone(**fields).init, train=False)
    params = jax.jit(init)(jax.random.key(0), VIDEO[:1])["params"]
    flat = jax.tree_util.tree_leaves_with_path(params)
    scales = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in flat}
    zero = {path for path, x in scales.items() if path.endswith("scale") and not x.any()}
    assert zero == {f"{name}/stage_1/block_0/norm_3/scale" for name in ("slow", "fast")}
