"""Folders of Hugging Face's models without a head start classifiers, with every weight in place."""

import numpy as np
import pytest

from jaxvid import pretrained
from jaxvid.convert import bare, vit
from jaxvid.convert.rules import Waive
from jaxvid.core.errors import ConfigError

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 48, "image_size": 32}
VIDEO = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3), dtype=np.float32)


def saved(folder, name, **changes):
    """A model of transformers, weights far from their start, whose folder lies there."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES, **changes)
    theirs = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    return theirs


def hidden(theirs, pixels):
    import torch

    with torch.no_grad():
        return theirs(
            torch.from_numpy(np.moveaxis(pixels, -1, -3).copy())
        ).last_hidden_state.numpy()


HEAD = ["head/bias", "head/kernel"]
CASES = [
    ("ViT", {}, HEAD),
    ("Vivit", {"num_frames": 4}, HEAD),
    ("Timesformer", {"num_frames": 4}, HEAD),
    ("VideoMAE", {"num_frames": 4}, ["fc_norm/bias", "fc_norm/scale", *HEAD]),
    ("VideoMAE", {"num_frames": 4, "use_mean_pooling": False}, HEAD),
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "changes", "fresh"), CASES, ids=str)
def test_a_bare_model_starts_its_classifier(tmp_path, name, changes, fresh):
    theirs = saved(tmp_path, name, **changes)
    video = VIDEO[:, :1] if name == "ViT" else VIDEO
    model, variables, info = pretrained.from_pretrained(tmp_path, num_classes=3)
    assert info["model"] == name.lower() and info["fresh"] == fresh
    assert all(key.startswith("pooler.") for key in info["waived"])
    outputs = model.apply(variables, {"video": video}, train=False)
    assert outputs["logits"].shape == (2, 3)
    expected = hidden(theirs, video[:, 0] if name == "ViT" else video)[:, 0]
    got = np.asarray(outputs["tokens"]).reshape(2, -1, 32)[:, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=5e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.torch
def test_a_bare_image_model_starts_one_of_clips(tmp_path):
    theirs = saved(tmp_path, "ViT")
    with pytest.raises(ConfigError, match="brings no classes; model 'vit' needs num_classes"):
        pretrained.from_pretrained(tmp_path)
    _, variables, info = pretrained.from_pretrained(tmp_path, arch="timesformer", num_classes=3)
    assert {"head/kernel", "encoder/time_position_embedding"} <= set(info["fresh"])
    kernel = variables["params"]["encoder"]["block_0"]["mlp"]["fc1"]["kernel"]
    weight = theirs.state_dict()["encoder.layer.0.intermediate.dense.weight"]
    np.testing.assert_array_equal(kernel, weight.numpy().T)


def test_keys_lose_what_stands_before_them_and_heads_are_left_out():
    source = bare.bare(vit.SOURCES["hf/vit"], "ViTModel")
    rules = [entry for entry in source.entries if not isinstance(entry, Waive)]
    assert ("embeddings.cls_token",) in [rule.keys for rule in rules]
    assert not any(path.startswith("head") for rule in rules for path in rule.paths)
    assert source.config is None and "num_classes" not in source.arguments({"num_labels": 5})
