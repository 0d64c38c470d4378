"""ImageNet's ResNet starts both streams; the temporal one sees flow where the image had colours."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid.convert import apply
from jaxvid.core.errors import ConfigError, ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

FRESH = {
    "average": {
        "spatial_head/kernel",
        "spatial_head/bias",
        "temporal_head/kernel",
        "temporal_head/bias",
    },
    "learned": {"head/kernel", "head/bias"},
    "conv3d": {"head/kernel", "head/bias", "fuse/kernel", "fuse/bias"},
}


@pytest.fixture(scope="module")
def state():
    return check.weights("tv_resnet18")


@pytest.fixture(scope="module")
def image(state):
    _, variables, _ = jaxvid.from_state_dict(state, arch="torchvision/resnet18")
    return apply.flatten_variables(variables)


@pytest.mark.parametrize("fusion", FRESH)
def test_both_streams_start_from_the_image_classifier(state, image, fusion):
    model, variables, info = jaxvid.from_state_dict(
        state, arch="two_stream", num_classes=3, fusion=fusion, flow_stack=5
    )
    assert (model.fusion, model.flow_stack, model.num_classes) == (fusion, 5, 3)
    assert set(info["fresh"]) == FRESH[fusion]
    ours = apply.flatten_variables(variables)
    seen = set(info["fresh"])
    for path, array in image.items():
        if "backbone/" not in path:
            continue
        spatial, temporal = (path.replace("backbone/", f"{s}/") for s in ("spatial", "temporal"))
        np.testing.assert_array_equal(ours[spatial], array)
        if path == "backbone/stem/conv/kernel":
            mean = np.asarray(array).mean(axis=2, keepdims=True)
            array = np.broadcast_to(mean, (7, 7, 10, 64))
        np.testing.assert_allclose(ours[temporal], array, atol=1e-7)
        seen |= {spatial, temporal}
    assert seen == set(ours)


def test_a_longer_stack_than_the_default_is_initialised_too(state):
    model, variables, _ = jaxvid.from_state_dict(
        state, arch="two_stream", num_classes=3, flow_stack=15
    )
    assert variables["params"]["temporal"]["stem"]["conv"]["kernel"].shape == (7, 7, 30, 64)
    inputs = {"video": np.zeros((1, 15, 32, 32, 3)), "flow": np.zeros((1, 15, 32, 32, 2))}
    shapes = jax.eval_shape(lambda: model.apply(variables, inputs, train=False))
    assert shapes["logits"].shape == (1, 3)


def test_the_number_of_classes_must_be_said(state):
    with pytest.raises(ConfigError, match="model 'two_stream' needs num_classes"):
        jaxvid.from_state_dict(state, arch="two_stream")


def test_what_does_not_fit_is_listed_whole(state):
    wrong = {k: x for k, x in state.items() if k != "layer2.0.conv1.weight"}
    wrong |= {"extra": np.zeros(3, np.float32), "bn1.weight": np.zeros(5, np.float32)}
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(wrong, arch="two_stream", num_classes=3)
    for words in ("layer2.0.conv1.weight", "extra (3,)", "bn1.weight (5,)", "nothing was loaded"):
        assert words in str(error.value)


def test_jaxvids_own_keys_there_and_back(state, tmp_path):
    model, variables, info = jaxvid.from_state_dict(
        state, arch="two_stream", num_classes=3, fusion="conv3d", flow_stack=2
    )
    told = {"num_frames": 8, "size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    arch = jaxvid.save_pretrained(
        tmp_path / "export", model, variables, {**info, "preprocessing": told}
    )
    again, loaded, _ = jaxvid.from_pretrained(tmp_path / "export")
    assert (arch, again) == ("jaxvid", model)
    jax.tree.map(np.testing.assert_array_equal, loaded, dict(variables))
