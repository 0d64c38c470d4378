"""TimeSformer's tables: published checkpoints, configs both ways, transformers, all that may not fit."""

import gzip
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConfigError, ConversionError

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import check

HF, ORIGINAL = "hf/timesformer", "timesformer/timesformer"
CLIP = (4, 16, 16, 3)
TYPES = ("divided_space_time", "joint_space_time", "space_only")
PUBLISHED = [
    ("hf_timesformer-base-finetuned-k400", HF, {"num_labels": 400}),
    ("hf_timesformer-base-finetuned-k600", HF, {"num_labels": 600}),
    ("orig_timesformer_base_k400", ORIGINAL, {}),
]
PREPROCESSING = {"num_frames": 4, "size": 16, "mean": (0.45,) * 3, "std": (0.225,) * 3}
INFO = {"preprocessing": PREPROCESSING, "class_names": ["walk", "run", "fight"]}


def manifest(name):
    file = GOLDENS / "manifests" / f"{name}.json.gz"
    listing = json.loads(gzip.decompress(file.read_bytes()))
    return {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for key, shape, dtype, *_ in listing["state_dict"]
    }


@pytest.mark.parametrize("name, arch, config", PUBLISHED)
def test_published_checkpoints(name, arch, config):
    check.check_manifest(name, arch, config)
    found = source.find(arch).source
    arguments, clip = found.arguments(config), found.clip(config)
    assert clip == (8, 224, 224, 3)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    model = jaxvid.create_model("timesformer", variant="B", num_classes=arguments["num_classes"])
    tables = {"num_frames": 8, "image_size": 224}
    fields = {field: getattr(model, field) for field in arguments}
    assert {**fields, **tables} == arguments
    told = found.preprocessing(config)
    assert told["mean"] == (0.45,) * 3 and told["std"] == (0.225,) * 3
    assert told["sampling"] == "dense" and told["stride_frames"] == 32


def test_original_files_need_no_config():
    found = source.find(ORIGINAL).source
    shapes = {key: x.shape for key, x in manifest("orig_timesformer_base_k400").items()}
    assert found.arguments(found.guess(shapes, {})) == found.arguments({})
    hr = {**shapes, "model.pos_embed": (1, 785, 768), "model.time_embed": (1, 16, 768)}
    config = found.guess(hr, {})
    assert found.clip(config) == (16, 448, 448, 3)
    assert found.preprocessing(config)["stride_frames"] == 16
    joint = {k: x for k, x in shapes.items() if "temporal" not in k}
    assert found.guess(joint, {})["attention_type"] == "joint_space_time"
    del joint["model.time_embed"]
    space = found.guess(joint, {"num_frames": 5})
    assert (space["attention_type"], space["num_frames"]) == ("space_only", 5)
    odd = {**shapes, "model.patch_embed.proj.weight": (100, 3, 16, 16)}
    with pytest.raises(ConfigError, match=r"width 100 .*config=\{'num_heads'"):
        found.guess(odd, {})


def test_the_plain_name_knows_whose_keys_they_are():
    for name, arch, config in PUBLISHED:
        checkpoint = reading.from_state(manifest(name), "timesformer", config)
        assert checkpoint.info["source"]["arch"] == arch


def test_something_something_is_sampled_uniformly():
    for arch, field in ((HF, "num_labels"), (ORIGINAL, "num_classes")):
        assert source.find(arch).source.preprocessing({field: 174})["sampling"] == "uniform"


@pytest.mark.parametrize("name, arch, config", PUBLISHED[1:])
def test_a_difference_is_an_error_that_lists_all(name, arch, config):
    state = manifest(name)
    missing = next(k for k in state if "temporal" in k and k.endswith("qkv.weight"))
    misshaped = next(k for k in state if ".5." in k and ("fc1.weight" in k or "intermediate" in k))
    del state[missing]
    state["extra.weight"] = jax.ShapeDtypeStruct((3,), np.float32)
    state[misshaped] = jax.ShapeDtypeStruct((3072, 767), np.float32)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch=arch, config=config)
    said = str(error.value)
    # The three leaves that the fused projection makes are missing.
    assert "3 missing, 1 left over, 1 of another shape" in said and "nothing was loaded" in said
    assert f"<- {missing}" in said and "extra.weight (3,)" in said and misshaped in said


