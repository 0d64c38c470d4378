"""V-JEPA 2's tables: published sizes, configs both ways, encoders that start a classifier, transformers."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source, vjepa2, writing
from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, ConversionError

GOLDENS = Path(__file__).parents[1] / "goldens"

HF, ENCODER, ORIGINAL = "hf/vjepa2", "hf/vjepa2_encoder", "vjepa2/encoder"
SSV2, GIANT = "hf_vjepa2-vitl-fpc16-256-ssv2", "hf_vjepa2-vitg-fpc64-384-ssv2"
PRETRAINED = "hf_vjepa2-vith-fpc64-256"
CLIP = (4, 16, 16, 3)
PREPROCESSING = {"num_frames": 4, "size": 16, "mean": (0.4,) * 3, "std": (0.2,) * 3}
INFO = {"preprocessing": PREPROCESSING, "class_names": ["walk", "run", "fight"]}


def manifest(name):
    listing = json.loads(gzip.decompress((GOLDENS / "manifests" / f"{name}.json.gz").read_bytes()))
    state = {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for key, shape, dtype, _ in listing["state_dict"]
    }
    return listing, state


def size(arrays):
    return sum(int(np.prod(x.shape)) for x in arrays)


@pytest.mark.parametrize("name", [SSV2, GIANT])
def test_published_classifiers(name):
    listing, state = manifest(name)
    checkpoint = reading.from_state(state, HF, listing["config"])
    module = lookup.module("model", "vjepa2")
    model = module.MODULE(**checkpoint.arguments)
    leaves = apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))
    filled, report = apply.load(checkpoint.state, leaves, checkpoint.entries)
    predictor = {key for key in state if key.startswith("vjepa2.predictor.")}
    assert filled.keys() == leaves.keys() and not report.fresh
    assert report.waived == dict.fromkeys(predictor, vjepa2.PREDICTOR)
    assert report.used.keys() == state.keys() - predictor
    assert size(filled.values()) == listing["param_count"] - size(state[k] for k in predictor)
    written = writing.to_state("vjepa2", checkpoint.arguments, filled, HF, checkpoint.clip)
    assert {k: x.shape for k, x in written.state.items()} == {
        k: x.shape for k, x in state.items() if k not in predictor
    }
    variant = {1024: "L", 1408: "g"}[model.width]
    assert model == module.build(174, variant=variant)


@pytest.mark.parametrize("name", [SSV2, GIANT])
def test_configs_survive_the_way_there_and_back_and_files_need_none(name):
    listing, state = manifest(name)
    found = source.find(HF).source
    arguments, clip = found.arguments(listing["config"]), found.clip(listing["config"])
    assert clip == ((16, 256, 256, 3) if name == SSV2 else (64, 384, 384, 3))
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    guess = found.guess({key: x.shape for key, x in state.items()}, {})
    assert found.arguments(guess) == arguments and found.clip(guess) == clip
    assert found.preprocessing(guess) == found.preprocessing(listing["config"])
    assert found.preprocessing(guess)["stride_frames"] == (4 if name == SSV2 else 2)


def test_the_plain_name_knows_whose_keys_they_are():
    state = manifest(PRETRAINED)[1]
    original = dict.fromkeys(["blocks.0.attn.qkv.weight", "blocks.0.norm1.bias", "norm.bias"])
    for keys, arch in ((manifest(SSV2)[1], HF), (state, ENCODER), (original, ORIGINAL)):
        assert source.find("vjepa2", keys).arch == arch
    named = {"model_type": "vjepa2", "architectures": ["VJEPA2Model"]}
    assert source.find_hf(named, {}, "here").arch == ENCODER
    assert source.find_hf({"model_type": "vjepa2"}, state, "here").arch == ENCODER


def test_hidden_widths_are_cut_off_as_the_reference_does():
    found = source.find(HF).source
    for width, ratio, hidden in ((1408, 48 / 11, 6144), (48, 2.99, 143), (49, 3 / 49 + 1, 52)):
        arguments = found.arguments({"hidden_size": width, "mlp_ratio": ratio})
        assert round(width * arguments["mlp_ratio"]) == hidden == int(width * ratio)
        again = found.config({**arguments, "num_classes": 2}, CLIP)
        assert int(width * again["mlp_ratio"]) == hidden
    assert int(35 * (47 / 35)) == 46  # the quotient alone would not do
    odd = {**arguments, "width": 35, "mlp_ratio": 47 / 35, "num_classes": 2}
    assert int(35 * found.config(odd, CLIP)["mlp_ratio"]) == 47


@pytest.mark.parametrize("arch", [HF, ENCODER, ORIGINAL])
def test_what_the_model_cannot_be_is_refused(arch):
    with pytest.raises(ConversionError, match=r"hidden_act 'relu': the model has 'gelu' \(erf\)"):
        source.find(arch).source.arguments({"hidden_act": "relu"})


def test_a_width_nobody_published_needs_its_number_of_heads():
    _, state, _ = tiny_state()
    with pytest.raises(ConfigError, match=r"width 48 .*config=\{'num_attention_heads'"):
        jaxvid.from_state_dict(state, arch=HF)
    shapes = {key: x.shape for key, x in state.items()}
    told = {"num_attention_heads": 2}
    assert source.find(HF).source.guess(shapes, told)["num_pooler_layers"] == 1


def test_a_difference_is_an_error_that_lists_all():
    _, state, config = tiny_state()
    del state["pooler.cross_attention_layer.cross_attn.v_proj.bias"]
    state["vjepa2.encoder.mask"] = np.zeros((1, 3))
    state["vjepa2.encoder.layer.1.mlp.fc1.weight"] = np.zeros((95, 48))
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch=HF, config=config)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said and "nothing was loaded" in said
    assert "pooler/cross/attention/value/bias" in said and "cross_attn.v_proj.bias" in said
    assert "vjepa2.encoder.mask (1, 3)" in said and "encoder.layer.1.mlp.fc1.weight" in said


# --- weights, there and back ------------------------------------------------------------------------


def tiny(**fields):
    return jaxvid.create_model("vjepa2", variant="test", num_classes=3, **fields)


def random_variables(model):
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, CLIP)
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def tiny_state(**fields):
    """(variables, the same under Hugging Face's keys, the config)"""
    model = tiny(**fields)
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=HF, clip=CLIP)
    return variables, state, source.find(HF).source.config(model_tree.arguments_of(model), CLIP)


