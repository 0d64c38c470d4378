"""torchvision's ResNets: published sizes, configs, strictness, which depth a file is of."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import apply, reading, source
from jaxvid.convert.preprocessing import IMAGENET_MEAN
from jaxvid.core.errors import ConfigError, ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

DEPTHS = (18, 34, 50, 101)


def arch(depth):
    return f"torchvision/resnet{depth}"


def listing(depth, num_classes=1000):
    """{key: shape only} as torchvision has them: of ours, written."""
    model = jaxvid.create_model("resnet", variant=str(depth), num_classes=num_classes)
    shapes = model_tree.variable_shapes(model, (1, 224, 224, 3))
    flat = apply.flatten_variables(shapes)
    found = source.find(arch(depth)).source
    return apply.save(flat, found.entries)


@pytest.mark.parametrize("depth", [18, 50])
def test_published_sizes_load_with_every_key_used_and_every_leaf_filled(depth):
    check.check_manifest(f"tv_resnet{depth}", arch(depth), {"num_classes": 1000})


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_file_says_its_depth_and_its_classes(depth):
    for name in ("resnet", "single_frame"):
        checkpoint = reading.from_state(listing(depth, 7), name)
        assert checkpoint.info["source"]["arch"] == arch(depth)
        assert checkpoint.arguments["num_classes"] == 7


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_config_survives_the_way_there_and_back(depth):
    found = source.find(arch(depth)).source
    arguments, clip = found.arguments({"num_classes": 12, "note": "ours"}), found.clip({})
    assert clip == (1, 224, 224, 3)
    back = found.config(arguments, clip)
    assert back == {"num_classes": 12} and found.arguments(back) == arguments
    assert found.arguments({})["num_classes"] == 1000
    assert found.preprocessing({})["mean"] == IMAGENET_MEAN


@pytest.mark.parametrize(
    "config, words",
    [
        ({"groups": 32, "width_per_group": 4}, "groups=32, width_per_group=4: the model has only"),
        ({"replace_stride_with_dilation": [False, True, True]}, "replace_stride_with_dilation="),
        ({"norm_layer": "GroupNorm"}, "norm_layer='GroupNorm'"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, words):
    with pytest.raises(ConversionError, match=words):
        source.find(arch(50)).source.arguments(config)


def test_plain_words_of_torchvision_are_taken():
    config = {"groups": 1, "width_per_group": 64, "norm_layer": None}
    config |= {"replace_stride_with_dilation": [False] * 3, "zero_init_residual": True}
    assert source.find(arch(50)).source.arguments(config)["bottleneck"]


def test_the_error_lists_all_that_does_not_fit():
    state = {k: np.broadcast_to(np.float32(0), x.shape) for k, x in listing(18).items()}
    del state["layer2.0.conv1.weight"]
    state["layer5.weight"] = np.zeros(3)
    state["layer3.1.bn2.bias"] = np.zeros(7)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch=arch(18))
    text = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in text and "nothing was loaded" in text
    assert "backbone/stage_2/block_0/conv_1/kernel (3, 3, 64, 128)  <- layer2.0.conv1.w" in text
    assert "layer5.weight (3,)" in text and "layer3.1.bn2.bias (7,)" in text


def test_a_file_of_another_depth():
    with pytest.raises(ConversionError, match="(?s)96 left over.*layer1.2.bn1.bias"):
        jaxvid.from_state_dict(_zeros(listing(34)), arch=arch(18))


def test_a_file_without_its_classifier():
    state = {k: x for k, x in listing(18).items() if not k.startswith("fc.")}
    with pytest.raises(ConversionError, match="it has no 'fc.weight'"):
        jaxvid.from_state_dict(state, arch=arch(18))


def test_weights_and_statistics_survive_the_way_there_and_back():
    rng = np.random.default_rng(0)
    model = jaxvid.create_model("resnet", variant="18", num_classes=3)
    shapes = model_tree.variable_shapes(model, (1, 224, 224, 3))
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=arch(18), clip=(1, 224, 224, 3))
    assert state["layer4.1.bn2.num_batches_tracked"] == 0
    _, back, info = jaxvid.from_state_dict(state, arch="resnet")
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and info["preprocessing"]["size"] == 224


def test_what_torchvision_cannot_express():
    model = jaxvid.create_model("resnet", variant="test", num_classes=3)
    shapes = model_tree.variable_shapes(model, (1, 32, 32, 3))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    with pytest.raises(ConversionError, match="stem_kernel|stage_sizes|width"):
        saving.to_state_dict(model, variables, arch=arch(18))


def test_other_classes_make_a_fresh_head():
    state = _zeros(listing(18))
    _, variables, info = jaxvid.from_state_dict(state, arch=arch(18), num_classes=2)
    assert info["fresh"] == ["head/bias", "head/kernel"]
    assert np.abs(variables["params"]["head"]["kernel"]).max() > 0
    with pytest.raises(ConfigError, match="num_classes"):
        jaxvid.from_state_dict(state, arch="single_frame")


def _zeros(state):
    return {key: np.broadcast_to(np.zeros((), x.dtype), x.shape) for key, x in state.items()}
