"""PySlowFast's MViT: its YAML, its keys. torchvision's models are the same functions under other names."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import resnet_tables
import yaml

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import apply, reading, source, writing
from jaxvid.core.errors import ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "pyslowfast/mvit"
CLIP = (8, 32, 32, 3)
# torchvision's keys -> PySlowFast's.
RENAMED = {
    r"conv_proj": "patch_embed.proj",
    r"pos_encoding\.class_token": "cls_token",
    r"pos_encoding\.class_pos": "pos_embed_class",
    r"pos_encoding\.(spatial|temporal)_pos": r"pos_embed_\1",
    r"(attn\.)pool_(.)\.pool": r"\1pool_\2",
    r"(attn\.)pool_(.)\.norm_act\.0": r"\1norm_\2",
    r"(attn\.)project\.0": r"\1proj",
    r"(blocks\.\d+\.)project": r"\1proj",
    r"mlp\.0": "mlp.fc1",
    r"mlp\.3": "mlp.fc2",
    r"head\.1": "head.projection",
}
TINY = """
DATA: {NUM_FRAMES: 8, TRAIN_CROP_SIZE: 32, INPUT_CHANNEL_NUM: [3]}
MODEL: {NUM_CLASSES: 10, ARCH: mvit, MODEL_NAME: MViT, DROPOUT_RATE: 0.5}
MVIT:
  DEPTH: 3
  EMBED_DIM: 16
  PATCH_KERNEL: (3, 7, 7)
  PATCH_STRIDE: (2, 4, 4)
  PATCH_PADDING: (1, 3, 3)
  DIM_MUL: [[1, 2.0]]
  HEAD_MUL: [[1, 2.0]]
  POOL_KVQ_KERNEL: [3, 3, 3]
  POOL_KV_STRIDE_ADAPTIVE: [1, 4, 4]
  DROPPATH_RATE: 0.0
"""
V1 = """
  SEP_POS_EMBED: True
  POOL_Q_STRIDE: [[1, 1, 2, 2]]
"""
V2 = """
  USE_ABS_POS: False
  REL_POS_SPATIAL: True
  REL_POS_TEMPORAL: True
  POOL_Q_STRIDE: [[0, 1, 1, 1], [1, 1, 2, 2], [2, 1, 1, 1]]
  DIM_MUL_IN_ATT: True
  RESIDUAL_POOLING: True
