"""transformers' Mamba through the table, both ways; ImageNet's ResNets start the whole model."""

import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid.convert import apply
from jaxvid.convert.cnn_mamba import HF_MAMBA, mamba_blocks
from jaxvid.core.errors import ConversionError
from jaxvid.nn.ssm import Mamba

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

NAME = "hf_mamba"
CONFIG = check.facts(NAME)["config"]
MODEL = Mamba(
    CONFIG["num_hidden_layers"], CONFIG["state_size"], CONFIG["conv_kernel"], CONFIG["expand"]
)


def shapes(model, width):
    x = jax.ShapeDtypeStruct((1, 2, width), np.float32)
    init = functools.partial(model.init, train=False)
    return apply.flatten_variables(jax.eval_shape(init, jax.random.key(0), x))


@functools.cache
def loaded():
    targets = shapes(MODEL, CONFIG["hidden_size"])
    return apply.load(check.weights(NAME), targets, HF_MAMBA)


def test_the_references_numbers():
    told, z = check.facts(NAME), check.stored(NAME)
    atol = told["checks"]["suggested_atol"]

    @jax.jit
    def run(variables, x):
        return MODEL.apply(
            variables, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )

    y, kept = run(apply.unflatten_variables(loaded()[0]), check.drawn(NAME))
    np.testing.assert_allclose(y, z["last_hidden_state"], atol=atol)
    blocks = kept["intermediates"]
    # transformers' hidden_states begin after the first block: [1] is what the second one returns.
    np.testing.assert_allclose(blocks["block_1"]["__call__"][0], z["block0"], atol=atol)
    mixer = blocks["block_0"]["mixer"]
    # The reference's convolution runs on behind the last step.
    steps = told["input"]["shape"][1]
    shape = told["probes"]["layers.0.mixer.conv1d"]["shape"]
    of_conv = z["probe.layers.0.mixer.conv1d"].reshape(shape)[:, :, :steps]
    got = np.moveaxis(np.asarray(mixer["forward"]["conv"]["__call__"][0]), -1, 1)
    np.testing.assert_allclose(got, of_conv, atol=atol)
    modules = {
        "layers.0.norm": blocks["block_0"]["norm"],
        "layers.0.mixer.in_proj": mixer["in_proj"],
        "layers.0.mixer.x_proj": mixer["forward"]["x_proj"],
        "layers.0.mixer": mixer,
    }
    assert {*modules, "layers.0.mixer.conv1d"} == told["probes"].keys()
    for name, module in modules.items():
        got = np.asarray(module["__call__"][0]).ravel()[:: told["probes"][name]["stride"]]
        np.testing.assert_allclose(got, z[f"probe.{name}"].ravel(), atol=atol, err_msg=name)


def test_every_key_is_used_and_written_again():
    filled, report = loaded()
    weights = check.weights(NAME)
    assert set(report.waived) == {"embeddings.weight"} and not report.fresh
    assert sum(x.size for x in filled.values()) + weights["embeddings.weight"].size == 67520
    back = apply.save(filled, HF_MAMBA)
    assert back.keys() == weights.keys() - {"embeddings.weight"}
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key])


def test_what_does_not_fit_is_listed_whole():
    weights = check.weights(NAME)
    del weights["layers.1.mixer.D"]
    weights["layers.2.mixer.D"] = np.zeros(128, np.float32)
    weights["layers.0.mixer.A_log"] = np.zeros((128, 8), np.float32)
    with pytest.raises(ConversionError) as error:
        apply.load(weights, shapes(MODEL, CONFIG["hidden_size"]), HF_MAMBA)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said
    assert "block_1/mixer/forward/D (128,)  <- layers.1.mixer.D" in said
    assert "layers.2.mixer.D (128,)" in said
    assert "layers.0.mixer.A_log (128, 8)  -> block_0/mixer/forward/A_log (128, 16)" in said


def test_second_scans_have_keys_with_b():
    rules = mamba_blocks("layers.{i}", "block_{i}")
    targets = shapes(Mamba(1, bidirectional=True), 64)
    targets.pop("norm/scale")
    keys = apply.save(targets, rules)
    second = ("conv1d_b.weight", "conv1d_b.bias", "x_proj_b.weight", "dt_proj_b.weight")
    second += ("dt_proj_b.bias", "A_b_log", "D_b")
    assert {f"layers.0.mixer.{name}" for name in second} < keys.keys()
    filled, _ = apply.load(keys, targets, rules)
    assert filled.keys() == targets.keys()


def test_an_image_classifier_starts_the_model():
    weights = check.weights("tv_resnet18")
    model, variables, info = jaxvid.from_state_dict(weights, arch="cnn_mamba", num_classes=2)
    assert model.stage_sizes == (2, 2, 2, 2) and model.num_layers == 3
    assert {path.split("/")[0] for path in info["fresh"]} == {"projection", "mamba", "head"}
    kernel = variables["params"]["backbone"]["stage_4"]["block_1"]["conv_2"]["kernel"]
    np.testing.assert_array_equal(kernel, weights["layer4.1.conv2.weight"].transpose(2, 3, 1, 0))
    stats = variables["batch_stats"]["backbone"]["stem"]["norm"]["var"]
    np.testing.assert_array_equal(stats, weights["bn1.running_var"])