@pytest.mark.parametrize(
    "arch, config, message",
    [
        (HF, {"hidden_act": "relu"}, "hidden_act 'relu'"),
        (HF, {"attention_type": "axial"}, "attention_type 'axial': the model knows divided_sp"),
        (HF, {"patch_size": [16, 8]}, r"patch_size \[16, 8\]: the model has squares only"),
        (ORIGINAL, {"qk_scale": 2.0}, "qk_scale=2.0"),
        (ORIGINAL, {"attention_type": "axial"}, "attention_type 'axial'"),
        (ORIGINAL, {"norm_layer": "BatchNorm"}, "expected 'LayerNorm"),
    ],
)
def test_what_the_model_cannot_be_is_refused(arch, config, message):
    with pytest.raises(ConversionError, match=message):
        source.find(arch).source.arguments(config)


# --- weights, there and back ------------------------------------------------------------------------


def tiny(**fields):
    fields = {"depth": 2, "width": 32, "num_heads": 2, **fields}
    return jaxvid.create_model("timesformer", variant="test", num_classes=3, **fields)


def random_variables(model, clip=CLIP):
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, clip)
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def config_of(arch, model, variables, clip=CLIP):
    flat = {"encoder/position_embedding": variables["params"]["encoder"]["position_embedding"]}
    found = source.find(arch).source
    _, arguments = found.prepare_save(flat, model_tree.arguments_of(model))
    return found.config(arguments, clip)


@pytest.mark.parametrize("arch", [HF, ORIGINAL])
@pytest.mark.parametrize("attention", TYPES)
def test_weights_survive_the_way_there_and_back(arch, attention):
    mean = {"frame_mean": "logits"} if arch == HF else {}
    for fields in ({}, {"qkv_bias": "none", "patch_size": 4, "norm_eps": 1e-5}):
        model = tiny(attention_type=attention, **mean, **fields)
        variables = random_variables(model)
        state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
        wrapped = {f"module.model.{key}": value for key, value in state.items()}
        config = config_of(arch, model, variables)
        again, back, info = jaxvid.from_state_dict(wrapped, arch=arch, config=config)
        jax.tree.map(np.testing.assert_array_equal, back, variables)
        assert info["fresh"] == [] and info["waived"] == {}
        ours, theirs = model_tree.arguments_of(model), model_tree.arguments_of(again)
        differing = {n for n in ours if ours[n] != theirs[n]}
        started = {"position_init_std", "time_init_std"}
        unused = set() if attention == "space_only" else {"frame_mean"}
        assert differing <= started | unused | {"num_frames", "image_size"}


def test_tables_of_other_sizes_are_resized_when_loaded():
    model = tiny()
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=HF, clip=CLIP)
    config = config_of(HF, model, variables)
    other, back, _ = jaxvid.from_state_dict(
        state, arch=HF, config=config, num_frames=6, image_size=32
    )
    before, after = variables["params"]["encoder"], back["params"]["encoder"]
    times, places = before["time_position_embedding"], before["position_embedding"]
    np.testing.assert_array_equal(after["time_position_embedding"], times[[0, 0, 1, 2, 2, 3]])
    repeated = places.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(after["position_embedding"], repeated)
    same = "class_position_embedding"
    np.testing.assert_array_equal(after[same], before[same])
    # What is loaded for the larger clip is what the smaller tables give for it.
    video = np.random.default_rng(1).normal(size=(1, 6, 32, 32, 3)).astype(np.float32)
    expected = model.apply(variables, {"video": video}, train=False)["logits"]
    got = other.apply(back, {"video": video}, train=False)["logits"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # And into variables of one's own, as training starts from a checkpoint.
    started = tiny()
    shapes = model_tree.variable_shapes(started, (6, 32, 32, 3))
    checkpoint = reading.from_state(state, HF, config)
    merged, report = pretrained.load_into(started, shapes, checkpoint)
    assert not report.fresh
    jax.tree.map(np.testing.assert_array_equal, merged["params"]["encoder"], dict(after))


def test_tables_that_are_none_are_named():
    model = tiny()
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=HF, clip=CLIP)
    config = config_of(HF, model, variables)
    key = "timesformer.embeddings.position_embeddings"
    for wrong, words in (
        (np.zeros((1, 7, 32)), "7 places are not one and a square of others"),
        (np.zeros((5, 32)), r"has shape \(1, 1 \+ s·s, D\), not \(5, 32\)"),
    ):
        with pytest.raises(ConversionError, match=words):
            jaxvid.from_state_dict({**state, key: wrong}, arch=HF, config=config)
    wrong = {**state, "timesformer.embeddings.time_embeddings": np.zeros((4, 32))}
    with pytest.raises(ConversionError, match=r"shape \(1, t, D\), not \(4, 32\)"):
        jaxvid.from_state_dict(wrong, arch=HF, config=config)


