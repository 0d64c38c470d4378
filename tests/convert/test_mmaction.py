"""MMAction2's recognisers: its own outputs, published shapes without a config, configs both ways."""

import sys
from pathlib import Path

import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import apply, source, writing
from jaxvid.core.errors import ConfigError, ConversionError

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

# golden: (arch, model)
GOLDENS = {
    "mmaction_videomae": ("mmaction/videomae", "videomae"),
    "mmaction_videomae_cls0_layerscale": ("mmaction/videomae", "videomae"),
    "mmaction_timesformer_divided_space_time": ("mmaction/timesformer", "timesformer"),
    "mmaction_timesformer_joint_space_time": ("mmaction/timesformer", "timesformer"),
    "mmaction_timesformer_space_only": ("mmaction/timesformer", "timesformer"),
    "mmaction_mvit": ("mmaction/mvit", "mvit"),
    "mmaction_mvit_mlp": ("mmaction/mvit", "mvit"),
    "mmaction_slowonly": ("mmaction/slowonly", "slow"),
    "mmaction_slowfast": ("mmaction/slowfast", "slowfast"),
    "mmaction_tsn": ("mmaction/tsn", "resnet"),
    "mmaction_tsn_r50": ("mmaction/tsn", "resnet"),
}
SLOW = {"mmaction_mvit_mlp", "mmaction_tsn_r50", "mmaction_timesformer_joint_space_time"}
SLOW |= {"mvit-base-p244", "mvit-large-p244", "timesformer_jointST", "slowfast_r50_8x8"}
WITHOUT_NORMS = {"fusion_norm": False, "slow_spread": False, "head_pools": None}
TABLES = {"image_size": 224, "num_frames": 8}
# What MMAction2 publishes: arch, our model and its fields, clip, parameters in millions.
PUBLISHED = {
    "vit-base-p16_videomae": ("mmaction/videomae", "videomae", {"variant": "B"}, (16, 224), 87),
    "vit-small-p16_videomaev2": ("mmaction/videomae", "videomae", {"variant": "S"}, (16, 224), 22),
    "timesformer_divST": ("mmaction/timesformer", "timesformer", TABLES, (8, 224), 122),
    "timesformer_jointST": (
        *("mmaction/timesformer", "timesformer"),
        {"attention_type": "joint_space_time", **TABLES},
        *((8, 224), 86.1),
    ),
    "timesformer_spaceOnly": (
        *("mmaction/timesformer", "timesformer"),
        {"attention_type": "space_only", "image_size": 224},
        *((8, 224), 86.1),
    ),
    "mvit-small-p244": ("mmaction/mvit", "mvit", {"variant": "v2-S"}, (16, 224), 34.5),
    "mvit-base-p244": ("mmaction/mvit", "mvit", {"variant": "v2-B"}, (32, 224), 51.2),
    "mvit-large-p244": ("mmaction/mvit", "mvit", {"variant": "v2-L"}, (40, 312), 213),
    "mvit-small-p244 of MaskFeat": (
        *("mmaction/mvit", "mvit"),
        {"variant": "v2-S", "project_in_attention": False},
        *((16, 224), 36.4),
    ),
    "slowonly_r50": ("mmaction/slowonly", "slow", {"head_pool": None}, (8, 224), 32.45),
    "slowfast_r50_4x16": (
        *("mmaction/slowfast", "slowfast"),
        {**WITHOUT_NORMS, "alpha": 8, "fusion_kernel": 5},
        *((32, 224), 34.4),
    ),
    "slowfast_r50_8x8": ("mmaction/slowfast", "slowfast", WITHOUT_NORMS, (32, 224), 34.5),
    "tsn_r50": ("mmaction/tsn", "resnet", {"variant": "50"}, (8, 224), 24.33),
}


def table(arch):
    return source.find(arch).source


def long_ones_slow(names):
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names]


@pytest.mark.parametrize("name", long_ones_slow(GOLDENS))
def test_the_references_numbers(name):
    check.check_golden(name, GOLDENS[name][0])


@pytest.mark.parametrize("name", long_ones_slow(GOLDENS))
def test_weights_and_config_come_back(name):
    (arch, model_name), weights = GOLDENS[name], check.weights(name)
    config = check.facts(name)["config"]
    state = {f"module.{key}": x for key, x in weights.items()}
    if arch == "mmaction/videomae":  # which its file holds, and nobody needs
        state["module.backbone.pos_embed"] = np.zeros((1, 16, 32), np.float32)
    model, variables, info = jaxvid.from_state_dict(state, arch=model_name, config=config)
    assert info["source"]["arch"] == arch and info["fresh"] == []
    clip = table(arch).clip(config)
    back = saving.to_state_dict(model, variables, arch=arch, clip=clip)
    counters = {key for key in back if key.endswith("num_batches_tracked")}
    assert back.keys() - counters == weights.keys()
    for key, x in weights.items():
        np.testing.assert_array_equal(back[key], x, err_msg=key)
    arguments = table(arch).arguments(config)
    told = table(arch).config(arguments, clip)
    assert table(arch).arguments(told) == arguments and table(arch).clip(told) == clip
    if arch == "mmaction/slowfast":  # never flat: it has two backbones in one
        return
    flat = {**config["cls_head"], **config["backbone"]}
    if "in_channels" not in config["backbone"]:
        flat.pop("in_channels")  # the head's
    assert table(arch).arguments(flat) == arguments