@pytest.mark.parametrize(
    "fields", [{}, {"qkv_bias": "none", "pooler_depth": 2, "norm_eps": 1e-5, "mlp_ratio": 3.0}]
)
def test_weights_survive_the_way_there_and_back(fields):
    variables, state, config = tiny_state(**fields)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    again, back, info = jaxvid.from_state_dict(wrapped, arch=HF, config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and info["waived"] == {} and again == tiny(**fields)


def test_what_the_reference_cannot_be_is_not_written():
    model = tiny(pooler_mlp_ratio=2.0)
    with pytest.raises(ConversionError, match=r"pooler_mlp_ratio: 2\.0 here, 4\.0 there"):
        saving.to_state_dict(model, random_variables(model), arch=HF, clip=CLIP)
    model = tiny()
    with pytest.raises(
        ConversionError, match=r"have no place in hf/vjepa2_encoder;(.|\n)*pooler/query_tok"
    ):
        saving.to_state_dict(model, random_variables(model), arch=ENCODER, clip=CLIP)


def test_a_probe_is_exported_as_any_other(tmp_path):
    model = tiny(freeze_encoder=True, scan_layers=True)
    plain = tiny(freeze_encoder=True)
    variables = random_variables(plain)
    assert saving.save_pretrained(tmp_path / "export", plain, variables, INFO) == HF
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert (config["frames_per_clip"], config["crop_size"]) == (4, 16)
    assert config["architectures"] == ["VJEPA2ForVideoClassification"]
    told = json.loads((tmp_path / "export" / "video_preprocessor_config.json").read_text())
    assert told["video_processor_type"] == "VJEPA2VideoProcessor" and told["image_std"] == [0.2] * 3
    again, back, info = jaxvid.from_pretrained(tmp_path / "export")
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert again == plain and info["class_names"] == INFO["class_names"]
    looped, _, info = jaxvid.from_pretrained(tmp_path / "export", num_classes=7, scan_layers=True)
    assert looped == model.clone(num_classes=7)
    assert info["fresh"] == ["head/bias", "head/kernel"]


# --- encoders start a classifier --------------------------------------------------------------------


def encoder_weights(arch):
    """(variables of a classifier, the encoder's under these keys and a predictor's, the config)"""
    variables, state, config = tiny_state()
    state = {
        key.removeprefix("vjepa2."): value
        for key, value in state.items()
        if key.startswith("vjepa2.")
    }
    config = {name: value for name, value in config.items() if name != "num_labels"}
    if arch == ENCODER:
        return variables, state | {"predictor.layernorm.weight": np.ones(7, np.float32)}, config
    names = {"encoder.embeddings.patch_embeddings.": "patch_embed.", "encoder.layernorm.": "norm."}
    names |= {"encoder.layer.": "blocks.", ".attention.": ".attn."}
    for one, other in names.items():
        state = {key.replace(one, other): value for key, value in state.items()}
    for i in range(2):
        for part in ("weight", "bias"):
            key = f"blocks.{i}.attn"
            split = [state.pop(f"{key}.{name}.{part}") for name in ("query", "key", "value")]
            state[f"{key}.qkv.{part}"] = np.concatenate(split)
    state = {f"module.backbone.{key}": value for key, value in state.items()}
    return variables, state | {"module.backbone.pos_embed": np.zeros((1, 8, 48))}, config


@pytest.mark.parametrize("arch", [ENCODER, ORIGINAL])
def test_an_encoder_starts_a_classifier(arch):
    theirs, state, config = encoder_weights(arch)
    model, variables, info = jaxvid.from_state_dict(state, arch=arch, config=config, num_classes=5)
    assert model == tiny(pooler_depth=1).clone(num_classes=5)
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, variables["params"]["encoder"], theirs["params"]["encoder"])
    others = {p for p in apply.flatten_variables(variables) if not p.startswith("encoder/")}
    assert set(info["fresh"]) == others and info["class_names"] is None
    assert np.any(variables["params"]["pooler"]["query_token"])
    waived = {ENCODER: {"predictor.layernorm.weight": vjepa2.PREDICTOR}}
    assert info["waived"].keys() == waived.get(arch, {"pos_embed": ""}).keys()
    assert info["waived"] == waived.get(arch, info["waived"])
    with pytest.raises(ConfigError, match="brings no classes; model 'vjepa2' needs num_classes="):
        jaxvid.from_state_dict(state, arch=arch, config=config)


