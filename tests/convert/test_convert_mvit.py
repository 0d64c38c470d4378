"""MViT's tables: published checkpoints by their listings, configs both ways, other sizes, errors."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source, writing
from jaxvid.core.errors import ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

PUBLISHED = {
    "torchvision/mvit_v1_b": ("tv_mvit_v1_b", "v1-B 16x4"),
    "torchvision/mvit_v2_s": ("tv_mvit_v2_s", "v2-S"),
    "pytorchvideo/mvit_base_16x4": ("ptv_mvit_base_16x4", "v1-B 16x4"),
}
TINY = {
    "tv_mvit_v1_tiny": "torchvision/mvit_v1_b",
    "tv_mvit_v2_tiny": "torchvision/mvit_v2_s",
    "ptv_mvit_tiny": "pytorchvideo/mvit_base_16x4",
}


def table(arch):
    return source.find(arch).source


def fields(model, arguments):
    return {name: getattr(model, name) for name in arguments if name != "drop_path_rate"}


@pytest.mark.parametrize("arch", PUBLISHED)
def test_published_checkpoints(arch):
    name, variant = PUBLISHED[arch]
    check.check_manifest(name, arch, {})
    found, clip = table(arch), (16, 224, 224, 3)
    arguments = found.arguments({})
    assert found.clip({}) == clip
    shapes = {key: x.shape for key, x in resnet_tables.shapes_of(name).items()}
    for config in (found.config(arguments, clip), found.guess(shapes, {})):
        config = json.loads(json.dumps(config))
        assert found.arguments(config) == arguments and found.clip(config) == clip
    told = found.preprocessing({})
    assert told["stride_frames"] == 4 and told["sampling"] == "dense"
    assert told["mean"] == (0.45,) * 3 and told["short_side"] == 256
    model = jaxvid.create_model("mvit", variant=variant, num_classes=400)
    assert fields(model, arguments) == {n: arguments[n] for n in fields(model, arguments)}


def test_the_longer_clips_of_pytorchvideo():
    found = table("pytorchvideo/mvit_base_32x3")
    assert found.clip({}) == (32, 224, 224, 3)
    assert found.preprocessing({})["stride_frames"] == 3
    assert found.arguments({}) == table("pytorchvideo/mvit_base_16x4").arguments({})


def test_either_version_of_torchvision_is_known_by_its_shapes():
    v2 = {key: x.shape for key, x in resnet_tables.shapes_of("tv_mvit_v2_s").items()}
    config = table("torchvision/mvit_v1_b").guess(v2, {})
    arguments = table("torchvision/mvit_v1_b").arguments(config)
    assert arguments == table("torchvision/mvit_v2_s").arguments({})


@pytest.mark.parametrize(
    "name, words",
    [
        ("ptv_mvit_tiny", "pool_q_stride_size, pool_kv_stride_adaptive"),
        ("tv_mvit_v1_tiny", "the strides of block_setting"),
        ("tv_mvit_v2_tiny", "the strides of block_setting"),
    ],
)
def test_strides_of_unpublished_models_are_not_made_up(name, words):
    message = f"the state dict: .*weights do not tell {words}.*width=\\d+.*no published .*config="
    with pytest.raises(ConversionError, match=message):
        jaxvid.from_state_dict(check.weights(name), arch=TINY[name])


def test_joint_positions_need_a_config():
    shapes = {key: x.shape for key, x in resnet_tables.shapes_of("ptv_mvit_base_16x4").items()}
    place = "cls_positional_encoding.pos_embed"
    shapes = {key: x for key, x in shapes.items() if not key.startswith(place)}
    with pytest.raises(ConversionError, match=f"{place}, .*config=.*sep_pos_embed=False"):
        table("pytorchvideo/mvit_base_16x4").guess({**shapes, place: (1, 25089, 96)}, {})


def test_the_published_model_of_24_blocks_is_known():
    starts = (2, 5, 21)
    config = {
        "depth": 24,
        "embed_dim_mul": [[i, 2.0] for i in starts],
        "atten_head_mul": [[i, 2.0] for i in starts],
        "pool_q_stride_size": [[i, 1, 2, 2] for i in starts],
    }
    found, clip = table("pytorchvideo/mvit_base_32x3"), (32, 224, 224, 3)
    arguments = found.arguments(config)
    model = jaxvid.create_model("mvit", **arguments)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, clip))
    state = writing.to_state("mvit", arguments, shapes, "pytorchvideo/mvit_base_32x3", clip).state
    guess = found.guess({key: tuple(x.shape) for key, x in state.items()}, {})
    assert found.arguments(guess) == arguments and found.clip(guess) == clip


@pytest.mark.parametrize("name", TINY)
def test_configs_come_back(name):
    found, config = table(TINY[name]), check.facts(name)["config"]
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (8, 32, 32, 3)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    for field, value in config.items():
        if field != "block_setting":
            assert json.dumps(back[field]) == json.dumps(value)


@pytest.mark.parametrize("name", TINY)
def test_weights_survive_the_way_there_and_back(name):
    arch, config, weights = TINY[name], check.facts(name)["config"], check.weights(name)
    model, variables, info = jaxvid.from_state_dict(
        {f"module.{key}": x for key, x in weights.items()}, arch=arch, config=config
    )
    assert info["fresh"] == []
    state = saving.to_state_dict(model, variables, arch=arch, clip=(8, 32, 32, 3))
    assert state.keys() == weights.keys()
    for key, x in weights.items():
        np.testing.assert_array_equal(state[key], x, err_msg=key)


@pytest.mark.parametrize(
    "arch, missing, misshaped",
    [
        ("torchvision/mvit_v1_b", "blocks.3.attn.pool_q.pool.weight", "blocks.2.attn.qkv.weight"),
        ("torchvision/mvit_v2_s", "blocks.0.attn.rel_pos_t", "blocks.1.attn.rel_pos_h"),
        ("pytorchvideo/mvit_base_16x4", "blocks.2.proj.bias", "blocks.1.attn.pool_k.weight"),
    ],
)
def test_differences(arch, missing, misshaped):
    resnet_tables.check_differences(PUBLISHED[arch][0], arch, missing, misshaped)


def test_another_number_of_classes():
    name = "tv_mvit_v2_tiny"
    model, _, info = jaxvid.from_state_dict(
        check.weights(name),
        arch=TINY[name],
        config=check.facts(name)["config"],
        num_classes=3,
    )
    assert model.num_classes == 3 and info["fresh"] == ["head/bias", "head/kernel"]


# --- other sizes ----------------------------------------------------------------------------------


def loaded_for(name, shape):
    """(model, its variables as initialised with clips of that shape and then loaded)"""
    config = check.facts(name)["config"]
    checkpoint = reading.from_state(check.weights(name), TINY[name], config)
    model, _, _ = jaxvid.from_state_dict(check.weights(name), arch=TINY[name], config=config)
    shapes = model_tree.variable_shapes(model, shape)
    merged, report = pretrained.load_into(model, shapes, checkpoint)
    assert not report.fresh
    return model, merged


def run(model, variables, video):
    def logits(variables, video):
        return model.apply(variables, {"video": video}, train=False)["logits"]

    # Run once: quickly compiled is better than quick.
    compiled = jax.jit(logits, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(variables, video)


def test_relative_tables_resized_at_load_and_at_call_are_the_same():
    name = "tv_mvit_v2_tiny"
    model, resized = loaded_for(name, (12, 48, 48, 3))
    _, as_stored = loaded_for(name, (8, 32, 32, 3))
    at = ("params", "block_0", "attention", "relative_height_position_embedding")
    sizes = []
    for tree in (resized, as_stored):
        for part in at:
            tree = tree[part]
        sizes.append(tree.shape)
    assert sizes == [(23, 16), (15, 16)]
    video = np.random.default_rng(0).normal(size=(1, 12, 48, 48, 3)).astype(np.float32)
    np.testing.assert_allclose(
        run(model, resized, video), run(model, as_stored, video), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ["tv_mvit_v1_tiny", "ptv_mvit_tiny"])
def test_tables_of_places_are_resized_at_load(name):
    model, resized = loaded_for(name, (12, 48, 64, 3))
    _, as_stored = loaded_for(name, (8, 32, 32, 3))
    params, before = resized["params"], as_stored["params"]
    for table, shape in (("temporal", (6,)), ("spatial", (12, 16))):
        table = f"{table}_position_embedding"
        width = before[table].shape[-1]
        expected = jax.image.resize(before[table], (*shape, width), "linear", antialias=False)
        np.testing.assert_allclose(params[table], expected, atol=1e-5)
    assert run(model, resized, np.ones((1, 12, 48, 64, 3), np.float32)).shape == (1, 10)


# --- what cannot be -------------------------------------------------------------------------------


def changed_block(index, **changes):
    config = json.loads(json.dumps(check.facts("tv_mvit_v2_tiny")["config"]))
    config["block_setting"][index].update(changes)
    return config


@pytest.mark.parametrize(
    "config, message",
    [
        (
            changed_block(1, output_channels=48),
            r"block_setting\[1\]: output_channels=48: .*=32 there",
        ),
        (changed_block(2, stride_kv=[1, 1, 1]), r"block_setting\[2\]: stride_kv=\[1, 1, 1\]"),
        (changed_block(0, kernel_q=[]), r"block_setting\[0\]: stride_q=\[1, 1, 1\]"),
        (changed_block(1, stride_q=[1, 3, 3]), "cannot have these blocks: stage_stride"),
        ({"block_setting": []}, "block_setting is empty"),
        (
            {"patch_embed_padding": [0, 0, 0]},
            r"patch_embed_padding=\(0, 0, 0\): the model has only",
        ),
        ({"patch_embed_stride": [2, 4, 2]}, "the patches' stride .* squares only"),
    ],
)
def test_what_torchvisions_model_cannot_be(config, message):
    resnet_tables.check_refused("torchvision/mvit_v2_s", config, message)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"embed_dim_mul": [[1, 1.5]]}, r"embed_dim_mul=\(\(1, 1.5\),\).*doubles heads and width"),
        ({"atten_head_mul": None}, "atten_head_mul=None"),
        (
            {"pool_q_stride_size": [[1, 1, 2, 2], [3, 2, 2, 2], [14, 1, 2, 2]]},
            "the model has one stride for all",
        ),
        ({"pool_kv_stride_adaptive": None}, "must be given"),
        ({"pool_kv_stride_size": [[0, 1, 8, 8]]}, "pool_kv_stride_size="),
        ({"pooling_mode": "max"}, "pooling_mode='max': the model has only pooling_mode='conv'"),
        ({"use_2d_patch": True}, "use_2d_patch=True"),
        ({"pool_first": True}, "pool_first=True"),
        ({"residual_pool": True}, "residual_pool=True: the model has only residual_pool=False"),
        ({"separate_qkv": False}, "separate_qkv=False"),
        ({"conv_patch_embed_padding": [0, 3, 3]}, "conv_patch_embed_padding="),
        ({"num_heads": 5}, "cannot have these blocks: width 96 is not a multiple"),
    ],
)
def test_what_pytorchvideos_model_cannot_be(config, message):
    resnet_tables.check_refused("pytorchvideo/mvit_base_16x4", config, message)


def test_rectangles_are_refused():
    with pytest.raises(ConversionError, match="spatial_size .* squares only"):
        table("torchvision/mvit_v1_b").clip({"spatial_size": [224, 256]})


def test_other_forms_of_pytorchvideo():
    config = {
        **check.facts("ptv_mvit_tiny")["config"],
        "cls_embed_on": False,
        "sep_pos_embed": False,
        "qkv_bias": False,
        "input_channels": 2,
    }
    found = table("pytorchvideo/mvit_base_16x4")
    arguments, clip = found.arguments(config), found.clip(config)
    assert arguments["positions"] == "joint" and not arguments["class_token"]
    assert found.arguments(found.config(arguments, clip)) == arguments
    model = jaxvid.create_model("mvit", **arguments)
    shapes = model_tree.variable_shapes(model, clip)
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    state = saving.to_state_dict(model, variables, arch="pytorchvideo/mvit_base_16x4", clip=clip)
    assert state["cls_positional_encoding.pos_embed"].shape == (1, 256, 32)
    assert "blocks.0.attn.q.bias" not in state


@pytest.mark.parametrize(
    "arch, message",
    [
        ("pytorchvideo/mvit_base_16x4", "cannot express this model:.*residual_pooling: True here"),
        (
            "torchvision/mvit_v2_s",
            "cannot express this model:.*class_token: False here, True there",
        ),
    ],
)
def test_what_a_reference_cannot_express_is_not_written(arch, message):
    model = jaxvid.create_model("mvit", variant="test", num_classes=3)
    resnet_tables.check_inexpressible(model, arch, f"(?s){message}")