"""
# The published files of version 2: frames, size, depth, where stages start, first width and heads.
PUBLISHED = {
    "v2-S": (16, 224, 16, (1, 3, 14), 96, 1),
    "v2-B": (32, 224, 24, (2, 5, 21), 96, 1),
    "v2-L": (40, 312, 48, (2, 8, 44), 144, 2),
}
# As mmaction2 counts the files that it has converted; the paper's 217.6M widen in the MLP.
PARAMETERS = {"v2-S": 34.5e6, "v2-B": 51.2e6, "v2-L": 213.4e6}


def tiny(version):
    return yaml.safe_load(TINY.rstrip() + version)


def changed(version, **mvit):
    config = tiny(version)
    return {**config, "MVIT": {**config["MVIT"], **mvit}}


def weights(name, separate=False):
    """Those of torchvision's golden under PySlowFast's keys, in its shapes."""
    made = {}
    for key, x in check.weights(name).items():
        for theirs, ours in RENAMED.items():
            key = re.sub(theirs, ours, key)
        if "pos_embed" in key or key == "cls_token":
            x = x.reshape(1, -1, x.shape[-1])
        if separate and ".qkv." in key:
            made.update(zip((key.replace("qkv", p) for p in "qkv"), np.split(x, 3), strict=True))
        else:
            made[key] = x
    return made


def published_yaml(variant):
    frames, size, depth, starts, width, heads = PUBLISHED[variant]
    multiplied = [[i, 2.0] for i in starts]
    strides = [[i, 1, *([2, 2] if i in starts else [1, 1])] for i in range(depth)]
    return {
        "DATA": {
            "NUM_FRAMES": frames,
            "TRAIN_CROP_SIZE": size,
            "INPUT_CHANNEL_NUM": [3],
            "SAMPLING_RATE": 4 if frames == 16 else 3,
        },
        "MODEL": {"NUM_CLASSES": 400},
        "MVIT": {
            **tiny(V2)["MVIT"],
            "DEPTH": depth,
            "EMBED_DIM": width,
            "NUM_HEADS": heads,
            "DIM_MUL": multiplied,
            "HEAD_MUL": multiplied,
            "POOL_Q_STRIDE": strides,
            "POOL_KV_STRIDE_ADAPTIVE": [1, 8, 8],
        },
    }


def table():
    return source.find(ARCH).source


def shapes_of(variant):
    """key -> shape of a published model"""
    model = jaxvid.create_model("mvit", variant=variant, num_classes=400)
    frames, size, *_ = PUBLISHED[variant]
    clip = (frames, size, size, 3)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, clip))
    arguments = model_tree.arguments_of(model)
    state = writing.to_state("mvit", arguments, shapes, ARCH, clip).state
    return {key: tuple(x.shape) for key, x in state.items()}


@pytest.mark.parametrize(
    "name, version, separate",
    [
        ("tv_mvit_v1_tiny", V1, False),
        pytest.param("tv_mvit_v1_tiny", V1, True, marks=pytest.mark.slow),
        ("tv_mvit_v2_tiny", V2, True),
    ],
)
def test_the_numbers_are_torchvisions(name, version, separate):
    state = weights(name, separate)
    model, variables, info = jaxvid.from_state_dict(state, arch="mvit", config=tiny(version))
    assert info["source"]["arch"] == ARCH and info["fresh"] == []
    apply_ = jax.jit(
        lambda variables, video: model.apply(variables, {"video": video}, train=False)["logits"],
        compiler_options={"xla_backend_optimization_level": 0},
    )
    np.testing.assert_allclose(
        apply_(variables, check.clip(name)),
        check.stored(name)["logits"],
        atol=check.facts(name)["checks"]["suggested_atol"],
    )


@pytest.mark.parametrize("name, version", [("tv_mvit_v1_tiny", V1), ("tv_mvit_v2_tiny", V2)])
def test_weights_and_config_come_back(name, version):
    state = weights(name)
    model, variables, info = jaxvid.from_state_dict(state, arch=ARCH, config=tiny(version))
    assert info["clip"] == list(CLIP)
    back = saving.to_state_dict(model, variables, arch=ARCH, clip=CLIP)
    assert back.keys() == state.keys()
    for key, x in state.items():
        np.testing.assert_array_equal(back[key], x, err_msg=key)
    found, arguments = table(), table().arguments(tiny(version))
    config = found.config(arguments, CLIP)
    assert found.arguments(config) == arguments and found.clip(config) == CLIP


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[pytest.mark.slow] * (v != "v2-S")) for v in PUBLISHED]
)
def test_published_models(variant):
    frames, size, *_ = PUBLISHED[variant]
    found, shapes = table(), shapes_of(variant)
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    assert count == pytest.approx(PARAMETERS[variant], rel=0.005)
    config, guess = published_yaml(variant), found.guess(shapes, {})
    model = jaxvid.create_model("mvit", variant=variant, num_classes=400)
    arguments = found.arguments(config)
    assert {n: getattr(model, n) for n in arguments} == arguments
    without = {**found.arguments(guess), "drop_path_rate": 0.0}
    assert without == arguments and found.clip(guess) == (frames, size, size, 3)
    told = found.preprocessing(guess)
    assert told["sampling"] == "dense" and told["stride_frames"] == (4 if frames == 16 else 3)
    # The largest was trained on larger frames, with ImageNet's statistics.
    large = variant == "v2-L"
    assert told["short_side"] == (356 if large else 256)
    assert told["mean"] == ((0.485, 0.456, 0.406) if large else (0.45,) * 3)


def test_models_that_widen_in_the_mlp_are_told_apart():
    """MaskFeat's."""
    model = jaxvid.create_model("mvit", num_classes=400, project_in_attention=False)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, (16, 224, 224, 3)))
    arguments = model_tree.arguments_of(model)
    state = writing.to_state("mvit", arguments, shapes, ARCH, (16, 224, 224, 3)).state
    guess = table().guess({key: tuple(x.shape) for key, x in state.items()}, {})
    assert guess["MVIT"]["DIM_MUL_IN_ATT"] is False
    assert {**table().arguments(guess), "drop_path_rate": 0.0} == table().arguments(
        table().config(arguments, (16, 224, 224, 3))
    )


def test_weights_of_something_something_see_whole_videos():
    shapes = shapes_of("v2-S")
    shapes["head.projection.weight"] = (174, 768)
    told = table().preprocessing(table().guess(shapes, {}))
    assert told["sampling"] == "uniform" and "stride_frames" not in told


