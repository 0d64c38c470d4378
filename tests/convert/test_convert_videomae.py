"""The two VideoMAE tables: configs both ways, every published size, both forms of the biases."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source, videomae, videomae_pretrain, writing
from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, ConversionError

MANIFESTS = sorted((Path(__file__).parents[1] / "goldens" / "manifests").glob("*videomae*.gz"))
CLIP = (4, 16, 16, 3)
WIDTHS = {"small": 384, "base": 768, "large": 1024, "huge": 1280}
V2 = "videomaev2/finetune"


def manifest(path):
    listing = json.loads(gzip.decompress(path.read_bytes()))
    state = {k: jax.ShapeDtypeStruct(tuple(s), np.float32) for k, s in listing["state_dict"]}
    return listing, state


def arch_and_config(listing):
    name, config = listing["name"], dict(listing["config"])
    if name.startswith("hf_"):
        return ("hf/videomae_pretrain" if "pretraining" in name else "hf/videomae"), config
    if "pretrain" in name:
        return "videomae/pretrain", config
    return "videomae/finetune", {"model": name.removeprefix("orig_videomae_"), **config}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.split(".")[0])
def test_published_sizes_load_with_every_key_used_and_every_leaf_filled(path):
    listing, state = manifest(path)
    arch, config = arch_and_config(listing)
    checkpoint = reading.from_state(state, arch, config)
    model = lookup.module("model", checkpoint.model).MODULE(**checkpoint.arguments)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))
    filled, report = apply.load(checkpoint.state, shapes, checkpoint.entries)
    assert filled.keys() == shapes.keys() and report.used.keys() == state.keys()
    assert not report.waived and not report.fresh
    assert sum(int(np.prod(x.shape)) for x in filled.values()) == listing["param_count"]
    # And back, to the same keys and shapes.
    written = writing.to_state(checkpoint.model, checkpoint.arguments, filled, arch, CLIP)
    assert {k: x.shape for k, x in written.state.items()} == {k: x.shape for k, x in state.items()}


def test_there_are_manifests():
    assert len(MANIFESTS) == 9


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.split(".")[0])
def test_the_config_of_a_published_size_survives_the_way_there_and_back(path):
    arch, config = arch_and_config(manifest(path)[0])
    found = source.find(arch).source
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (16, 224, 224, 3)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip


@pytest.mark.parametrize(
    "path", [p for p in MANIFESTS if p.name.startswith("orig")], ids=lambda p: p.name.split(".")[0]
)
def test_original_files_need_no_config(path):
    listing, state = manifest(path)
    arch, config = arch_and_config(listing)
    found = source.find(arch).source
    guess = found.guess({k: x.shape for k, x in state.items()}, {})
    assert found.arguments(guess) == found.arguments(config)
    assert found.clip(guess) == found.clip(config)


def test_every_variant_is_one_the_original_repository_names():
    for name, width in WIDTHS.items():
        variant = lookup.module("model", "videomae").VARIANTS[name[0].upper()]
        arguments = source.find("videomae/finetune").source.arguments(
            {"model": f"vit_{name}_patch16_224"}
        )
        assert variant["width"] == width
        assert {n: arguments[n] for n in variant} == variant
        variant = lookup.module("model", "videomae_pretrain").VARIANTS[name[0].upper()]
        config = {"model": f"pretrain_videomae_{name}_patch16_224"}
        config["decoder_depth"] = variant["decoder_depth"]  # an argument of the script
        arguments = source.find("videomae/pretrain").source.arguments(config)
        assert {n: arguments[n] for n in variant} == variant


def test_videomae_v2s_giant_by_name_and_by_shapes():
    found = source.find(V2).source
    arguments = found.arguments({"model": "vit_giant_patch14_224", "num_classes": 710})
    variant = lookup.module("model", "videomae").VARIANTS["g"]
    assert {n: arguments[n] for n in variant} == variant
    model = lookup.module("model", "videomae").MODULE(**arguments)
    clip = found.clip({"model": "vit_giant_patch14_224"})
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, clip))
    written = writing.to_state("videomae", arguments, shapes, V2, clip)
    state = {key: x.shape for key, x in written.state.items()}
    assert state["patch_embed.proj.weight"] == (1408, 3, 2, 14, 14)
    assert state["blocks.39.mlp.fc1.weight"] == (6144, 1408)
    assert found.arguments(found.guess(state, {})) == arguments
    checkpoint = reading.from_state(written.state, "videomae")  # the plain name
    assert checkpoint.arguments == arguments and checkpoint.clip == (16, 224, 224, 3)


def test_cosine_attention_is_seen_in_the_keys_and_hugging_face_has_none():
    model = tiny(cosine_attention=True)
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=V2, clip=CLIP)
    assert state["blocks.1.attn.scale"].shape == (2, 1, 1)
    told = {"num_heads": 2}
    guess = source.find(V2).source.guess({k: x.shape for k, x in state.items()}, told)
    assert guess["cos_attn"] is True
    with pytest.raises(ConversionError, match="cosine_attention: True here, False there"):
        saving.to_state_dict(model, variables, arch="hf/videomae", clip=CLIP)
    del state["blocks.1.attn.scale"]
    config = source.find(V2).source.config(model_tree.arguments_of(model), CLIP)
    with pytest.raises(ConversionError, match=r"block_1/attention/logit_scale .*attn\.scale"):
        pretrained.from_state_dict(state, arch=V2, config=config)


def test_the_epsilons_are_those_of_the_reference():
    hf = source.find("hf/videomae").source.arguments({})
    assert (hf["norm_eps"], hf["fc_norm_eps"]) == (1e-12, 1e-5)
    hf = source.find("hf/videomae_pretrain").source.arguments({})
    assert (hf["norm_eps"], hf["decoder_norm_eps"]) == (1e-12, 1e-5)
    for arch in ("videomae/finetune", "videomae/pretrain"):
        original = source.find(arch).source
        for config in ({}, {"norm_layer": "LayerNorm(eps=1e-6)"}):
            arguments = original.arguments(config)
            assert {v for n, v in arguments.items() if n.endswith("_eps")} == {1e-6}
        arguments = original.arguments({"norm_layer": "LayerNorm(eps=1e-5)"})
        assert arguments["norm_eps"] == 1e-5


@pytest.mark.parametrize(
    ("arch", "config", "message"),
    [
        ("hf/videomae", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        (
            "hf/videomae",
            {"patch_size": [16, 8]},
            r"patch_size \[16, 8\]: the model has squares only",
        ),
        ("videomae/pretrain", {"cos_attn": True}, "cos_attn=True"),
        ("videomae/finetune", {"use_learnable_pos_emb": True}, "fixed sin-cos positions"),
        ("videomae/finetune", {"act_layer": "ReLU"}, "act_layer='ReLU'"),
        ("videomae/finetune", {"norm_layer": "BatchNorm"}, "expected 'LayerNorm"),
        ("videomae/pretrain", {"decoder_num_classes": 768}, "decoder_num_classes 768"),
    ],
)
def test_what_the_model_cannot_be_is_refused(arch, config, message):
    with pytest.raises(ConversionError, match=message):
        source.find(arch).source.arguments(config)


def test_a_width_nobody_published_needs_its_number_of_heads():
    shapes = {"patch_embed.proj.weight": (100, 3, 2, 16, 16)}
    with pytest.raises(ConfigError, match=r"width 100 .*config=\{'num_heads'"):
        videomae.guess_blocks(shapes, {}, "")


def test_something_something_is_sampled_uniformly():
    for arch in ("hf/videomae", "videomae/finetune"):
        found = source.find(arch).source
        key = "num_labels" if arch.startswith("hf") else "num_classes"
        assert found.preprocessing({key: 400})["sampling"] == "dense"
        assert found.preprocessing({key: 400})["stride_frames"] == 4
        assert found.preprocessing({key: 174})["sampling"] == "uniform"


# --- weights, there and back ------------------------------------------------------------------------


def tiny(name="videomae", **overrides):
    classes = {"num_classes": 5} if name == "videomae" else {}
    return pretrained.create_model(name, variant="test", **classes, **overrides)


def random_variables(model, seed=0):
    """Random leaves; layer norms and gammas too, so that nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(seed)
    shapes = model_tree.variable_shapes(model, CLIP)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


