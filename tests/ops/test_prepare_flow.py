"""Optical flow through the preparation: it stays the motion of the pixels beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops import prepare

B, V, T, SIZE, K = 4, 2, 2, 8, 3


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "video": rng.integers(0, 256, (B, V, T, SIZE, SIZE, 3), dtype=np.uint8),
        "flow": rng.normal(0, 12, (B, V, T, SIZE, SIZE, 2)).astype(np.float32),
        "label": rng.integers(0, K, (B, 1)).astype(np.int32),
        "mask": np.ones(B, bool),
        "row": np.arange(B, dtype=np.int32),
    }


def run(batch, **options):
    made = prepare.for_classification(num_classes=K, statistics="half", **options)
    return jax.jit(made)(jax.random.key(0), batch)


def test_views_are_folded_like_the_videos(batch):
    inputs, _ = run(batch)
    folded = batch["flow"].reshape(B * V, T, SIZE, SIZE, 2)
    np.testing.assert_allclose(inputs["flow"], folded.clip(-20, 20) / 20, atol=1e-6)
    assert inputs["flow"].shape[:-1] == inputs["video"].shape[:-1]


def test_a_batch_without_flow_has_none(batch):
    del batch["flow"]
    assert set(run(batch, flip_probability=0.5, mixup_alpha=0.5)[0]) == {"video"}


def test_the_clips_that_are_flipped_are_flipped_in_both(batch):
    plain, _ = run(batch)
    flipped, _ = run(batch, flip_probability=0.5)
    kinds = set()
    for n in range(B * V):
        mirrored = np.array_equal(flipped["video"][n], plain["video"][n][:, :, ::-1])
        expected = plain["flow"][n]
        if mirrored:
            expected = expected[:, :, ::-1] * np.array([-1, 1], np.float32)
        np.testing.assert_array_equal(flipped["flow"][n], expected)
        kinds.add(mirrored)
    assert kinds == {True, False}


def test_a_flipped_motion_is_what_flow_of_flipped_frames_would_be():
    """Pixels that move to the right in the video move to the left in its mirror image."""
    optical_flow = pytest.importorskip("jaxvid.decode.flow")
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")
    rng = np.random.default_rng(1)
    noise = np.repeat(np.repeat(rng.integers(0, 256, (20, 24), dtype=np.uint8), 3, 0), 3, 1)
    frames = np.stack([noise[4:52, 10 - 2 * t : 58 - 2 * t] for t in range(2)])
    frames = np.repeat(frames[..., None], 3, axis=-1)
    batch = {
        "video": frames[None, None],
        "flow": optical_flow.flow(frames, "dis")[None, None],
        "label": np.zeros((1, 1), np.int32),
        "mask": np.ones(1, bool),
        "row": np.zeros(1, np.int32),
    }
    got = run(batch, flip_probability=1.0)[0]["flow"][0] * 20
    expected = optical_flow.flow(np.ascontiguousarray(frames[:, :, ::-1]), "dis")
    np.testing.assert_allclose(got.mean((0, 1, 2)), [-2, 0], atol=0.1)
    assert np.abs(got - expected).mean() < 0.1


def test_colours_and_erasing_are_not_of_the_motion(batch):
    plain, _ = run(batch)
    options = {"jitter": (0.4, 0.4, 0.4, 0.1), "greyscale_probability": 0.5}
    other, _ = run(batch, erasing_probability=1.0, **options)
    np.testing.assert_array_equal(other["flow"], plain["flow"])
    assert (other["video"] != plain["video"]).any()


@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_the_flow_of_the_partner_comes_with_its_pixels(batch, kind):
    constant = np.arange(B * V, dtype=np.float32).reshape(B, V, 1, 1, 1, 1)
    batch["video"] = np.broadcast_to(constant * 16, batch["video"].shape).astype(np.uint8)
    batch["flow"] = np.broadcast_to(constant, batch["flow"].shape)
    inputs, _ = run(batch, **{kind: 1.0})
    pixels = (np.asarray(inputs["video"]) + 1) / 2 * 255 / 16
    np.testing.assert_allclose(np.asarray(inputs["flow"]) * 20, pixels[..., :2], atol=1e-4)
    assert (np.abs(pixels - constant.reshape(-1, 1, 1, 1, 1)) > 0.1).any()


def test_16_bits(batch):
    assert run(batch, dtype=jnp.bfloat16)[0]["flow"].dtype == jnp.bfloat16


def test_masked_pretraining_leaves_flow_aside(batch):
    made = prepare.for_masked_pretraining(
        statistics="half", grid=(1, 2, 2), mask="tube", mask_ratio=0.5, flip_probability=0.5
    )
    inputs, _ = made(jax.random.key(0), batch)
    assert set(inputs) == {"video", "tube_mask"}