def test_the_yaml_beside_the_weights_is_read():
    # As its training dumps it: with what it has made of the strides of keys.
    made = changed(V2, POOL_KV_STRIDE=[[0, 1, 4, 4], [1, 1, 2, 2], [2, 1, 2, 2]])
    made["DATA"] |= {"MEAN": [0.5] * 3, "STD": [0.25] * 3, "SAMPLING_RATE": 2}
    state = {f"module.{key}": x for key, x in weights("tv_mvit_v2_tiny").items()}
    checkpoint = reading.from_state(state, ARCH, beside={"cfg": yaml.safe_dump(made), "epoch": 3})
    assert checkpoint.arguments == table().arguments(tiny(V2)) and checkpoint.clip == CLIP
    told = checkpoint.info["preprocessing"]
    assert told["mean"] == (0.5,) * 3 and told["stride_frames"] == 2


def test_weights_alone_do_not_tell_strides():
    with pytest.raises(ConversionError, match="weights do not tell POOL_Q_STRIDE .*config="):
        jaxvid.from_state_dict(weights("tv_mvit_v2_tiny"), arch=ARCH)


def test_joint_positions_need_a_config():
    shapes = {**shapes_of("v2-S"), "pos_embed": (1, 25089, 96)}
    with pytest.raises(ConversionError, match="pos_embed, one table for all places.*config="):
        table().guess(shapes, {})


def test_other_forms():
    config = changed(V1, SEP_POS_EMBED=False, CLS_EMBED_ON=False, QKV_BIAS=False)
    found, arguments = table(), table().arguments(config)
    assert arguments["positions"] == "joint" and not arguments["class_token"]
    assert arguments["qkv_bias"] == "none"
    assert found.arguments(found.config(arguments, CLIP)) == arguments


@pytest.mark.parametrize(
    "config, message",
    [
        ({}, "no section MVIT, only nothing: expected the nested dicts of a YAML file"),
        ({"SLOWFAST": {}}, "no section MVIT, only SLOWFAST"),
        ({"MVIT": 3}, "MVIT=3: expected a section"),
        ({**tiny(V1), "MODEL": {"MODEL_NAME": "SlowFast"}}, "MODEL_NAME='SlowFast'"),
        (changed(V1, PATCH_KERNEL="(3, x)"), r"'\(3, x\)' in the config: expected numbers"),
        (changed(V1, POOL_FIRST=True), "POOL_FIRST=True: the model has only POOL_FIRST=False"),
        (changed(V1, MODE="max"), "MODE='max'"),
        (changed(V1, REV={"ENABLE": True}), "no reversible blocks"),
        (changed(V1, DIM_MUL=[[2, 2.0]]), "MVIT.DIM_MUL=.*doubles heads and width exactly"),
        (changed(V1, HEAD_MUL=[]), r"MVIT.HEAD_MUL=\(\)"),
        (
            changed(
                V1,
                POOL_Q_STRIDE=[[1, 1, 2, 2], [2, 2, 2, 2]],
                DIM_MUL=[[1, 2.0], [2, 2.0]],
                HEAD_MUL=[[1, 2.0], [2, 2.0]],
            ),
            "the model has one stride for all",
        ),
        (
            changed(V1, POOL_Q_STRIDE=[[0, 1, 1, 1], [1, 1, 2, 2]]),
            "in all of its 3 blocks, or only where they are pooled",
        ),
        (changed(V1, POOL_KV_STRIDE_ADAPTIVE=None), "must be given"),
        (changed(V1, POOL_KVQ_KERNEL=None), "must be given"),
        (changed(V1, POOL_KV_STRIDE=[[0, 1, 8, 8]]), "expected what POOL_KV_STRIDE_ADAPTIVE="),
        (changed(V1, PATCH_PADDING=[0, 3, 3]), "PATCH_PADDING="),
        (changed(V1, REL_POS_SPATIAL=True), "absolute positions or those relative"),
        (changed(V2, REL_POS_TEMPORAL=False), "absolute positions or those relative"),
    ],
)
def test_what_the_model_cannot_be(config, message):
    resnet_tables.check_refused(ARCH, config, message)


@pytest.mark.parametrize("text", ["just words", "[1, 2]", "{a: ["])
def test_a_cfg_that_is_none(text):
    with pytest.raises(ConversionError, match="cfg, beside the weights, is"):
        table().guess({}, {"cfg": text})
