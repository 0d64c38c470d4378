"""A VideoMAE starts both streams of the audio-visual transformer."""

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

CLIP = (4, 16, 16, 3)


def checkpoint(arch="videomae/finetune", **fields):
    """(VideoMAE's variables, its weights under the reference's keys, the config)"""
    model = jaxvid.create_model("videomae", variant="test", num_classes=5, depth=3, **fields)
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, CLIP)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    return variables, state, source.find(arch).source.config(model_tree.arguments_of(model), CLIP)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("fusion", ["late", "mid", "bottleneck"])
@pytest.mark.parametrize("arch", ["videomae/finetune", "hf/videomae"])
def test_videomae_starts_both_streams(fusion, arch):
    theirs, state, config = checkpoint(arch)
    model, variables, info = jaxvid.from_state_dict(
        state, arch="audio_visual", config=config, num_classes=7, fusion=fusion
    )
    assert model_tree.model_name(model) == "audio_visual"
    assert (model.num_classes, model.width, model.fusion_layer) == (7, 32, 2)
    params, encoder = variables["params"], theirs["params"]["encoder"]
    assert_equal(params["video"]["patch_embed"], encoder["patch_embed"])
    for stream in ("video", "audio"):
        own = 2 if fusion == "mid" else 3
        for i in range(own):
            assert_equal(params[stream][f"block_{i}"], encoder[f"block_{i}"])
        assert_equal(params[stream]["norm"], theirs["params"]["fc_norm"])
    if fusion == "mid":
        assert_equal(params["joint"]["block_2"], encoder["block_2"])
    shared = ["bottleneck_token"] if fusion == "bottleneck" else []
    audio = [f"audio/patch_embed/{leaf}" for leaf in ("bias", "kernel")]
    assert info["fresh"] == [*audio, *shared, "head/bias", "head/kernel"]
    assert len(info["waived"]) == 2  # the head


def test_seen_alone_it_is_the_video_classifier_but_for_the_head():
    _, state, config = checkpoint()
    model, variables, _ = jaxvid.from_state_dict(
        state, arch="audio_visual", config=config, num_classes=5, fusion="late"
    )
    video = np.random.default_rng(1).normal(size=(2, *CLIP)).astype(np.float32)
    classifier, weights, _ = jaxvid.from_state_dict(state, arch="videomae", config=config)
    expected = classifier.apply(weights, {"video": video}, train=False)["features"]
    got = model.apply(variables, {"video": video}, train=False)["features"][:, :32]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_token_heads_norm_is_taken_too():
    theirs, state, config = checkpoint(pool="token")
    _, variables, _ = jaxvid.from_state_dict(
        state, arch="audio_visual", config=config, num_classes=5
    )
    assert_equal(variables["params"]["audio"]["norm"], theirs["params"]["encoder"]["norm"])


def test_a_difference_is_an_error_that_lists_all():
    _, state, config = checkpoint()
    del state["blocks.1.norm1.bias"]
    state["blocks.9.weight"] = np.zeros(3)
    state["patch_embed.proj.bias"] = np.zeros(31)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch="audio_visual", config=config, num_classes=5)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said
    assert "blocks.1.norm1.bias" in said and "blocks.9.weight (3,)" in said


def test_what_it_cannot_be_is_refused():
    _, state, config = checkpoint("videomaev2/finetune", cosine_attention=True)
    with pytest.raises(ConversionError, match="has scaled dot products only"):
        jaxvid.from_state_dict(state, arch="audio_visual", config=config, num_classes=5)


def test_its_own_weights_come_back(tmp_path):
    model = jaxvid.create_model("audio_visual", variant="test", num_classes=3, width=32, depth=3)
    shapes = model_tree.variable_shapes(model, CLIP)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    preprocessing = {"num_frames": 4, "size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    info = {"preprocessing": preprocessing, "class_names": ["a", "b", "c"]}
    assert saving.save_pretrained(tmp_path / "own", model, variables, info) == "jaxvid"
    again, back, _ = jaxvid.from_pretrained(tmp_path / "own")
    assert again == model
    assert_equal(back, variables)
    _, _, info = jaxvid.from_pretrained(tmp_path / "own", num_classes=4)
    assert info["fresh"] == ["head/bias", "head/kernel"]
