"""The table of C3D: MMAction2's configs both ways, with and without norms, and what does not fit."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source, writing
from jaxvid.core.errors import ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "mmaction/c3d"
SOURCE = source.find(ARCH).source
BN = {"type": "BN3d"}


def published(out_dim=8192, num_classes=101, normed=False):
    """key -> shape of MMAction2's recogniser, from its golden, for other sizes."""
    state = {}
    for key, shape, dtype, _ in check.facts("mmaction_c3d")["state_dict"]:
        layer = key.removesuffix(".conv.bias")
        if normed and layer != key:
            for name in ("weight", "bias", "running_mean", "running_var"):
                state[f"{layer}.bn.{name}"] = jax.ShapeDtypeStruct(tuple(shape), np.float32)
            state[f"{layer}.bn.num_batches_tracked"] = jax.ShapeDtypeStruct((), np.int64)
            continue
        shape = (4096, out_dim) if key == "backbone.fc6.weight" else tuple(shape)
        shape = (num_classes, *shape[1:]) if key.startswith("cls_head") else shape
        state[key] = jax.ShapeDtypeStruct(shape, np.dtype(dtype))
    return state


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("out_dim", [8192, 4608])
def test_every_key_is_used_and_every_leaf_filled_and_back(out_dim, normed):
    state = published(out_dim, 487, normed)
    checkpoint = reading.from_state(state, ARCH)
    assert checkpoint.arguments["num_classes"] == 487
    assert checkpoint.arguments["batch_norm"] is normed
    assert checkpoint.clip == ((16, 112, 112, 3) if out_dim == 8192 else (16, 80, 80, 3))
    model = pretrained.create_model("c3d", **checkpoint.arguments)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))
    filled, report = apply.load(checkpoint.state, shapes, checkpoint.entries)
    assert filled.keys() == shapes.keys() and not report.fresh
    assert report.used.keys() | report.waived.keys() == state.keys()
    written = writing.to_state("c3d", checkpoint.arguments, filled, ARCH, checkpoint.clip)
    assert {k: tuple(x.shape) for k, x in written.state.items()} == {
        k: x.shape for k, x in state.items()
    }
    assert written.config["backbone"]["out_dim"] == out_dim


def test_weights_come_back_as_they_were():
    weights = check.weights("mmaction_c3d")
    model, variables, info = jaxvid.from_state_dict(weights, arch="c3d")
    assert not info["fresh"] and "batch_stats" not in variables
    back = saving.to_state_dict(model, variables, arch=ARCH)
    assert back.keys() == weights.keys()
    for key, x in weights.items():
        np.testing.assert_array_equal(back[key], x, err_msg=key)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_classes": 10, "out_dim": 4608, "dropout_ratio": 0.2},
        {
            "backbone": {"dropout_ratio": 0.1, "norm_cfg": {**BN, "eps": 1e-3, "momentum": 0.05}},
            "cls_head": {"num_classes": 3, "dropout_ratio": 0.9, "in_channels": 4096},
        },
        {"backbone": {"conv_cfg": {"type": "Conv3d"}, "act_cfg": {"type": "ReLU"}}, "cls_head": {}},
    ],
)
def test_a_config_survives_the_way_there_and_back(config):
    arguments, clip = SOURCE.arguments(config), SOURCE.clip(config)
    back = SOURCE.config(arguments, clip)
    assert SOURCE.clip(back) == clip
    for name, value in SOURCE.arguments(back).items():
        assert value == (
            pytest.approx(arguments[name]) if name == "bn_momentum" else arguments[name]
        )


def test_the_fields_of_one_part_are_not_taken_for_the_others():
    arguments = SOURCE.arguments(
        {
            "backbone": {"dropout_ratio": 0.1, "norm_cfg": {**BN, "momentum": 0.05}},
            "cls_head": {"num_classes": 3, "dropout_ratio": 0.9},
        }
    )
    assert (arguments["dropout"], arguments["head_dropout"]) == (0.1, 0.9)
    assert arguments["num_classes"] == 3 and arguments["bn_momentum"] == 0.95


@pytest.mark.parametrize(
    "config, message",
    [
        ({"norm_cfg": {"type": "SyncBN3d"}}, "norm_cfg .*'SyncBN3d'.*'BN3d' only"),
        ({"act_cfg": {"type": "GELU"}}, "act_cfg .*only None or {'type': 'ReLU'}"),
        ({"backbone": {"conv_cfg": {"type": "Conv2plus1d"}}}, "conv_cfg .*'Conv2plus1d'"),
        ({"cls_head": {"in_channels": 2048}}, "in_channels 2048: the model has only 4096"),
        ({"cls_head": {"spatial_type": "avg"}}, "spatial_type 'avg': the model has only None"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    with pytest.raises(ConversionError, match=message):
        SOURCE.arguments(config)


@pytest.mark.parametrize("out_dim", [0, 1024, 8193])
def test_a_map_that_is_no_square_is_refused(out_dim):
    with pytest.raises(ConversionError, match=rf"out_dim {out_dim}: expected 512 channels"):
        SOURCE.clip({"out_dim": out_dim})


def test_pixels_are_of_0_to_255_minus_their_mean():
    known = SOURCE.preprocessing({})
    pixel = np.array([200.0, 10.0, 128.0])
    normalised = (pixel / 255 - np.array(known["mean"])) / np.array(known["std"])
    np.testing.assert_allclose(normalised, pixel - [104, 117, 128], atol=1e-9)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded():
    state = published()
    del state["backbone.conv3b.conv.bias"]
    state["backbone.conv6a.conv.weight"] = jax.ShapeDtypeStruct((1, 1, 1, 1, 1), np.float32)
    state["backbone.fc7.weight"] = jax.ShapeDtypeStruct((4096, 4095), np.float32)
    with pytest.raises(ConversionError) as caught:
        jaxvid.from_state_dict(state, arch=ARCH)
    message = str(caught.value)
    assert "backbone/conv_3b/bias" in message
    assert "backbone.conv6a.conv.weight" in message
    assert "backbone.fc7.weight" in message and "(4096, 4095)" in message


def test_a_backbone_alone_is_no_checkpoint_of_this_model():
    state = {key.removeprefix("backbone."): x for key, x in published().items() if "cls" not in key}
    with pytest.raises(ConversionError, match="it has no 'backbone.fc6.weight'"):
        jaxvid.from_state_dict(state, arch=ARCH)