FORMS = [
    ("hf/videomae", "videomae", {}),
    ("hf/videomae", "videomae", {"pool": "token"}),
    ("hf/videomae", "videomae", {"qkv_bias": "none"}),
    ("videomae/finetune", "videomae", {}),
    ("videomae/finetune", "videomae", {"pool": "token", "layer_scale": 0.1}),
    ("videomaev2/finetune", "videomae", {"qkv_bias": "none"}),
    ("videomaev2/finetune", "videomae", {"cosine_attention": True}),
    ("hf/videomae_pretrain", "videomae_pretrain", {}),
    ("hf/videomae_pretrain", "videomae_pretrain", {"encoder_norm": False}),
    ("videomae/pretrain", "videomae_pretrain", {"layer_scale": 0.1}),
]


@pytest.mark.parametrize(("arch", "name", "overrides"), FORMS)
def test_weights_survive_the_way_there_and_back(arch, name, overrides):
    model = tiny(name, **overrides)
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    config = source.find(arch).source.config(model_tree.arguments_of(model), CLIP)
    again, back, info = pretrained.from_state_dict(state, arch=arch, config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and info["waived"] == {}
    ours, theirs = model_tree.arguments_of(model), model_tree.arguments_of(again)
    differing = {n for n in ours if ours[n] != theirs[n]}
    assert differing <= {"fc_norm_eps", "decoder_norm_eps"}


@pytest.mark.parametrize("name", ["videomae", "videomae_pretrain"])
def test_both_forms_of_the_biases_load(name):
    arch = {"videomae": "hf/videomae", "videomae_pretrain": "hf/videomae_pretrain"}[name]
    model = tiny(name)
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    config = source.find(arch).source.config(model_tree.arguments_of(model), CLIP)
    assert any(key.endswith("q_bias") for key in state)  # the published form is written
    newer = {}
    for key, value in state.items():
        newer[key.replace("q_bias", "query.bias").replace("v_bias", "value.bias")] = value
        if key.endswith("q_bias"):
            newer[key.replace("q_bias", "key.bias")] = np.full_like(value, 3.0)
    _, back, info = pretrained.from_state_dict(newer, arch=arch, config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert set(info["waived"].values()) == {videomae.KEY_BIAS}
    both = {**newer, **state}
    with pytest.raises(ConversionError, match="q_bias and also"):
        pretrained.from_state_dict(both, arch=arch, config=config)
    neither = {k: v for k, v in state.items() if not k.endswith("_bias")}
    with pytest.raises(ConversionError, match=r"query/bias .* <- .*q_bias or .*query.bias"):
        pretrained.from_state_dict(neither, arch=arch, config=config)


def test_a_fused_projection_is_query_key_value_in_this_order():
    model = tiny()
    state = saving.to_state_dict(
        model, random_variables(model), arch="videomae/finetune", clip=CLIP
    )
    fused = state["blocks.0.attn.qkv.weight"]
    separate = saving.to_state_dict(model, random_variables(model), arch="hf/videomae", clip=CLIP)
    layer = "videomae.encoder.layer.0.attention.attention"
    parts = [separate[f"{layer}.{name}.weight"] for name in ("query", "key", "value")]
    np.testing.assert_array_equal(fused, np.concatenate(parts))


def test_layer_scale_is_folded_for_hugging_face():
    model = tiny(layer_scale=0.1)
    variables = random_variables(model)
    video = np.random.default_rng(1).normal(size=(2, *CLIP)).astype(np.float32)
    expected = model.apply(variables, {"video": video}, train=False)["logits"]
    state = saving.to_state_dict(model, variables, arch="hf/videomae", clip=CLIP)
    config = source.find("hf/videomae").source.config(model_tree.arguments_of(model), CLIP)
    again, back, _ = pretrained.from_state_dict(state, arch="hf/videomae", config=config)
    assert again.layer_scale is None
    got = again.apply(back, {"video": video}, train=False)["logits"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_key_biases_are_left_out_for_hugging_face_without_effect():
    model = tiny(qkv_bias="all")
    variables = random_variables(model)
    video = np.random.default_rng(1).normal(size=(2, *CLIP)).astype(np.float32)
    expected = model.apply(variables, {"video": video}, train=False)["logits"]
    state = saving.to_state_dict(model, variables, arch="hf/videomae", clip=CLIP)
    assert not any("key.bias" in key for key in state)
    config = source.find("hf/videomae").source.config(model_tree.arguments_of(model), CLIP)
    again, back, _ = pretrained.from_state_dict(state, arch="hf/videomae", config=config)
    got = again.apply(back, {"video": video}, train=False)["logits"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_prefixes_of_wrappers_are_taken_off():
    model = tiny()
    state = saving.to_state_dict(
        model, random_variables(model), arch="videomae/finetune", clip=CLIP
    )
    config = source.find("videomae/finetune").source.config(model_tree.arguments_of(model), CLIP)
    for prefix in ("module.", "backbone.", "module.backbone."):
        wrapped = {(k if k.startswith("head.") else prefix + k): v for k, v in state.items()}
        pretrained.from_state_dict(wrapped, arch="videomae/finetune", config=config)
    clash = {**state, "module.head.bias": state["head.bias"]}
    with pytest.raises(ConversionError, match="two keys are 'head.bias'"):
        pretrained.from_state_dict(clash, arch="videomae/finetune", config=config)


@pytest.mark.parametrize("arch", ["hf/videomae_pretrain", "videomae/pretrain"])
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_a_pretraining_checkpoint_starts_a_classifier(arch, pool):
    model = tiny("videomae_pretrain")
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    config = source.find(arch).source.config(model_tree.arguments_of(model), CLIP)
    classifier, back, info = pretrained.from_state_dict(
        state, arch=arch, config=config, num_classes=7, pool=pool
    )
    assert model_tree.model_name(classifier) == "videomae" and classifier.num_classes == 7
    encoder = dict(variables["params"]["encoder"])
    if pool == "mean":
        del encoder["norm"]
    jax.tree.map(np.testing.assert_array_equal, back["params"]["encoder"], encoder)
    norm = ["fc_norm/bias", "fc_norm/scale"] if pool == "mean" else []
    assert info["fresh"] == [*norm, "head/bias", "head/kernel"]
    assert "mask_token" in info["waived"] and info["class_names"] is None
    assert classifier.fc_norm_eps == (1e-5 if arch.startswith("hf") else 1e-6)


def test_the_masks_of_the_pretraining_table_fit_its_clips():
    arguments = {"patch_size": 8, "tubelet_size": 2}
    inputs = videomae_pretrain.example_inputs(arguments, (4, 32, 16, 3))
    assert inputs["tube_mask"].shape == (1, 2 * 4 * 2) and inputs["video"].shape == (
        1,
        4,
        32,
        16,
        3,
    )