def test_what_the_references_cannot_be_is_not_written():
    model = tiny()
    wide = random_variables(model, (4, 16, 24, 3))
    for arch in (HF, ORIGINAL):
        with pytest.raises(ConversionError, match="2 × 3 patches: the references have squares"):
            saving.to_state_dict(model, wide, arch=arch, clip=CLIP)
    space = tiny(attention_type="space_only")
    with pytest.raises(ConversionError, match="frame_mean: 'tokens' here, 'logits' there"):
        saving.to_state_dict(space, random_variables(space), arch=HF, clip=CLIP)


def test_an_export_says_the_size_of_its_tables(tmp_path):
    model = tiny()
    variables = random_variables(model, (6, 16, 16, 3))
    assert saving.save_pretrained(tmp_path / "export", model, variables, INFO) == HF
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert (config["num_frames"], config["image_size"]) == (6, 16)
    assert config["model_type"] == "timesformer" and config["id2label"]["2"] == "fight"
    again, back, info = jaxvid.from_pretrained(tmp_path / "export")
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert again.num_frames == 6 and info["class_names"] == INFO["class_names"]
    model, _, info = jaxvid.from_pretrained(tmp_path / "export", num_classes=7)
    assert info["fresh"] == ["head/bias", "head/kernel"] and model.num_classes == 7


# --- starts -----------------------------------------------------------------------------------------


def image_model(**fields):
    """(a ViT's variables, its weights under timm's keys, the config)"""
    fields = {"width": 32, "num_heads": 2, **fields}
    model = jaxvid.create_model("vit", variant="test", num_classes=9, **fields)
    shapes = model_tree.variable_shapes(model, (1, 16, 16, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch="timm/vit", clip=(1, 16, 16, 3))
    arguments = model_tree.arguments_of(model)
    return variables, state, source.find("timm/vit").source.config(arguments, (1, 16, 16, 3))


@pytest.mark.parametrize("attention", TYPES)
def test_an_image_model_starts_it(attention):
    theirs, state, config = image_model()
    model, variables, info = jaxvid.from_state_dict(
        state, arch="timesformer", config=config, num_classes=7, attention_type=attention
    )
    assert model_tree.model_name(model) == "timesformer" and model.num_classes == 7
    assert info["clip"] == [8, 16, 16, 3] and info["preprocessing"]["num_frames"] == 8
    ours, image = variables["params"]["encoder"], theirs["params"]["encoder"]
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, ours["patch_embed"], theirs["params"]["patch_embed"])
    for name in ("class_token", "class_position_embedding", "position_embedding", "norm"):
        jax.tree.map(equal, ours[name], image[name])
    for i in range(2):
        block, start = dict(ours[f"block_{i}"]), image[f"block_{i}"]
        if attention == "divided_space_time":
            jax.tree.map(equal, block.pop("temporal_attention"), start["attention"])
            jax.tree.map(equal, block.pop("temporal_norm"), start["norm1"])
            assert np.any(block.pop("temporal_fc")["kernel"]) == (i == 0)
        jax.tree.map(equal, block, dict(start))
    fresh = {path.split("/")[-2] for path in info["fresh"]}
    times = set() if attention == "space_only" else {"encoder"}
    between = {"temporal_fc"} if attention == "divided_space_time" else set()
    assert fresh == {"head"} | times | between
    assert set(info["waived"]) == {"head/kernel", "head/bias"}