def test_fresh_and_left_aside_is_said_aloud(caplog):
    _, state, config = encoder_weights(ENCODER)
    with caplog.at_level("WARNING", logger="jaxvid"):
        jaxvid.from_state_dict(state, arch="vjepa2", config=config, num_classes=5)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert f"left aside, {vjepa2.PREDICTOR}: predictor.layernorm.weight" in said
    assert "FRESH, train before use: pooler/" in said and "(pretraining has no pooler)" in said
    assert "head/bias, head/kernel (pretraining has no classes)" in said


def test_training_starts_from_an_encoder():
    theirs, state, config = encoder_weights(ENCODER)
    model = tiny(pooler_depth=3, freeze_encoder=True)
    variables = random_variables(model)
    checkpoint = reading.from_state(state, ENCODER, config)
    merged, report = pretrained.load_into(model, variables, checkpoint)
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, merged["params"]["encoder"], theirs["params"]["encoder"])
    for part in ("pooler", "head"):
        jax.tree.map(equal, merged["params"][part], variables["params"][part])
    assert {path.split("/")[0] for path in report.fresh} == {"pooler", "head"}


def test_a_published_encoder_without_a_config():
    listing, state = manifest(PRETRAINED)
    shapes = {key: x.shape for key, x in state.items()}
    found = source.find(ENCODER).source
    guess = found.guess(shapes, {})
    assert found.arguments(guess) == found.arguments(listing["config"])
    assert found.clip(guess) == (64, 256, 256, 3) and "num_classes" not in found.arguments(guess)
    arguments = {**found.arguments(guess), "num_classes": 174}
    module = lookup.module("model", "vjepa2")
    model = module.MODULE(**arguments)
    assert model == module.build(174, variant="H")
    leaves = apply.flatten_variables(model_tree.variable_shapes(model, (2, 16, 16, 3)))
    filled, report = apply.load(state, leaves, found.entries, fresh=found.fresh)
    assert {path for path in leaves if path.startswith("encoder/")} == filled.keys()
    assert {key for key in state if key.startswith("predictor.")} == report.waived.keys()
    assert size(filled.values()) == 631_648_000


