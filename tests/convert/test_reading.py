"""Every kind of checkpoint becomes the same thing; wrong ones say what is wrong with them."""

import argparse
import json

import numpy as np
import pytest

from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import reading, safetensors_file, weights_file
from jaxvid.core.errors import ConfigError, ConversionError, UnknownNameError

CLIP = (4, 16, 16, 3)
CONFIG = {
    "model_type": "videomae",
    "architectures": ["VideoMAEForVideoClassification"],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 16,
    "num_frames": 4,
    "patch_size": 8,
    "id2label": {"0": "walk", "1": "fight"},
}


@pytest.fixture(scope="module")
def states():
    model = pretrained.create_model("videomae", variant="test", num_classes=2)
    shapes = model_tree.variable_shapes(model, CLIP)
    rng = np.random.default_rng(0)
    flat = {}
    for arch in ("hf/videomae", "videomae/finetune"):
        variables = {"params": _random(shapes["params"], rng)}
        flat[arch] = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    return flat


def _random(tree, rng):
    if isinstance(tree, dict):
        return {name: _random(branch, rng) for name, branch in tree.items()}
    return rng.normal(size=tree.shape).astype(np.float32)


def write_hf(folder, state, config=CONFIG, processor=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    safetensors_file.write(folder / "model.safetensors", state)
    return folder


def test_a_hugging_face_folder(tmp_path, states):
    processor = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
    processor |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}
    path = write_hf(tmp_path / "hf", states["hf/videomae"], processor=processor)
    checkpoint = reading.from_path(path)
    assert checkpoint.model == "videomae" and checkpoint.clip == CLIP
    assert checkpoint.arguments["num_classes"] == 2  # from id2label: num_labels is not there
    assert checkpoint.info["class_names"] == ["walk", "fight"]
    told = checkpoint.info["preprocessing"]
    assert told["mean"] == (0.1, 0.2, 0.3) and (told["size"], told["short_side"]) == (16, 20)
    assert (told["num_frames"], told["sampling"], told["stride_frames"]) == (4, "dense", 4)
    assert checkpoint.info["assumed"] == ["sampling", "stride_frames"]
    assert checkpoint.info["source"] == {"path": str(path), "arch": "hf/videomae"}
    assert reading.from_path(path, "hf/videomae").model == "videomae"


def test_preprocessing_that_is_not_told_is_said_to_be_assumed(tmp_path, states):
    path = write_hf(tmp_path / "hf", states["hf/videomae"])
    assert reading.from_path(path).info["assumed"] == ["mean", "sampling", "std", "stride_frames"]


def test_a_file_says_what_it_is_of_or_is_told(tmp_path, states):
    path = tmp_path / "model.safetensors"
    safetensors_file.write(path, states["videomae/finetune"])
    with pytest.raises(ConfigError, match=r"say arch=….*videomae/finetune"):
        reading.from_path(path)
    config = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 2}
    for arch in ("videomae/finetune", "videomae"):
        checkpoint = reading.from_path(path, arch, config)
        assert checkpoint.info["source"]["arch"] == "videomae/finetune"
        assert checkpoint.arguments["width"] == 32
    with pytest.raises(ConfigError, match="an encoder of width 32 is none of the published"):
        reading.from_path(path, "videomae/finetune")
    with pytest.raises(UnknownNameError, match="unknown arch 'videomaee'"):
        reading.from_path(path, "videomaee")


def test_the_training_arguments_beside_the_weights_complete_the_config(
    monkeypatch, tmp_path, states
):
    """The original repository saves its argparse namespace with the weights."""
    beside = {"args": argparse.Namespace(num_heads=2, num_frames=8, input_size=112), "epoch": 3}
    monkeypatch.setattr(weights_file, "read", lambda path: (states["videomae/finetune"], beside))
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"")
    checkpoint = reading.from_path(path, "videomae/finetune")
    assert checkpoint.arguments["num_heads"] == 2 and checkpoint.clip == (8, 112, 112, 3)
    assert checkpoint.arguments["depth"] == 2 and checkpoint.arguments["num_classes"] == 2


@pytest.mark.parametrize("arguments", [None, "--lr 1", ["--lr", "1"]])
def test_arguments_in_other_forms_say_nothing(monkeypatch, tmp_path, states, arguments):
    beside = {"args": arguments}
    monkeypatch.setattr(weights_file, "read", lambda path: (states["videomae/finetune"], beside))
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="num_heads"):
        reading.from_path(path, "videomae/finetune")
    told = reading.from_path(path, "videomae/finetune", {"num_heads": 2, "embed_dim": 32})
    assert told.arguments["num_heads"] == 2


def test_a_hugging_face_state_dict_needs_its_config(states):
    with pytest.raises(ConfigError, match="hf/videomae needs config=…"):
        reading.from_state(states["hf/videomae"], "hf/videomae")


def test_wrong_paths_say_what_is_wrong(tmp_path, states):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        reading.from_path(tmp_path / "none")
    with pytest.raises(ConversionError, match="neither a Hugging Face folder .* nor an export"):
        reading.from_path(tmp_path)
    path = write_hf(tmp_path / "hf", states["hf/videomae"])
    (path / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match="no weights in this folder"):
        reading.from_path(path)
    path = write_hf(tmp_path / "hf", states["hf/videomae"], {**CONFIG, "model_type": "bert"})
    with pytest.raises(ConversionError, match="model_type 'bert' is not known"):
        reading.from_path(path)


def test_an_export_without_weights(tmp_path):
    (tmp_path / "jaxvid.json").write_text("{}")
    with pytest.raises(ConversionError, match="an export without its model.safetensors"):
        reading.from_path(tmp_path)
