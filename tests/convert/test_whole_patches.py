"""Frames and sides that patches do not divide, and the other word for the exact GELU."""

import json

import numpy as np
import pytest

import jaxvid
from jaxvid.convert import safetensors_file, source
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConversionError


@pytest.mark.parametrize(
    "arch, config, clip",
    [
        ("hf/videomae", {"image_size": 60}, (16, 60, 60)),
        ("hf/videomae_pretrain", {"num_frames": 5}, (5, 224, 224)),
        ("hf/timesformer", {"image_size": 60}, (8, 60, 60)),
        ("hf/vivit", {"num_frames": 5}, (5, 224, 224)),
        ("hf/vivit", {"image_size": 60}, (32, 60, 60)),
        ("hf/vjepa2", {"crop_size": 60}, (64, 60, 60)),
    ],
)
def test_a_rest_is_refused(arch, config, clip):
    with pytest.raises(ConversionError, match=rf"\({', '.join(map(str, clip))}\) are not whole"):
        source.find(arch).source.clip(config)


def test_a_way_out_is_said():
    assert whole_patches((4, 64, 64, 3), 2, 8) == (4, 64, 64, 3)
    with pytest.raises(ConversionError, match=r"of \(2, 8, 8\), .* as \(4, 56, 56\)"):
        whole_patches((5, 60, 60, 3), 2, 8)


@pytest.mark.parametrize(
    "config, message",
    [({"image_size": 60}, "not whole patches"), ({"hidden_act": "relu"}, "hidden_act 'relu'")],
)
def test_the_checkpoint_is_named(tmp_path, config, message):
    told = {"model_type": "videomae", "architectures": ["VideoMAEForVideoClassification"]}
    (tmp_path / "config.json").write_text(json.dumps({**told, **config}))
    safetensors_file.write(tmp_path / "model.safetensors", {"w": np.ones(2, np.float32)})
    with pytest.raises(ConversionError, match=f"{tmp_path.name}: .*{message}"):
        jaxvid.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "arch",
    ["hf/videomae", "hf/videomae_pretrain", "hf/timesformer", "hf/vivit", "hf/vjepa2", "hf/vit"],
)
def test_gelu_python_is_gelu(arch):
    found = source.find(arch).source
    exact, same = (found.arguments({"hidden_act": word}) for word in ("gelu", "gelu_python"))
    assert exact == same