# --- transformers -----------------------------------------------------------------------------------


def video():
    return np.random.default_rng(9).normal(size=(2, *CLIP)).astype(np.float32)


def theirs_on(model):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(video()).permute(0, 1, 4, 2, 3)).logits.numpy()


def ours_on(model, variables):
    return model.apply(variables, {"video": jnp.asarray(video())}, train=False)["logits"]


def transformers_model(kind):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        crop_size=16,
        frames_per_clip=4,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=1.6,
        num_pooler_layers=2,
        pred_hidden_size=16,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        initializer_range=0.3,
        num_labels=3,
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are not to be 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.torch
def test_transformers_reads_an_export_with_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch").set_num_threads(1)
    model = tiny(norm_eps=1e-5, pooler_depth=2)
    variables = random_variables(model)
    saving.save_pretrained(tmp_path / "export", model, variables, INFO)
    load = transformers.AutoModelForVideoClassification.from_pretrained
    theirs, report = load(tmp_path / "export", output_loading_info=True)
    assert type(theirs).__name__ == "VJEPA2ForVideoClassification"
    assert not report["unexpected_keys"]
    assert all(key.startswith("vjepa2.predictor.") for key in report["missing_keys"])
    np.testing.assert_allclose(theirs_on(theirs.eval()), ours_on(model, variables), atol=1e-5)
    assert theirs.config.id2label == {0: "walk", 1: "run", 2: "fight"}


@pytest.mark.torch
def test_a_folder_of_transformers_is_read_with_the_same_logits(tmp_path):
    theirs = transformers_model("VJEPA2ForVideoClassification")
    theirs.save_pretrained(tmp_path)
    processor = {"crop_size": {"height": 16, "width": 16}, "size": {"shortest_edge": 18}}
    processor |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(processor))
    model, variables, info = jaxvid.from_pretrained(tmp_path)
    assert info["fresh"] == [] and set(info["waived"].values()) == {vjepa2.PREDICTOR}
    assert info["clip"] == [4, 16, 16, 3] and info["preprocessing"]["short_side"] == 18
    assert info["assumed"] == ["sampling", "stride_frames"]
    np.testing.assert_allclose(ours_on(model, variables), theirs_on(theirs), atol=1e-5)


@pytest.mark.torch
def test_a_pretrained_folder_of_transformers_starts_a_classifier(tmp_path):
    theirs = transformers_model("VJEPA2Model")
    theirs.save_pretrained(tmp_path)
    model, variables, info = jaxvid.from_pretrained(tmp_path, num_classes=4)
    assert {path.split("/")[0] for path in info["fresh"]} == {"pooler", "head"}
    assert all(key.startswith("predictor.") for key in info["waived"]) and info["waived"]
    import torch

    with torch.no_grad():
        pixels = torch.from_numpy(video()).permute(0, 1, 4, 2, 3)
        expected = theirs(pixels, skip_predictor=True).last_hidden_state.numpy()
    got = model.apply(variables, {"video": jnp.asarray(video())}, train=False)["tokens"]
    np.testing.assert_allclose(got, expected, atol=2e-5)