@pytest.mark.parametrize("name", long_ones_slow(PUBLISHED))
def test_published_shapes_need_no_config(name):
    arch, model_name, fields, (frames, size), millions = PUBLISHED[name]
    model = jaxvid.create_model(model_name, num_classes=400, **fields)
    clip = (frames, size, size, 3)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, clip))
    parameters = [x for path, x in shapes.items() if not path.startswith("batch_stats/")]
    count = sum(int(np.prod(x.shape)) for x in parameters)
    assert count / 1e6 == pytest.approx(millions, rel=0.01)
    arguments = model_tree.arguments_of(model)
    if arch == "mmaction/videomae":
        arguments |= {"fc_norm_eps": 1e-6}
    state = writing.to_state(model_name, arguments, shapes, arch, clip).state
    shapes = {key: tuple(x.shape) for key, x in state.items()}
    if arch == "mmaction/videomae":
        shapes["backbone.pos_embed"] = (1, 1568, arguments["width"])
    guess = table(arch).guess(shapes, {})
    assert table(arch).clip(guess) == clip
    found = table(arch).arguments(guess)
    assert found == {field: arguments[field] for field in found}


def test_a_flow_network_of_two_channels():
    shapes = {"backbone.conv1.conv.weight": (64, 2, 1, 7, 7), "cls_head.fc_cls.weight": (400, 2048)}
    for stage, (count, frames) in enumerate(((3, 1), (4, 1), (6, 3), (3, 3)), 1):
        for i in range(count):
            shapes[f"backbone.layer{stage}.{i}.conv1.conv.weight"] = (64, 64, frames, 1, 1)
    found = table("mmaction/slowonly")
    assert found.clip(found.guess(shapes, {}))[3] == 2


@pytest.mark.parametrize(
    "arch, mean",
    [
        ("mmaction/videomae", 0.485),
        ("mmaction/timesformer", 0.5),
        ("mmaction/mvit", 0.45),
        ("mmaction/slowonly", 0.485),
        ("mmaction/slowfast", 0.485),
        ("mmaction/tsn", 0.485),
    ],
)
def test_pixels(arch, mean):
    found = table(arch)
    assert found.preprocessing({})["mean"][0] == mean
    config = {
        "backbone": {},
        "cls_head": {"num_classes": 174},
        "data_preprocessor": {"mean": [51.0, 102.0, 127.5], "std": [25.5, 51.0, 255.0]},
    }
    told = found.preprocessing(config)
    assert told["mean"] == (0.2, 0.4, 0.5) and told["std"] == (0.1, 0.2, 1.0)
    if arch == "mmaction/mvit":
        assert told["sampling"] == "uniform" and "stride_frames" not in told


@pytest.mark.parametrize("name", ["mmaction_videomae", "mmaction_timesformer_space_only"])
def test_weights_do_not_tell_heads(name):
    with pytest.raises(ConfigError, match="width 32 is none of the published ones"):
        jaxvid.from_state_dict(check.weights(name), arch=GOLDENS[name][0])


def test_clips_of_other_lengths_need_a_config():
    shapes = {
        "backbone.patch_embed.projection.weight": (768, 3, 2, 16, 16),
        "backbone.pos_embed": (1, 784, 768),  # of 8 frames
    }
    with pytest.raises(ConversionError, match="784 places, .* 8 times .*num_frames and img_size"):
        table("mmaction/videomae").guess(shapes, {})


def test_unpublished_strides_need_a_config():
    with pytest.raises(ConversionError, match="weights do not tell the strides.*config="):
        jaxvid.from_state_dict(check.weights("mmaction_mvit"), arch="mmaction/mvit")


@pytest.mark.parametrize(
    "arch, message",
    [
        (
            "mmaction/slowonly",
            r"stages of \(1, 0, 0, 0\) blocks; .*bottlenecks has only \(3, 4, 6, 3\)",
        ),
        ("mmaction/tsn", r"stages of \(1, 0, 0, 0\) blocks: .*ResNet has depth 18, 34, 50, 101"),
    ],
)
def test_other_depths(arch, message):
    keys = ("backbone.conv1.conv.weight", "backbone.layer1.0.conv1.conv.weight")
    with pytest.raises(ConversionError, match=message):
        table(arch).guess(dict.fromkeys(keys, (64, 64, 1, 1, 1)), {})


