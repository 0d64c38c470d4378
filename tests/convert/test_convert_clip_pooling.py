"""CLIP's table: what transformers computes on frames, both forms of classes, what is refused."""

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import pretrained, saving
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError
from jaxvid.core.tree import flatten

IDS = np.array([[60, 7, 8, 61], [60, 9, 61, 61], [60, 1, 2, 61]], np.int32)
VIDEO = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3), dtype=np.float32)
TEXT = {
    "vocab_size": 62,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "max_position_embeddings": 9,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def clip(request, tmp_path_factory):
    """(transformers' model of random weights, its folder), with OpenAI's and OpenCLIP's activation"""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "hidden_act": request.param, "eos_token_id": 61, "bos_token_id": 60},
        vision_config={**VISION, "hidden_act": request.param},
        projection_dim=32,
    )
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    return model, folder


def features(model):
    """Unit features of texts, and the mean over frames of the frames' unit features."""
    import torch

    frames = torch.from_numpy(VIDEO.reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2)
    with torch.no_grad():
        texts = model.get_text_features(torch.from_numpy(IDS.astype(np.int64))).numpy()
        images = model.get_image_features(frames).numpy()
    texts, images = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (texts, images))
    return texts, images.reshape(2, 4, -1).mean(axis=1)


@pytest.mark.torch
def test_features_are_transformers_averaged_over_frames(clip):
    theirs, folder = clip
    model, variables, info = pretrained.from_pretrained(folder)
    assert info["fresh"] == [] and info["model"] == "clip_pooling" and model.pool == "mean"
    assert info["preprocessing"]["mean"][0] == pytest.approx(0.48145466)
    inputs = {"video": VIDEO, "text_ids": IDS}
    got = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, inputs)
    texts, mean = features(theirs)
    video = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(got["text_embeds"], texts, atol=1e-5)
    np.testing.assert_allclose(got["video_embeds"], video, atol=1e-5)
    scale = float(theirs.logit_scale.detach().exp())
    np.testing.assert_allclose(got["logits"], scale * video @ texts.T, atol=1e-4)


@pytest.mark.torch
def test_transformers_reads_what_is_written(clip, tmp_path):
    theirs, folder = clip
    model, variables, info = pretrained.from_pretrained(folder)
    saving.save_pretrained(tmp_path / "x", model, variables, info, arch="hf/clip")
    again, report = type(theirs).from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for one, other in zip(features(theirs), features(again.eval()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.torch
def test_a_head_leaves_the_text_tower_behind(clip):
    model, variables, info = pretrained.from_pretrained(clip[1], num_classes=2)
    assert model.num_classes == 2 and info["fresh"] == ["head/bias", "head/kernel"]
    assert "text" not in variables["params"] and "logit_scale" in info["waived"]
    assert set(info["waived"].values()) == {"a model with a head has no text tower"}
    assert any(key.startswith("text_model.encoder.layers.4.") for key in info["waived"])


@pytest.mark.torch
@pytest.mark.parametrize("num_classes", [None, 2])
def test_the_transformer_over_frames_starts_from_the_text_towers_first_blocks(clip, num_classes):
    options = {"pool": "transformer"}
    model, variables, info = pretrained.from_pretrained(clip[1], num_classes=num_classes, **options)
    assert not [path for path in info["fresh"] if not path.startswith("head/")]
    params = flatten(variables["params"])
    theirs = clip[0].state_dict()
    key = "text_model.encoder.layers.3.mlp.fc2.weight"
    np.testing.assert_array_equal(params["temporal/block_3/mlp/fc2/kernel"].T, theirs[key])
    assert "temporal/block_4/mlp/fc2/kernel" not in params
    key = "text_model.embeddings.position_embedding.weight"
    np.testing.assert_array_equal(params["temporal/position_embedding"], theirs[key][:8])
    if num_classes is None:
        with pytest.raises(ConversionError, match="pool: 'transformer' here, 'mean' there"):
            saving.to_state_dict(model, variables, arch="hf/clip")


def test_more_frames_than_words_cannot_start_from_them():
    rule = source.find("hf/clip").source.entries
    (first,) = [r for r in rule if getattr(r, "paths", ()) == ("temporal/position_embedding",)]
    with pytest.raises(ValueError, match="9 frames cannot start from 8 positions of words"):
        first.operation.load([np.zeros((8, 4))], [(9, 4)])
    assert first.operation.save(["x"]) == ["x"]


def test_configs_both_ways():
    found = source.find("hf/clip").source
    config = {
        "text_config": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
        "projection_dim": 768,
    }
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (8, 224, 224, 3) and arguments["end_token"] == 49407
    variant = jaxvid.create_model("clip_pooling", variant="L/14", end_token=49407)
    assert {n: getattr(variant, n) for n in arguments} == arguments
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    old = found.arguments({"text_config": {"eos_token_id": 2}})
    assert old["end_token"] is None
    assert found.config(old, clip)["text_config"]["eos_token_id"] == 2
    exact = found.arguments({**config, "vision_config": {"hidden_act": "gelu"}})
    assert (exact["activation"], exact["text_activation"]) == ("gelu", "quick_gelu")
    back = found.config(exact, clip)
    assert back["vision_config"]["hidden_act"] == "gelu"
    assert back["text_config"]["hidden_act"] == "quick_gelu"
    with pytest.raises(ConversionError, match="text_config.hidden_act 'relu': .* or 'gelu' only"):
        found.arguments({"text_config": {"hidden_act": "relu"}})


def test_xclip_does_not_start_from_gelu():
    from_clip = source.table("xclip").TRANSFERS["clip_pooling"].arguments
    arguments = source.find("hf/clip").source.arguments({"vision_config": {"hidden_act": "gelu"}})
    with pytest.raises(ConversionError, match="activation 'gelu': X-CLIP has 'quick_gelu' only"):
        from_clip(arguments)
