"""Checkpoints to and from `transformers`, compared by their outputs."""

import numpy as np
import pytest
from pretrained_models import INFO, PREPROCESSING, classifier, logits, random_variables, video

from jaxvid import pretrained, saving


def hf_model(kind, **options):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=16,
        num_frames=4,
        patch_size=8,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=24,
        initializer_range=0.3,
        **options,
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are not to be 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def hf_logits(model, **inputs):
    import torch

    pixels = torch.from_numpy(video()).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        return model(pixels, **inputs).logits.numpy()


@pytest.mark.torch
@pytest.mark.parametrize("mean", [True, False])
def test_transformers_models_are_read_with_the_same_logits(tmp_path, mean):
    theirs = hf_model("VideoMAEForVideoClassification", use_mean_pooling=mean, num_labels=3)
    theirs.save_pretrained(tmp_path)
    model, variables, info = pretrained.from_pretrained(tmp_path)
    np.testing.assert_allclose(logits(model, variables), hf_logits(theirs), atol=1e-5)
    assert info["fresh"] == [] and info["waived"] == {}


@pytest.mark.torch
@pytest.mark.parametrize("sharded", [False, True])
def test_transformers_bin_files_and_shards_are_read(tmp_path, sharded):
    theirs = hf_model("VideoMAEForVideoClassification", num_labels=3)
    size = "20KB" if sharded else "5GB"
    theirs.save_pretrained(tmp_path, safe_serialization=sharded, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) is sharded
    model, variables, _ = pretrained.from_pretrained(tmp_path)
    np.testing.assert_allclose(logits(model, variables), hf_logits(theirs), atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize(
    "options", [{}, {"pool": "token"}, {"layer_scale": 0.1}, {"qkv_bias": "none"}]
)
def test_transformers_reads_an_export_with_the_same_logits(tmp_path, options):
    transformers = pytest.importorskip("transformers")
    model = classifier(**options)
    variables = random_variables(model)
    saving.save_pretrained(tmp_path / "export", model, variables, INFO)
    load = transformers.AutoModelForVideoClassification.from_pretrained
    theirs, report = load(tmp_path / "export", output_loading_info=True)
    assert type(theirs).__name__ == "VideoMAEForVideoClassification"
    assert not report["missing_keys"] and not report["unexpected_keys"]
    np.testing.assert_allclose(hf_logits(theirs.eval()), logits(model, variables), atol=1e-5)
    assert theirs.config.id2label == {0: "walk", 1: "run", 2: "fight"}
    processor = transformers.VideoMAEImageProcessor.from_pretrained(tmp_path / "export")
    clip = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), np.uint8)
    pixels = processor(list(clip), return_tensors="np")["pixel_values"][0]  # (T, C, H, W)
    cropped = clip[:, 2:18, 4:20] / 255
    expected = (cropped - PREPROCESSING["mean"]) / PREPROCESSING["std"]
    np.testing.assert_allclose(pixels.transpose(0, 2, 3, 1), expected, atol=1e-5)


@pytest.mark.torch
def test_pretraining_models_go_both_ways(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = hf_model("VideoMAEForPreTraining", use_mean_pooling=False)
    theirs.save_pretrained(tmp_path / "theirs")
    model, variables, info = pretrained.from_pretrained(tmp_path / "theirs")
    mask = np.tile([True, False, True, True], (2, 2))  # (N, tokens)
    inputs = {"video": video(), "tube_mask": mask}
    painted = np.asarray(model.apply(variables, inputs, train=False)["logits"])
    expected = hf_logits(theirs, bool_masked_pos=torch.from_numpy(mask))
    np.testing.assert_allclose(painted, expected, atol=2e-5)
    saving.save_pretrained(tmp_path / "ours", model, variables, info)
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    got = hf_logits(again.eval(), bool_masked_pos=torch.from_numpy(mask))
    np.testing.assert_allclose(got, expected, atol=1e-6)