def test_an_image_model_for_larger_frames_and_one_without_a_token():
    theirs, state, config = image_model()
    checkpoint = reading.from_state(state, "timm/vit", config)
    model = tiny()
    shapes = model_tree.variable_shapes(model, (4, 32, 32, 3))
    merged, _ = pretrained.load_into(model, shapes, checkpoint)
    table = theirs["params"]["encoder"]["position_embedding"].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(merged["params"]["encoder"]["position_embedding"], table)
    transfer = source.transfers("timesformer")["vit"]
    with pytest.raises(ConversionError, match="pool='mean': TimeSformer has a class token"):
        transfer.arguments({"pool": "mean", "width": 32})


def test_ones_own_weights_start_it_for_other_clips():
    model = tiny()
    weights = random_variables(model)
    shapes = model_tree.variable_shapes(model, (8, 32, 32, 3))
    merged, report = pretrained.merge_weights(shapes, weights, what="runs/a, step 3")
    assert not report.fresh
    ours, theirs = merged["params"]["encoder"], weights["params"]["encoder"]
    times = theirs["time_position_embedding"].repeat(2, 0)
    np.testing.assert_array_equal(ours["time_position_embedding"], times)
    table = theirs["position_embedding"].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(ours["position_embedding"], table)
    np.testing.assert_array_equal(
        ours["block_1"]["temporal_fc"]["kernel"], theirs["block_1"]["temporal_fc"]["kernel"]
    )
    with pytest.raises(ConversionError, match="runs/b, step 1 does not fit"):
        pretrained.merge_weights(shapes, random_variables(tiny(depth=1)), what="runs/b, step 1")


# --- transformers -----------------------------------------------------------------------------------


def video(clip=CLIP):
    return np.random.default_rng(9).normal(size=(2, *clip)).astype(np.float32)


def theirs_on(model, clip=CLIP):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(video(clip)).permute(0, 1, 4, 2, 3)).logits.numpy()


@pytest.mark.torch
@pytest.mark.parametrize("attention", TYPES)
def test_transformers_reads_an_export_with_the_same_logits(tmp_path, attention):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = tiny(attention_type=attention, frame_mean="logits", norm_eps=1e-5)
    variables = random_variables(model)
    saving.save_pretrained(tmp_path / "export", model, variables, INFO)
    load = transformers.AutoModelForVideoClassification.from_pretrained
    theirs, report = load(tmp_path / "export", output_loading_info=True)
    assert type(theirs).__name__ == "TimesformerForVideoClassification"
    assert not report["missing_keys"] and not report["unexpected_keys"]
    expected = theirs_on(theirs.eval())
    if attention == "space_only":
        expected = expected.reshape(2, 4, 3).mean(1)
    got = model.apply(variables, {"video": jnp.asarray(video())}, train=False)["logits"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert theirs.config.id2label == {0: "walk", 1: "run", 2: "fight"}
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "export")
    assert processor.image_mean == [0.45] * 3 and processor.crop_size["height"] == 16


@pytest.mark.torch
def test_a_folder_of_transformers_is_read_with_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(
        image_size=16,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        initializer_range=0.3,
        num_labels=3,
    )
    theirs = transformers.TimesformerForVideoClassification(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    model, variables, info = jaxvid.from_pretrained(tmp_path)
    assert info["fresh"] == [] and info["waived"] == {} and info["clip"] == [4, 16, 16, 3]
    got = model.apply(variables, {"video": jnp.asarray(video())}, train=False)["logits"]
    np.testing.assert_allclose(got, theirs_on(theirs), atol=1e-5)
    # A larger frame: theirs resizes its table too.
    large = (4, 32, 32, 3)
    got = model.apply(variables, {"video": jnp.asarray(video(large))}, train=False)["logits"]
    theirs.config.image_size = 32
    np.testing.assert_allclose(got, theirs_on(theirs, large), atol=1e-5)
