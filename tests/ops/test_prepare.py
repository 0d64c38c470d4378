"""The whole preparation: what it feeds a model and an objective, and that its switches work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.ops import flip, prepare

pytestmark = pytest.mark.usefixtures("quickly_made")

B, V, T, SIZE, K = 4, 2, 3, 8, 4
NAMES = ["left", "still", "right", "turn"]


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "video": rng.integers(0, 256, (B, V, T, SIZE, SIZE, 3), dtype=np.uint8),
        "label": np.array([[0], [1], [2], [-1]], np.int32),
        "mask": np.array([True, True, False, True]),
        "row": np.arange(B, dtype=np.int32),
    }


def run(batch, key=0, **options):
    settings = {"num_classes": K, "statistics": "half", **options}
    made = prepare.for_classification(**settings)
    return jax.jit(made)(jax.random.key(key), batch)


def test_without_augmentation_it_is_scaling_and_labels(batch):
    inputs, targets = run(batch)
    folded = batch["video"].reshape(B * V, T, SIZE, SIZE, 3) / 255
    np.testing.assert_allclose(inputs["video"], (folded - 0.5) / 0.5, atol=1e-6)
    assert targets["weight"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(
        targets["target"][::V], np.eye(K + 1)[:B, :K] * [[1], [1], [1], [0]]
    )
    np.testing.assert_array_equal(targets["target"][0], targets["target"][1])
    assert set(inputs) == {"video"} and set(targets) == {"target", "weight"}


def test_several_labels_and_none(batch):
    batch["label"] = np.array([[0, 2], [1, -1], [-1, -1], [-1, -1]], np.int32)
    _, targets = run(batch, multilabel=True)
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(targets["target"][::V], expected)
    # A clip that shows nothing is an example of that; only the mask takes clips out.
    assert targets["weight"][::V].tolist() == [1, 1, 0, 1]


def test_heads(batch):
    del batch["label"]
    batch |= {
        "label_verb": np.array([[1], [0], [0], [-1]], np.int32),
        "label_noun": np.array([[2], [0], [0], [-1]], np.int32),
    }
    _, targets = run(batch, heads={"verb": 2, "noun": 3}, num_classes=5)
    np.testing.assert_array_equal(
        targets["target"][::V], [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 0, 1, 0, 0], [0] * 5]
    )
    assert targets["weight"][::V].tolist() == [1, 1, 0, 0]


def test_settings_that_contradict_each_other():
    for options in ({"heads": {"verb": 2}}, {"label_smoothing": 0.1}):
        with pytest.raises(ValueError, match="multilabel targets have neither heads nor label smo"):
            run({}, multilabel=True, **options)


def test_labels_of_flipped_clips_change_sides(batch):
    swap = flip.swap_table(NAMES, [("left", "right")])
    plain, _ = run(batch)
    inputs, targets = run(batch, flip_probability=0.5, flip_swap=swap)
    seen = set()
    for n in range(B * V):
        flipped = np.array_equal(inputs["video"][n], plain["video"][n][:, :, ::-1])
        assert flipped or np.array_equal(inputs["video"][n], plain["video"][n])
        label = batch["label"][n // V, 0]
        if label >= 0:
            expected = swap[label] if flipped else label
            assert np.argmax(targets["target"][n]) == expected
            seen.add((int(label), flipped))
    assert (0, True) in seen and (0, False) in seen or (2, True) in seen and (2, False) in seen


COLOURS = {
    "jitter": {"jitter": (0.5, 0.5, 0.5, 0.2)},
    "grey": {"greyscale_probability": 0.5},
    "blur": {"blur_probability": 0.5, "blur_sigma": (1.0, 2.0)},
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_one_a_clip_or_one_a_frame(batch, name):
    same = np.broadcast_to(batch["video"][:1, :1, :1], batch["video"].shape)
    batch["video"] = np.ascontiguousarray(same)
    plain, _ = run(batch)
    alike, _ = run(batch, **COLOURS[name])
    video = np.asarray(alike["video"])
    assert (np.abs(video - plain["video"]) > 1e-3).any() and video.shape == plain["video"].shape
    np.testing.assert_allclose(video, np.broadcast_to(video[:, :1], video.shape), atol=1e-6)
    apart, _ = run(batch, colour_per_frame=True, **COLOURS[name])
    video = np.asarray(apart["video"])
    assert (np.abs(video - video[:, :1]) > 1e-3).any()
    other, _ = run(batch, key=1, colour_per_frame=True, **COLOURS[name])
    assert (np.abs(video - other["video"]) > 1e-3).any()


def test_what_is_switched_off_changes_nothing_of_the_rest(batch):
    """Blur on or off, the same clips are flipped and erased."""
    options = {"flip_probability": 0.5, "erasing_probability": 0.5, "erasing_fill": "constant"}
    without, _ = run(batch, **options)
    tiny, _ = run(batch, blur_probability=1.0, blur_sigma=(0.01, 0.01), **options)
    np.testing.assert_allclose(without["video"], tiny["video"], atol=1e-5)


def test_erasing_takes_its_options(batch):
    batch["video"][:] = 255  # 1 after scaling, where erased 0
    inputs, _ = run(
        batch,
        erasing_probability=1.0,
        erasing_shape="frame",
        erasing_area=(0.25, 0.25),
        erasing_aspect=(1.0, 1.0),
        erasing_fill="constant",
    )
    hole = np.asarray(inputs["video"] == 0).all(-1)
    np.testing.assert_array_equal(hole.sum(axis=(2, 3)), 16)  # 4 x 4 of 8 x 8 in each frame
    assert (hole != hole[:, :1]).any()


def test_cutmix_takes_its_shape(batch):
    constant = np.arange(B * V, dtype=np.uint8).reshape(B, V, 1, 1, 1, 1) * 20
    batch["video"] = np.ascontiguousarray(np.broadcast_to(constant, batch["video"].shape))
    batch["label"][:], batch["mask"][:] = [[0], [1], [2], [3]], True
    inputs, targets = run(batch, cutmix_alpha=1.0, cutmix_cut="frames")
    video = np.asarray(inputs["video"])
    assert np.ptp(video, axis=(2, 3, 4)).max() == 0, "whole frames"
    assert (np.ptp(video, axis=1) > 0).any()
    np.testing.assert_allclose(np.asarray(targets["target"]).sum(axis=1), 1, atol=1e-6)


def test_sound_comes_along_and_is_mixed_with_its_partner(batch):
    batch["audio"] = np.random.default_rng(1).random((B, V, 5, 6), dtype=np.float32)
    inputs, _ = run(
        batch, flip_probability=0.5, jitter=(0.4, 0.4, 0.4, 0.1), erasing_probability=1.0
    )
    folded = batch["audio"].reshape(B * V, 5, 6)
    np.testing.assert_array_equal(inputs["audio"], folded)
    batch["label"][:], batch["mask"][:] = [[0], [1], [2], [3]], True
    mixed, targets = run(batch, mixup_alpha=1.0)
    shares = np.asarray(targets["target"])[np.arange(B * V), np.arange(B * V) // V, None, None]
    assert 0.01 < shares[0] < 0.99
    expected = shares * folded + (1 - shares) * folded[::-1]
    np.testing.assert_allclose(mixed["audio"], expected, atol=1e-5)


def test_features_need_no_pixels(batch):
    del batch["video"]
    batch["features"] = np.random.default_rng(1).random((B, V, 5, 6), dtype=np.float32)
    batch["label"] = np.array([[0, 2], [1, -1], [3, 1], [-1, -1]], np.int32)
    options = {"multilabel": True, "flip_probability": 0.5, "erasing_probability": 0.5}
    inputs, targets = run(batch, dtype=jnp.bfloat16, **options)
    assert set(inputs) == {"features"} and inputs["features"].dtype == jnp.bfloat16
    folded = batch["features"].reshape(B * V, 5, 6)
    np.testing.assert_allclose(np.asarray(inputs["features"], np.float32), folded, rtol=0.01)
    assert targets["target"].shape == (B * V, K)


def test_masked_pretraining_can_be_blurred_and_coloured(batch):
    made = prepare.for_masked_pretraining(
        statistics="half",
        grid=(1, 2, 2),
        mask="tube",
        mask_ratio=0.5,
        blur_probability=1.0,
        blur_sigma=(1.0, 2.0),
        colour_per_frame=True,
    )
    inputs, targets = made(jax.random.key(0), batch)
    plain = batch["video"].reshape(B * V, T, SIZE, SIZE, 3) / 255
    video = np.asarray(targets["video"])
    assert np.abs(np.diff(video, axis=2)).mean() < 0.7 * np.abs(np.diff(plain, axis=2)).mean()
    np.testing.assert_allclose(inputs["video"], video * 2 - 1, atol=1e-6)
