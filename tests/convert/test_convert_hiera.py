"""Hiera's table: the published models' keys and configs, both ways, other sizes, what cannot be."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source
from jaxvid.core.errors import ConfigError, ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH, NAME = "hiera/hiera", "orig_hiera_video"
# As the repository's functions hiera_…_16x224 say them.
PUBLISHED = {
    "B": {},
    "B+": {"embed_dim": 112, "num_heads": 2, "stages": [2, 3, 16, 3]},
    "L": {"embed_dim": 144, "num_heads": 2, "stages": [2, 6, 36, 4]},
    "H": {"embed_dim": 256, "num_heads": 4, "stages": [2, 6, 36, 4]},
}


def table():
    return source.find(ARCH).source


def golden():
    return check.weights(NAME), check.facts(NAME)["config"]


def state_of(config):
    """The keys and shapes of a model with this config, without values."""
    arguments, clip = table().arguments(config), table().clip(config)
    shapes = model_tree.variable_shapes(jaxvid.create_model("hiera", **arguments), clip)
    zeros = {
        path: np.broadcast_to(np.float32(0), x.shape)
        for path, x in apply.flatten_variables(shapes).items()
    }
    return apply.save(zeros, table().entries)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_configs(variant):
    found, config = table(), PUBLISHED[variant]
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (16, 224, 224, 3)
    back = json.loads(json.dumps(found.config(arguments, clip)))
    assert found.arguments(back) == arguments and found.clip(back) == clip
    model = jaxvid.create_model("hiera", variant=variant, num_classes=400)
    assert {field: getattr(model, field) for field in arguments} == arguments
    assert found.preprocessing(config) == {
        "mean": (0.45,) * 3,
        "std": (0.225,) * 3,
        "short_side": 224,
        "sampling": "dense",
        "stride_frames": 4,
    }


def test_a_bare_file_is_known_by_its_shapes():
    state = state_of(PUBLISHED["B+"])
    assert state["pos_embed_spatial"].shape[:2] == (1, 56 * 56)
    assert state["pos_embed_temporal"].shape[:2] == (1, 8)
    checkpoint = reading.from_state(state, "hiera")
    assert checkpoint.arguments == table().arguments(PUBLISHED["B+"])
    assert checkpoint.clip == (16, 224, 224, 3)


def test_a_width_that_tells_no_heads():
    weights, _ = golden()
    words = "no published Hiera is 24 wide.*config={'embed_dim': …, 'num_heads': …"
    with pytest.raises(ConfigError, match=words):
        jaxvid.from_state_dict(weights, arch=ARCH)


def test_weights_survive_the_way_there_and_back():
    weights, config = golden()
    model, variables, info = jaxvid.from_state_dict(
        {f"module.{key}": x for key, x in weights.items()}, arch=ARCH, config=config
    )
    assert info["fresh"] == [] and not info["waived"]
    clip = table().clip(config)
    assert clip == (8, 64, 64, 3)
    state = saving.to_state_dict(model, variables, arch=ARCH, clip=clip)
    assert state.keys() == weights.keys()
    for key, x in weights.items():
        np.testing.assert_array_equal(state[key], x, err_msg=key)
    back = table().config(table().arguments(config), clip)
    assert {n: json.dumps(back[n]) for n in config} == {n: json.dumps(config[n]) for n in config}


def test_differences():
    weights, config = golden()
    del weights["blocks.3.proj.bias"]
    weights["extra.weight"] = np.zeros(3, np.float32)
    weights["blocks.1.attn.qkv.weight"] = np.zeros((144, 25), np.float32)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(weights, arch=ARCH, config=config)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said and "nothing was loaded" in said
    assert "<- blocks.3.proj.bias" in said and "extra.weight (3,)" in said
    assert "blocks.1.attn.qkv.weight (" in said


def test_another_number_of_classes():
    weights, config = golden()
    model, _, info = jaxvid.from_state_dict(weights, arch=ARCH, config=config, num_classes=3)
    assert model.num_classes == 3 and info["fresh"] == ["head/bias", "head/kernel"]


def test_tables_of_places_are_resized_at_load():
    weights, config = golden()
    checkpoint = reading.from_state(weights, ARCH, config)
    model, before, _ = jaxvid.from_state_dict(weights, arch=ARCH, config=config)
    shapes = model_tree.variable_shapes(model, (12, 32, 96, 3))
    after, report = pretrained.load_into(model, shapes, checkpoint)
    assert not report.fresh
    for name, shape in (("temporal", (6,)), ("spatial", (8, 24))):
        old, new = (x["params"]["encoder"][f"{name}_position_embedding"] for x in (before, after))
        expected = jax.image.resize(old, (*shape, 24), "linear", antialias=False)
        np.testing.assert_allclose(new, expected, atol=1e-5)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"sep_pos_embed": False}, "sep_pos_embed=False: the model has only sep_pos_embed=True"),
        ({"dim_mul": 1.5}, "dim_mul=1.5: the model has only dim_mul=2.0"),
        ({"head_mul": 1.0}, "head_mul=1.0"),
        ({"norm_layer": "BatchNorm"}, "expected 'LayerNorm"),
        ({"mask_unit_size": [1, 4, 4]}, r"mask_unit_size=\(1, 4, 4\): .* only .*=\(1, 8, 8\)"),
        ({"patch_padding": [0, 3, 3]}, r"patch_padding=\(0, 3, 3\)"),
        ({"patch_stride": [2, 4, 2]}, "the patches' stride .* squares only"),
        (
            {"input_size": [224, 224], "q_stride": [2, 2]},
            r"input_size=\(224, 224\), q_stride=\(2, 2\): the model is of videos.*image models do",
        ),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    resnet_tables.check_refused(ARCH, config, message)


def test_the_norms_epsilon():
    found = source.find(ARCH).source
    assert found.arguments({})["norm_eps"] == 1e-6
    assert found.arguments({"norm_layer": "LayerNorm(eps=1e-3)"})["norm_eps"] == 1e-3


def test_rectangles_are_refused():
    with pytest.raises(ConversionError, match="input_size .* squares only"):
        table().clip({"input_size": [16, 224, 256]})


def test_image_models_are_refused():
    state = golden()[0] | {"patch_embed.proj.weight": np.zeros((96, 3, 7, 7), np.float32)}
    state["pos_embed"] = state.pop("pos_embed_spatial")
    with pytest.raises(ConversionError, match="not a checkpoint of hiera/hiera: it has no 'pos_em"):
        reading.from_state(state, ARCH)


def test_other_forms():
    """Three stages, two poolings, other strides and channels: a config says them all."""
    fields = {"pool_stride": (2, 2, 2), "patch_kernel": (1, 3, 3), "tubelet_size": 1, "channels": 2}
    model = jaxvid.create_model("hiera", variant="test", num_classes=3, **fields)
    clip = (4, 32, 32, 2)
    shapes = model_tree.variable_shapes(model, clip)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=ARCH, clip=clip)
    config = table().config(model_tree.arguments_of(model), clip)
    again, back, _ = jaxvid.from_state_dict(state, arch=ARCH, config=config)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, back, variables)
