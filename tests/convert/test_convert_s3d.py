"""The table of S3D: both references' published sizes, configs both ways, and what does not fit."""

import gzip
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import pretrained, saving
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

MANIFESTS = {"torchvision/s3d": "tv_s3d", "kylemin/s3d": "orig_s3d_kylemin_k400"}
GOLDENS = {"torchvision/s3d": "tv_s3d", "kylemin/s3d": "orig_s3d_kylemin"}
CLASSES = {"torchvision/s3d": "num_classes", "kylemin/s3d": "num_class"}
ARCHS = list(MANIFESTS)


def published(arch):
    path = check.HERE / "manifests" / f"{MANIFESTS[arch]}.json.gz"
    listing = json.loads(gzip.decompress(path.read_bytes()))
    return {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for key, shape, dtype, _ in listing["state_dict"]
    }


@pytest.mark.parametrize("config", ["given", "guessed"])
@pytest.mark.parametrize("arch", ARCHS)
def test_every_key_is_used_and_every_leaf_filled(arch, config):
    told = {CLASSES[arch]: 400} if config == "given" else None
    check.check_manifest(MANIFESTS[arch], arch, told)


def test_weights_come_back_as_they_were_under_either_name():
    weights = check.weights(GOLDENS["kylemin/s3d"])
    model, variables, _ = jaxvid.from_state_dict(weights, arch="s3d")  # told by its keys
    assert model.head_pool == (2, None, None)
    back = saving.to_state_dict(model, variables, arch="kylemin/s3d")
    assert {key for key in back if "num_batches" not in key} == weights.keys()
    for key, x in weights.items():
        np.testing.assert_array_equal(back[key], x, err_msg=key)
    # The other reference has the same arrays in the same order, and another pool.
    with pytest.raises(
        ConversionError, match=r"head_pool: \(2, None, None\) here, \(2, 7, 7\) there"
    ):
        saving.to_state_dict(model, variables, arch="torchvision/s3d")
    other = saving.to_state_dict(
        model.clone(head_pool=(2, 7, 7)), variables, arch="torchvision/s3d"
    )
    arrays = [x for key, x in other.items() if "num_batches" not in key]
    assert len(arrays) == len(weights)
    own = {check_sum(x) for x in weights.values()}
    assert {check_sum(x) for x in arrays} == own


def check_sum(x):
    return x.shape, x.tobytes()


def test_the_file_of_the_other_repository_has_a_prefix():
    state = {f"module.{key}": x for key, x in published("kylemin/s3d").items()}
    checkpoint = reading.from_state(state, "kylemin/s3d")
    assert checkpoint.state.keys() == published("kylemin/s3d").keys()
    assert checkpoint.arguments["num_classes"] == 400


@pytest.mark.parametrize(
    "arch, config",
    [
        ("torchvision/s3d", {}),
        ("torchvision/s3d", {"num_classes": 7, "dropout": 0.4}),
        ("kylemin/s3d", {}),
        ("kylemin/s3d", {"num_class": 7}),
    ],
)
def test_a_config_survives_the_way_there_and_back(arch, config):
    found = source.find(arch).source
    arguments, clip = found.arguments(config), found.clip(config)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    assert back.items() >= config.items()


def test_a_norm_of_ones_own_is_refused():
    found = source.find("torchvision/s3d").source
    with pytest.raises(ConversionError, match="norm_layer 'GroupNorm': .*BatchNorm3d"):
        found.arguments({"norm_layer": "GroupNorm"})
    assert found.arguments({"norm_layer": None, "note": "mine"}) == found.arguments({})


def test_gates_are_refused_by_both():
    model = pretrained.create_model("s3d", variant="S3D-G", num_classes=4)
    x = np.zeros((1, 8, 32, 32, 3), np.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), {"video": x}, train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    for arch in ARCHS:
        with pytest.raises(ConversionError, match="gating: True here, False there"):
            saving.to_state_dict(model, variables, arch=arch)


def test_pixels_and_frames_are_the_references():
    known = source.find("torchvision/s3d").source
    assert known.preprocessing({})["mean"] == (0.43216, 0.394666, 0.37645)
    assert known.preprocessing({})["stride_frames"] == 2 and known.clip({})[0] == 128
    known = source.find("kylemin/s3d").source
    assert known.preprocessing({})["mean"] == known.preprocessing({})["std"] == (0.5,) * 3


@pytest.mark.parametrize("arch", ARCHS)
def test_what_does_not_fit_is_listed_and_nothing_is_loaded(arch):
    state = published(arch)
    missing, reshaped = (
        ("features.9.branch2.1.1.0.weight", "features.3.1.1.bias")
        if arch == "torchvision/s3d"
        else ("base.9.branch2.1.conv_t.weight", "base.3.bn_t.bias")
    )
    del state[missing]
    state["extra.weight"] = jax.ShapeDtypeStruct((1,), np.float32)
    state[reshaped] = jax.ShapeDtypeStruct((7,), np.float32)
    with pytest.raises(ConversionError) as caught:
        jaxvid.from_state_dict(state, arch=arch)
    message = str(caught.value)
    assert "backbone/mixed_4c/branch_2b/conv/temporal/kernel" in message
    assert "extra.weight" in message and reshaped in message and "(7,)" in message
