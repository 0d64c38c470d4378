"""The table of I3D: published sizes, configs both ways, and what does not fit."""

import gzip
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import pretrained, saving
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "pytorch_i3d/inception_i3d"


def published(name):
    listing = json.loads(
        gzip.decompress((check.HERE / "manifests" / f"{name}.json.gz").read_bytes())
    )
    return {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for key, shape, dtype, _ in listing["state_dict"]
    }


@pytest.mark.parametrize("config", ["given", "guessed"])
@pytest.mark.parametrize("name, channels", [("i3d_inception_rgb", 3), ("i3d_inception_flow", 2)])
def test_every_key_is_used_and_every_leaf_filled(name, channels, config):
    told = {"num_classes": 400, "in_channels": channels}
    check.check_manifest(name, ARCH, told if config == "given" else None)


def test_weights_come_back_as_they_were():
    weights = check.weights("i3d_inception_flow")
    model, variables, info = jaxvid.from_state_dict(weights, arch=ARCH)
    assert (model.stream, model.channels, model.head_pool) == ("flow", 2, (2, 7, 7))
    assert info["clip"] == [64, 224, 224, 2] and not info["fresh"]
    back = saving.to_state_dict(model, variables, arch=ARCH)
    counters = {key: x for key, x in back.items() if key.endswith("num_batches_tracked")}
    assert back.keys() - counters.keys() == weights.keys() and len(counters) == 57
    for key, x in weights.items():
        np.testing.assert_array_equal(back[key], x, err_msg=key)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_classes": 157, "in_channels": 2},
        {"avg_pool_kernel": [2, 4, 4], "dropout_keep_prob": 0.3},
        {"avg_pool_kernel": None},
    ],
)
def test_a_config_survives_the_way_there_and_back(config):
    found = source.find(ARCH).source
    arguments, clip = found.arguments(config), found.clip(config)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    assert (
        back.items()
        >= {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}.items()
    )


def test_the_whole_network_is_asked_for():
    with pytest.raises(ConversionError, match="final_endpoint 'Mixed_5c': .* whole network"):
        source.find(ARCH).source.arguments({"final_endpoint": "Mixed_5c"})


def test_notes_of_a_config_are_not_read():
    found = source.find(ARCH).source
    assert found.arguments({"note": "fine-tuned"}) == found.arguments({})


def test_pixels_go_to_minus_one_to_one():
    known = source.find(ARCH).source.preprocessing({})
    assert known["mean"] == known["std"] == (0.5,) * 3
    assert (known["stride_frames"], known["short_side"]) == (1, 256)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded():
    state = published("i3d_inception_rgb")
    del state["Mixed_4d.b1b.conv3d.weight"]
    state["Mixed_9z.b0.conv3d.weight"] = jax.ShapeDtypeStruct((1, 1, 1, 1, 1), np.float32)
    state["Mixed_3b.b0.bn.running_var"] = jax.ShapeDtypeStruct((65,), np.float32)
    with pytest.raises(ConversionError) as caught:
        jaxvid.from_state_dict(state, arch=ARCH)
    message = str(caught.value)
    assert "backbone/mixed_4d/branch_1b/conv/kernel" in message
    assert "Mixed_9z.b0.conv3d.weight" in message
    assert "Mixed_3b.b0.bn.running_var" in message and "(65,)" in message


def test_another_number_of_classes_gives_a_fresh_head_only():
    weights = check.weights("i3d_inception_rgb")
    _, variables, info = jaxvid.from_state_dict(weights, arch="i3d", num_classes=2)
    assert info["fresh"] == ["head/bias", "head/kernel"]
    assert variables["params"]["head"]["kernel"].shape == (1024, 2)


def test_a_smaller_model_is_not_the_references():
    model = pretrained.create_model("i3d", variant="test", num_classes=4)
    x = np.zeros((1, 8, 32, 32, 3), np.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), {"video": x}, train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    with pytest.raises(
        ConversionError, match=r"cannot express this model:[^:]*width_factor: 0.25 here"
    ):
        saving.to_state_dict(model, variables, arch=ARCH)
