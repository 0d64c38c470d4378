"""VideoMAE V2 as it lies on the hub: the original's keys, a config of its own, mostly without a head."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxvid
from jaxvid.convert import safetensors_file
from jaxvid.core.errors import ConfigError, ConversionError

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import recipe

FACTS = json.loads((GOLDENS / "orig_videomaev2_finetune.json").read_text())
WEIGHTS = {key: recipe.tensor(key, shape, 1.0) for key, shape, _, _ in FACTS["state_dict"]}
VIDEO = recipe.video(FACTS["input"]["seed"], FACTS["input"]["shape"]).transpose(0, 2, 3, 4, 1)
SAID = {n: x for n, x in FACTS["config"].items() if n not in ("all_frames", "norm_layer")}
SAID |= {"num_frames": 4, "layer_norm_eps": 1e-6, "norm_layer": "nn.LayerNorm", "qk_scale": None}
PROCESSOR = {
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "size": 32,
    "image_mean": [0.4] * 3,
}
HEAD = ["head/bias", "head/kernel"]


def folder(path, *, head, **config):
    said = {**SAID, "num_classes": 10 if head else 0}
    told = {"model_type": "VideoMAEv2_Base", "architectures": ["VideoMAEv2_Base"]}
    (path / "config.json").write_text(json.dumps({**told, "model_config": said, **config}))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    state = {f"model.{k}": x for k, x in WEIGHTS.items() if head or not k.startswith("head.")}
    safetensors_file.write(path / "model.safetensors", state)
    return path


def check(model, variables):
    outputs = model.apply(variables, {"video": VIDEO}, train=False)
    expected = np.load(GOLDENS / "orig_videomaev2_finetune.npz")["logits"]
    atol = FACTS["checks"]["suggested_atol"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=atol)


def test_an_encoder_starts_a_classifier(tmp_path):
    path = folder(tmp_path, head=False)
    with pytest.raises(ConfigError, match="brings no classes"):
        jaxvid.from_pretrained(path)
    model, variables, info = jaxvid.from_pretrained(path, num_classes=10)
    assert info["source"]["arch"] == "hf/videomaev2_encoder" and info["fresh"] == HEAD
    assert info["preprocessing"]["mean"] == (0.4, 0.4, 0.4) and info["clip"] == [4, 32, 32, 3]
    head = {"kernel": WEIGHTS["head.weight"].T, "bias": WEIGHTS["head.bias"]}
    check(model, {"params": {**variables["params"], "head": head}})


def test_a_classifier_keeps_its_head(tmp_path):
    names = {str(i): f"class {i}" for i in range(10)}
    path = folder(tmp_path, head=True, architectures=["VideoMAEv2"], id2label=names)
    model, variables, info = jaxvid.from_pretrained(path)
    assert info["source"]["arch"] == "hf/videomaev2" and info["fresh"] == []
    assert info["class_names"][9] == "class 9"
    check(model, variables)
    # What is saved again needs no code of its own in transformers.
    jaxvid.save_pretrained(tmp_path / "saved", model, variables, info)
    assert json.loads((tmp_path / "saved/config.json").read_text())["model_type"] == "videomae"


def test_names_of_another_number_of_classes_are_refused(tmp_path):
    names = {str(i): f"class {i}" for i in range(9)}
    path = folder(tmp_path, head=True, architectures=["VideoMAEv2"], id2label=names)
    with pytest.raises(ConversionError, match="id2label names 9 classes, the head has 10: correct"):
        jaxvid.from_pretrained(path)


def test_the_epsilon_is_the_configs(tmp_path):
    path = folder(tmp_path, head=True, model_config={**SAID, "layer_norm_eps": 0.25})
    model, _, info = jaxvid.from_pretrained(path)
    assert info["arguments"]["norm_eps"] == info["arguments"]["fc_norm_eps"] == 0.25
    assert model.norm_eps == 0.25


def test_a_config_of_something_else(tmp_path):
    path = folder(tmp_path, head=True, model_config=None)
    with pytest.raises(ConversionError, match="model_config of None, expected an object with"):
        jaxvid.from_pretrained(path)
    path = folder(tmp_path, head=True, model_config={**SAID, "use_learnable_pos_emb": True})
    with pytest.raises(ConversionError, match="use_learnable_pos_emb=True"):
        jaxvid.from_pretrained(path)


def test_a_folder_that_only_holds_a_file_is_read_as_that_file(tmp_path):
    safetensors_file.write(tmp_path / "model.safetensors", WEIGHTS)
    told = {"architecture": "vit", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(told))  # timm's form
    of = {"arch": "videomaev2/finetune", "config": FACTS["config"]}
    model, variables, info = jaxvid.from_pretrained(tmp_path, **of)
    assert info["source"]["path"] == str(tmp_path / "model.safetensors")
    found = info["preprocessing"]
    assert found["mean"] == (0.5,) * 3 and found["std"] == (0.25,) * 3
    assert "mean" not in info["assumed"]
    check(model, variables)
    (tmp_path / "config.json").unlink()
    assert jaxvid.from_pretrained(tmp_path, **of)[2]["assumed"][0] == "mean"
    with pytest.raises(ConfigError, match="a file of weights does not say what it is of"):
        jaxvid.from_pretrained(tmp_path)
