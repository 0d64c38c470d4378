"""ViViT's tables: configs both ways, published sizes, other clips, files on disk."""

import gzip
import json
import sys
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source
from jaxvid.core.errors import ConfigError, ConversionError

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import check
from vivit_runs import CLIP, random_variables, run

SCENIC = sorted(p.stem for p in GOLDENS.glob("scenic_vivit_*.json"))
HF = "hf_vivit-b-16x2-kinetics400"
INFO = {
    "preprocessing": {
        "num_frames": 8,
        "size": 32,
        "short_side": 40,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.5, 0.5, 0.25),
    },
    "class_names": ["a", "b", "c", "d", "e"],
}
MODELS = [
    {"pool": "token"},
    {},
    {"attention": "factorised_encoder", "pool": "token", "temporal_depth": 1},
    {"attention": "factorised_encoder", "temporal_num_heads": 2, "temporal_mlp_ratio": 1.0},
    {"attention": "factorised_self_attention"},
    {"attention": "factorised_self_attention", "attention_order": "space_time"},
    {"attention": "factorised_dot_product"},
    {"tubelet_size": 1},
    {"tubelet_size": 1, "sampled_frames": 4, "pool": "token"},
]


def small(**fields):
    return pretrained.create_model("vivit", variant="test", num_classes=5, **fields)


def logits(model, variables, clip=CLIP, seed=2):
    video = np.random.default_rng(seed).normal(size=(2, *clip)).astype(np.float32)
    return np.asarray(run(model, variables, video)["logits"])


def manifest():
    listing = json.loads(gzip.decompress((GOLDENS / "manifests" / f"{HF}.json.gz").read_bytes()))
    return {
        key: jax.ShapeDtypeStruct(tuple(shape), np.float32)
        for key, shape, *_ in listing["state_dict"]
    }


# --- Hugging Face -----------------------------------------------------------------------------------


def test_the_published_size():
    check.check_manifest(HF, "hf/vivit", {"num_labels": 400})
    found = source.find("hf/vivit").source
    arguments, clip = found.arguments({"num_labels": 400}), found.clip({})
    assert clip == (32, 224, 224, 3)
    model = jaxvid.create_model("vivit", variant="B", num_classes=400)
    assert {name: getattr(model, name) for name in arguments} == arguments
    back = found.config(arguments, clip)
    assert back["hidden_act"] == "gelu_fast" and back["tubelet_size"] == [2, 16, 16]
    assert found.arguments(back) == arguments and found.clip(back) == clip


def test_what_is_known_of_the_published_preprocessing():
    told = reading.from_state(manifest(), "hf/vivit", {"num_labels": 400}).info["preprocessing"]
    assert told == {
        "num_frames": 32,
        "size": 224,
        "short_side": 256,
        "sampling": "dense",
        "stride_frames": 2,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }


def test_differences_are_all_told():
    state = manifest()
    layer = "vivit.encoder.layer.7"
    del state[f"{layer}.output.dense.bias"]
    state["extra.weight"] = jax.ShapeDtypeStruct((3,), np.float32)
    state["vivit.embeddings.position_embeddings"] = jax.ShapeDtypeStruct((1, 3136, 768), np.float32)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch="hf/vivit", config={"num_labels": 400})
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said
    assert f"<- {layer}.output.dense.bias" in said and "extra.weight (3,)" in said
    assert "(16, 14, 14) patches and a class token, (1, 3137, …)" in said