@pytest.mark.parametrize(
    "arch, part, message",
    [
        ("mmaction/videomae", {"qk_scale": 0.1}, "qk_scale 0.1: the model has only None"),
        ("mmaction/videomae", {"use_learnable_pos_emb": True}, "use_learnable_pos_emb True"),
        ("mmaction/videomae", {"norm_cfg": {"type": "BN"}}, "norm_cfg .*type 'LN' only"),
        ("mmaction/timesformer", {"attention_type": "all"}, "attention_type 'all': the model has"),
        ("mmaction/timesformer", {"transformer_layers": {}}, "transformer_layers"),
        ("mmaction/timesformer", {"norm_cfg": {"type": "LN"}}, "norm_cfg has eps 1e-05"),
        ("mmaction/mvit", {"arch": "huge"}, "arch 'huge': MMAction2 knows tiny, small"),
        ("mmaction/mvit", {"arch": {"num_layers": 3}}, "has no embed_dims, num_heads"),
        (
            "mmaction/mvit",
            {
                "arch": {
                    "embed_dims": 16,
                    "num_layers": 4,
                    "num_heads": 1,
                    "downscale_indices": [1],
                }
            },
            "doubles its width where it pools, three times",
        ),
        ("mmaction/mvit", {"use_abs_pos_embed": True}, "use_abs_pos_embed True"),
        ("mmaction/mvit", {"adaptive_kv_stride": [2, 8, 8]}, "does not pool keys over time"),
        ("mmaction/mvit", {"patch_cfg": {"padding": [0, 0, 0]}}, "padding="),
        ("mmaction/slowonly", {"depth": 18}, "depth 18: the model has only 50 or 101 or 152"),
        ("mmaction/slowonly", {"non_local": [0, 1, 0, 0]}, "non_local"),
        ("mmaction/slowonly", {"inflate": [0, [1, 0], 1, 1]}, "expected a flag for each stage"),
        ("mmaction/tsn", {"depth": 152}, "depth 152: the model has only 50 or 18"),
        ("mmaction/tsn", {"style": "caffe"}, "style 'caffe'"),
    ],
)
def test_what_the_models_cannot_be(arch, part, message):
    resnet_tables.check_refused(arch, {"backbone": part}, message)


def slowfast(**backbone):
    told = check.facts("mmaction_slowfast")["config"]
    pathways = {
        name: {**told["backbone"][name], **backbone.pop(name, {})}
        for name in ("slow_pathway", "fast_pathway")
    }
    return {"backbone": {**told["backbone"], **pathways, **backbone}, "cls_head": told["cls_head"]}


@pytest.mark.parametrize(
    "config, message",
    [
        ({"backbone": {"slow_pathway": {}}}, "no fast_pathway: expected MMAction2's model dict"),
        (slowfast(resample_rate=8), "resample_rate=8: the model has only resample_rate=4"),
        (slowfast(slow_pathway={"lateral_norm": True}), "lateral_norm True"),
        (slowfast(slow_pathway={"lateral_activate": [0, 1, 1, 1]}), "lateral_activate"),
        (slowfast(fast_pathway={"base_channels": 4}), "base_channels of the fast pathway=4"),
        (slowfast(fast_pathway={"depth": 101}), "stage_sizes of the fast pathway=.*23"),
        (slowfast(fast_pathway={"lateral": True}), "lateral True"),
    ],
)
def test_what_slowfast_cannot_be(config, message):
    resnet_tables.check_refused("mmaction/slowfast", config, message)


def test_a_head_of_too_few_features():
    weights = check.weights("mmaction_slowfast")
    weights["cls_head.fc_cls.weight"] = np.zeros((10, 60), np.float32)
    with pytest.raises(ConversionError, match=r"head of shape \(10, 60\), .*more than 64"):
        jaxvid.from_state_dict(weights, arch="mmaction/slowfast", config=slowfast())


@pytest.mark.parametrize(
    "arch, model, fields, message",
    [
        ("mmaction/slowonly", "slow", {"stage_sizes": (1, 1, 1, 1)}, "stage_sizes="),
        (
            *("mmaction/slowonly", "slow"),
            {"temporal_kernels": ((1,), (1,), (5,), (3,)), "head_pool": None},
            "kernels of 1 and 3 frames",
        ),
        ("mmaction/slowfast", "slowfast", {"head_pools": None}, "fusion_norm: True here"),
        ("mmaction/tsn", "resnet", {"stage_sizes": (1, 1, 1, 1)}, "stages of .* blocks"),
        ("mmaction/mvit", "mvit", {"variant": "v1-B 16x4"}, "cannot express this model"),
    ],
)
def test_what_the_reference_cannot_express_is_not_written(arch, model, fields, message):
    model = jaxvid.create_model(model, num_classes=3, **fields)
    resnet_tables.check_inexpressible(model, arch, f"(?s){message}")
