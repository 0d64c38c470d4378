"""UniFormer's table against the published checkpoints' keys."""

import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConfigError

ARCH = "uniformer/uniformer"
NAMES = {"S": "orig_uniformer_s_k400", "B": "orig_uniformer_b_k400"}
SMALL = {
    "DEPTH": [2, 3, 2, 1],
    "EMBED_DIM": [4, 4, 8, 12],
    "HEAD_DIM": 4,
    "MLP_RATIO": 2.0,
    "NUM_CLASSES": 5,
    "NUM_FRAMES": 4,
    "TRAIN_CROP_SIZE": 32,
}
FIELDS = {"depths": (2, 3, 2, 1), "widths": (4, 4, 8, 12), "head_dim": 4, "mlp_ratio": 2.0}


@pytest.mark.parametrize("variant", NAMES)
def test_published(variant):
    config = {"DEPTH": [5, 8, 20, 7]} if variant == "B" else {}
    resnet_tables.check.check_manifest(NAMES[variant], ARCH, config)
    found = source.find(ARCH).source
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (16, 224, 224, 3)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    shapes = {key: x.shape for key, x in resnet_tables.shapes_of(NAMES[variant]).items()}
    assert found.arguments(found.guess(shapes, {})) == arguments
    model = jaxvid.create_model("uniformer", variant=variant, num_classes=400)
    assert {field: getattr(model, field) for field in arguments} == arguments


def test_what_it_was_trained_on():
    told = source.find(ARCH).source.preprocessing
    kinetics = told({"SAMPLING_RATE": 8, "TRAIN_CROP_SIZE": 256})
    assert kinetics["mean"] == (0.45,) * 3 and kinetics["std"] == (0.225,) * 3
    assert (kinetics["stride_frames"], kinetics["short_side"]) == (8, 256)
    assert told({})["stride_frames"] == 4 and told({})["sampling"] == "dense"
    assert told({"NUM_CLASSES": 174})["sampling"] == "uniform"


def test_the_plain_name_knows_the_size_by_its_shapes():
    state = resnet_tables.shapes_of(NAMES["B"])
    assert reading.from_state(state, "uniformer").arguments["depths"] == (5, 8, 20, 7)


def test_differences():
    for missing in ("blocks3.4.attn.proj.bias", "blocks2.1.norm2.running_var", "norm.weight"):
        resnet_tables.check_differences(NAMES["S"], ARCH, missing, "blocks1.0.attn.weight")


def test_another_number_of_classes():
    state = {k: np.zeros(x.shape, x.dtype) for k, x in resnet_tables.shapes_of(NAMES["S"]).items()}
    model, _, info = jaxvid.from_state_dict(state, arch=ARCH, num_classes=7)
    assert model.num_classes == 7 and info["fresh"] == ["head/bias", "head/kernel"]


@pytest.mark.parametrize("split", [False, True])
def test_weights_survive_the_way_there_and_back(split):
    model = jaxvid.create_model("uniformer", num_classes=5, split=split, **FIELDS)
    resnet_tables.check_there_and_back(model, ARCH, {**SMALL, "SPLIT": split})


def test_another_number_of_channels():
    model = jaxvid.create_model("uniformer", num_classes=5, channels=2, **FIELDS)
    config = {**SMALL, "INPUT_CHANNEL_NUM": [2]}
    resnet_tables.check_there_and_back(model, ARCH, config)


def test_heads_that_no_shape_tells():
    state = {"patch_embed1.proj.weight": (16, 3, 3, 4, 4)} | {
        f"patch_embed{i}.proj.weight": (16 * i, 16, 1, 2, 2) for i in (2, 3, 4)
    }
    with pytest.raises(ConfigError, match=r"\(16, 32, 48, 64\) have no heads of 64.*'HEAD_DIM'"):
        source.find(ARCH).source.guess(state, {})


@pytest.mark.parametrize(
    "config, message",
    [
        ({"STD": True}, "STD=True: the model has only STD=False"),
        ({"QKV_BIAS": False}, "QKV_BIAS=False"),
        ({"QKV_SCALE": 0.1}, "QKV_SCALE=0.1: the model has only QKV_SCALE=None"),
        ({"REPRESENTATION_SIZE": 512}, "REPRESENTATION_SIZE=512"),
        ({"DEPTH": [1, 2]}, r"DEPTH=\[1, 2\]: expected one number for each of 4 stages"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    resnet_tables.check_refused(ARCH, config, message)


def test_another_epsilon_cannot_be_expressed():
    model = jaxvid.create_model("uniformer", num_classes=5, bn_epsilon=1e-3, **FIELDS)
    resnet_tables.check_inexpressible(model, ARCH, "bn_epsilon: 0.001 here, 1e-05 there")