@pytest.mark.parametrize(
    "config, message",
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu': the model has gelu_fast, "),
        ({"tubelet_size": [2, 16, 8]}, r"tubelet_size \[2, 16, 8\]: .*square patches only"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    with pytest.raises(ConversionError, match=message):
        source.find("hf/vivit").source.arguments(config)


def test_hugging_face_has_model_1_alone(tmp_path, caplog):
    for fields in MODELS[1:]:
        model = small(**fields)
        with pytest.raises(ConversionError, match="hf/vivit cannot express this model:"):
            saving.save_pretrained(
                tmp_path / "x", model, random_variables(model), INFO, arch="hf/vivit"
            )
    assert (
        saving.save_pretrained(tmp_path / "own", model, random_variables(model), INFO) == "jaxvid"
    )
    assert "written under jaxvid's own keys, for jaxvid alone: hf/vivit cannot" in caplog.text
    assert not (tmp_path / "own" / "config.json").exists()
    saving.save_pretrained(
        tmp_path / "x", model, random_variables(model), INFO, arch="scenic/vivit"
    )
    again, variables, _ = pretrained.from_pretrained(tmp_path / "x")
    jax.tree.map(np.testing.assert_array_equal, variables, random_variables(model))
    assert again.sampled_frames == 4


@pytest.mark.torch
def test_transformers_reads_an_export_with_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    for fields in ({}, {"qkv_bias": "none", "activation": "gelu", "norm_eps": 1e-3}):
        model = small(pool="token", **fields)
        variables = random_variables(model)
        saving.save_pretrained(tmp_path, model, variables, INFO)
        load = transformers.AutoModelForVideoClassification.from_pretrained
        theirs, report = load(tmp_path, output_loading_info=True)
        assert type(theirs).__name__ == "VivitForVideoClassification"
        assert not report["missing_keys"] and not report["unexpected_keys"]
        video = np.random.default_rng(2).normal(size=(2, *CLIP)).astype(np.float32)
        with torch.no_grad():
            got = theirs.eval()(torch.from_numpy(video).permute(0, 1, 4, 2, 3)).logits.numpy()
        np.testing.assert_allclose(got, logits(model, variables), atol=1e-5)
    assert theirs.config.id2label[1] == "b"
    processor = transformers.VivitImageProcessor.from_pretrained(tmp_path)
    clip = np.random.default_rng(0).integers(0, 256, (8, 40, 44, 3), np.uint8)
    pixels = processor(list(clip), return_tensors="np")["pixel_values"][0]  # (T, C, H, W)
    told = INFO["preprocessing"]
    expected = (clip[:, 4:36, 6:38] / 255 - told["mean"]) / told["std"]
    np.testing.assert_allclose(pixels.transpose(0, 2, 3, 1), expected, atol=1e-5)


@pytest.mark.torch
def test_a_model_of_transformers_is_read_with_its_logits_and_pixels(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.VivitConfig(
        **sizes, intermediate_size=48, image_size=32, num_frames=8, tubelet_size=[2, 16, 16]
    )
    theirs = transformers.VivitForVideoClassification(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    transformers.VivitImageProcessor().save_pretrained(tmp_path)
    model, variables, info = pretrained.from_pretrained(tmp_path)
    assert info["fresh"] == [] and info["waived"] == {} and info["clip"] == [8, 32, 32, 3]
    # (pixel / 127.5 - 1 - 0.5) / 0.5, in one step
    assert info["preprocessing"]["mean"] == (0.75,) * 3
    assert info["preprocessing"]["std"] == (0.25,) * 3
    video = np.random.default_rng(2).normal(size=(2, *CLIP)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(video).permute(0, 1, 4, 2, 3)).logits.numpy()
    np.testing.assert_allclose(logits(model, variables), expected, atol=2e-5)


# --- scenic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", MODELS, ids=str)
def test_weights_survive_the_way_there_and_back(fields):
    model = small(**fields)
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch="scenic/vivit", clip=CLIP)
    arguments = model_tree.arguments_of(model)
    found = source.find("scenic/vivit").source
    arguments = found.prepare_save({}, arguments)[1]
    config = found.config(arguments, CLIP)
    again, back, info = pretrained.from_state_dict(state, arch="scenic/vivit", config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and info["waived"] == {} and info["clip"] == list(CLIP)
    assert {n: getattr(again, n) for n in fields} == fields
    # A whole run's config, nested, says the same.
    data = {"num_frames": 8, "crop_size": 32, "num_classes": 5}
    nested = {n: x for n, x in config.items() if not n.startswith(("spatial_", "temporal_n"))}
    for part in ("spatial", "temporal"):
        counts = {n: config.get(f"{part}_{n}") for n in ("num_layers", "num_heads", "mlp_dim")}
        nested |= {f"{part}_transformer": counts} if counts["num_heads"] else {}
    run = {"model": nested, "dataset_configs": data}
    checkpoint = reading.from_state(state, "scenic/vivit", run)
    assert checkpoint.clip == CLIP
    assert {n: checkpoint.arguments[n] for n in fields} == fields


def test_scenic_keys_are_the_references():
    for name in SCENIC:
        facts = check.facts(name)
        weights = check.weights(name)
        model, variables, _ = jaxvid.from_state_dict(
            weights, arch="scenic/vivit", config=facts["config"]
        )
        state = saving.to_state_dict(model, variables, arch="scenic/vivit", clip=CLIP)
        assert state.keys() == weights.keys()
        jax.tree.map(np.testing.assert_array_equal, state, weights)
        assert sum(x.size for x in jax.tree.leaves(variables)) == facts["param_count"]


@pytest.mark.parametrize("name", SCENIC)
def test_files_without_a_config(name):
    weights = check.weights(name)
    if name == "scenic_vivit_fact_dot_product":
        with pytest.raises(ConfigError, match="fit model 1 and model 4 alike; say which it is"):
            reading.from_state(weights, "vivit")
        return
    told = reading.from_state(weights, "scenic/vivit", check.facts(name)["config"])
    guessed = reading.from_state(weights, "vivit")  # by its keys
    assert guessed.info["source"]["arch"] == "scenic/vivit"
    assert guessed.arguments == told.arguments and guessed.clip == told.clip == (8, 32, 32, 3)


@pytest.mark.parametrize(
    "tokens, config, clip",
    [
        (3136, {}, (32, 224, 224, 3)),  # as published
        (784, {}, (8, 224, 224, 3)),
        (3136, {"crop_size": 448}, (8, 448, 448, 3)),
        (3136, {"num_frames": 128}, (128, 112, 112, 3)),
        (6400, {"num_frames": 32, "crop_size": 320}, (32, 320, 320, 3)),
        (6400, {}, (32, 320, 320, 3)),  # nearest to a cube
    ],
)
def test_the_clip_is_told_by_the_table_of_positions(tokens, config, clip):
    shapes = published(tokens)
    found = source.find("scenic/vivit").source
    complete = found.complete(config, {key: x.shape for key, x in shapes.items()})
    assert (
        found.clip(complete) == clip and found.complete(complete, {**_shapes(shapes)}) == complete
    )


def _shapes(state):
    return {key: x.shape for key, x in state.items()}


def published(tokens):
    """Some keys of ViViT-B, model 1."""
    block = "Transformer/encoderblock_0"
    shapes = {
        "embedding/kernel": (2, 16, 16, 3, 768),
        "cls": (1, 1, 768),
        "Transformer/posembed_input/pos_embedding": (1, tokens + 1, 768),
        f"{block}/MultiHeadDotProductAttention_0/query/kernel": (768, 12, 64),
        f"{block}/MlpBlock_0/Dense_0/kernel": (768, 3072),
        "output_projection/kernel": (768, 400),
    }
    return {key: jax.ShapeDtypeStruct(shape, np.float32) for key, shape in shapes.items()}


def test_a_clip_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="num_frames.*cannot be told from their shapes"):
        source.find("scenic/vivit").source.complete({"crop_size": 320}, _shapes(published(3136)))


def test_scenic_configs_the_model_cannot_be():
    found = source.find("scenic/vivit").source
    good = found.complete({}, _shapes(published(3136)))
    for change, message in (
        ({"classifier": "gmp"}, "classifier='gmp': the model has only 'token', 'gap'"),
        ({"attention_config": {"type": "factorized_transformer_block"}}, "attention_config.type="),
        ({"attention_config": {"spatial_only_baseline": True}}, "spatial_only_baseline=True"),
        ({"temporal_encoding_config": {"method": "x"}}, "temporal_encoding_config.method='x'"),
        ({"representation_size": 768}, "representation_size=768: the model has only None"),
        ({"positional_embedding": "none"}, "positional_embedding='none'"),
        ({"patches": {"size": [16, 8, 2]}}, r"patches.size \[16, 8\]: .*square"),
    ):
        with pytest.raises(ConversionError, match=message):
            found.arguments({**good, **change})
    with pytest.raises(ConversionError, match="no 'embedding/kernel'. Its 1 keys: cls, "):
        found.complete({}, {"cls": (1, 1, 8)})


def test_a_checkpoint_of_scenic_on_disk(tmp_path):
    name = "scenic_vivit_fact_encoder_token"
    params = apply.unflatten(check.weights(name))
    state = {"global_step": 7, "optimizer": {"target": params, "state": {"step": 7}}}
    (tmp_path / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(state))
    for path in (tmp_path / "checkpoint", tmp_path):
        model, variables, info = jaxvid.from_pretrained(path, arch="vivit")
        assert model.attention == "factorised_encoder" and info["fresh"] == []
        video = check.clip(name)
        got = run(model, variables, video)["logits"]
        atol = check.facts(name)["checks"]["suggested_atol"]
        np.testing.assert_allclose(got, check.stored(name)["logits"], atol=atol)
    with pytest.raises(ConfigError, match=r"say arch=….*scenic/vivit"):
        jaxvid.from_pretrained(tmp_path)


# --- other clips ------------------------------------------------------------------------------------


def resized(variables, clip, **fields):
    """The same weights in a model of that clip."""
    model = small(**fields)
    checkpoint = variables
    shapes = model_tree.variable_shapes(model, clip)
    merged, report = pretrained.load_into(model, shapes, checkpoint)
    return model, merged, report


@pytest.mark.parametrize("arch", ["hf/vivit", "scenic/vivit"])
def test_tables_of_positions_are_resized_to_the_model_they_start(arch):
    before = small(pool="token")
    given = random_variables(before)
    state = saving.to_state_dict(before, given, arch=arch, clip=CLIP)
    found = source.find(arch).source
    config = found.config(found.arguments(found.config(_full(before), CLIP)), CLIP)
    checkpoint = reading.from_state(state, arch, config)
    # Twice the frames of three quarters of the size: 4×4×4 patches become 8×3×3.
    model, merged, report = resized(checkpoint, (16, 24, 24, 3), pool="token")
    assert not report.fresh
    old, new = (x["params"]["encoder"] for x in (given, merged))
    assert new["position_embedding"].shape == (8, 3, 3, 48)
    np.testing.assert_array_equal(
        new["position_embedding"][::7, ::2, ::2], old["position_embedding"][::3, ::3, ::3]
    )
    np.testing.assert_array_equal(new["class_position_embedding"], old["class_position_embedding"])
    assert np.isfinite(logits(model, merged, (16, 24, 24, 3))).all()


def _full(model):
    return source.find("scenic/vivit").source.prepare_save({}, model_tree.arguments_of(model))[1]


def test_two_tables_are_resized_each_by_itself():
    before = small(**MODELS[2])
    given = random_variables(before)
    state = saving.to_state_dict(before, given, arch="scenic/vivit", clip=CLIP)
    checkpoint = reading.from_state(state, "scenic/vivit")
    _, merged, _ = resized(checkpoint, (4, 56, 56, 3), **MODELS[2])
    spatial = merged["params"]["spatial_encoder"]["position_embedding"]
    temporal = merged["params"]["temporal_encoder"]["position_embedding"]
    assert spatial.shape == (7, 7, 48) and temporal.shape == (2, 48)
    old = given["params"]["temporal_encoder"]["position_embedding"]
    np.testing.assert_array_equal(temporal, old[[0, 3]])


def test_ones_own_weights_are_resized_too():
    before = random_variables(small(pool="token"))
    model = small(pool="token")
    shapes = model_tree.variable_shapes(model, (16, 32, 32, 3))
    merged, _ = pretrained.merge_weights(shapes, before, what="runs/a")
    assert merged["params"]["encoder"]["position_embedding"].shape == (8, 4, 4, 48)
    other = model_tree.variable_shapes(small(pool="token", mlp_ratio=1.0), CLIP)
    with pytest.raises(ConversionError, match="runs/a does not fit: 0 missing, 0 left over, 6 of"):
        pretrained.merge_weights(other, before, what="runs/a")
