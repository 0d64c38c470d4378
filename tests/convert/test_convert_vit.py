"""Image ViTs' tables: Hugging Face, timm, Google."""

import functools

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConfigError, ConversionError

CLIP = (1, 32, 32, 3)
ARCHS = ("hf/vit", "timm/vit", "google/vit")
B = {
    "cls_token": (1, 1, 768),
    "pos_embed": (1, 577, 768),
    "patch_embed.proj.weight": (768, 3, 16, 16),
    "blocks.11.norm1.weight": (768,),
    "blocks.0.mlp.fc1.bias": (3072,),
    "blocks.0.attn.qkv.bias": (2304,),
    "head.weight": (1000, 768),
}


def small(**fields):
    return pretrained.create_model("vit", variant="test", num_classes=5, **fields)


def random_variables(model):
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, CLIP)
    return jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("arch", ARCHS)
def test_weights_survive_the_way_there_and_back(arch):
    model = small(norm_eps=1e-5, activation="gelu_tanh")
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    found = source.find(arch).source
    config = found.config(model_tree.arguments_of(model), CLIP)
    again, back, info = pretrained.from_state_dict(state, arch=arch, config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and info["waived"] == {} and again == model
    assert info["clip"] == list(CLIP)
    assert reading.from_state(state, "vit", config).info["source"]["arch"] == arch  # by its keys


def test_files_of_google_need_no_config_and_come_in_two_spellings():
    model = small(activation="gelu_tanh")
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch="google/vit", clip=CLIP)
    older = {}
    for key, value in state.items():
        for new, old in (("LayerNorm_1", "LayerNorm_2"), ("Attention_0", "Attention_1")):
            key = key.replace(new, old)
        older[key.replace("MlpBlock_0", "MlpBlock_3")] = value
    scenic = {key.replace("head/", "output_projection/"): x for key, x in state.items()}
    assert len(older.keys() & state.keys()) < len(state) - 20
    for each in (state, older, scenic):
        again, back, _ = pretrained.from_state_dict(each, arch="google/vit")
        jax.tree.map(np.testing.assert_array_equal, back, variables)
        assert again == model


def test_files_of_timm_need_no_config():
    found = source.find("timm/vit").source
    guessed = found.guess(B, {})
    model = jaxvid.create_model("vit", variant="B", num_classes=1000)
    arguments = found.arguments(guessed)
    assert {name: getattr(model, name) for name in arguments} == arguments
    assert found.clip(guessed) == (1, 384, 384, 3)
    with pytest.raises(ConfigError, match="width 100 is none of the published"):
        found.guess({"patch_embed.proj.weight": (100, 3, 16, 16)}, {})


def test_sizes_may_be_pairs():
    found = source.find("hf/vit").source
    pair = {"image_size": [32, 32], "patch_size": [8, 8]}
    assert found.clip(pair) == (1, 32, 32, 3) and found.arguments(pair)["patch_size"] == 8
    with pytest.raises(ConversionError, match="image_size .32, 48.: the model has squares only"):
        found.clip({"image_size": [32, 48]})


def test_a_table_of_positions_is_resized():
    model = small()
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch="timm/vit", clip=CLIP)
    config = source.find("timm/vit").source.config(model_tree.arguments_of(model), CLIP)
    shapes = model_tree.variable_shapes(model, (1, 56, 56, 3))
    checkpoint = reading.from_state(state, "timm/vit", config)
    merged, _ = pretrained.load_into(model, shapes, checkpoint)
    table = merged["params"]["encoder"]["position_embedding"]
    assert table.shape == (7, 7, 48)
    old = variables["params"]["encoder"]["position_embedding"]
    np.testing.assert_array_equal(table[::2, ::2], old)


def test_what_the_model_cannot_be_is_refused():
    with pytest.raises(ConversionError, match="hidden_act 'relu'"):
        source.find("hf/vit").source.arguments({"hidden_act": "relu"})
    model = small(pool="mean")
    with pytest.raises(ConversionError, match="pool: 'mean' here, 'token' there"):
        saving.to_state_dict(model, random_variables(model), arch="hf/vit", clip=CLIP)


@pytest.mark.torch
def test_transformers_reads_an_export_with_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = small(norm_eps=1e-3)
    variables = random_variables(model)
    pixels = {"num_frames": 1, "size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    saving.save_pretrained(tmp_path, model, variables, {"preprocessing": pixels})
    load = transformers.ViTForImageClassification.from_pretrained
    theirs, report = load(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    image = np.random.default_rng(2).normal(size=(2, *CLIP)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(image[:, 0]).permute(0, 3, 1, 2)).logits.numpy()
    run = jax.jit(functools.partial(model.apply, train=False))
    got = run(variables, {"video": image})["logits"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
