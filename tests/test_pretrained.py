"""Models with weights: from everywhere, to everywhere, and every way in which they do not fit."""

import json
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretrained_models import (
    CLIP,
    INFO,
    PREPROCESSING,
    autoencoder,
    classifier,
    logits,
    random_variables,
    video,
)

from jaxvid import model_tree, pretrained, saving
from jaxvid.core.errors import ConfigError, ConversionError, UnknownNameError
from jaxvid.nn.transformer import stack_layers, unstack_layers


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, model, variables) of a classifier of three classes."""
    folder = tmp_path_factory.mktemp("pretrained") / "export"
    model = classifier()
    variables = random_variables(model)
    assert saving.save_pretrained(folder, model, variables, INFO) == "hf/videomae"
    return folder, model, variables


@pytest.fixture(scope="module")
def own_pretraining(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "pretraining"
    model = autoencoder()
    variables = random_variables(model, seed=1)
    saving.save_pretrained(folder, model, variables, {"preprocessing": PREPROCESSING})
    return folder, model, variables


# --- create_model -----------------------------------------------------------------------------------


def test_a_model_is_made_by_name():
    model = pretrained.create_model("videomae", variant="B", num_classes=4, drop_path_rate=0.1)
    assert (model.width, model.num_classes, model.drop_path_rate) == (768, 4, 0.1)
    assert pretrained.create_model("videomae", num_classes=4).width == 384  # its default variant
    assert (
        pretrained.create_model("videomae_pretrain", variant="test", num_visible=3).num_visible == 3
    )


def test_wrong_names_say_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'videomae'"):
        pretrained.create_model("videomea", num_classes=2)
    with pytest.raises(UnknownNameError, match="no variant 'XL'"):
        pretrained.create_model("videomae", variant="XL", num_classes=2)
    with pytest.raises(ConfigError, match="no field 'drop_path'.*Did you mean 'drop_path_rate'"):
        pretrained.create_model("videomae", num_classes=2, drop_path=0.1)
    with pytest.raises(ConfigError, match="model 'videomae' needs num_classes"):
        pretrained.create_model("videomae")


# --- export and back --------------------------------------------------------------------------------


def test_an_export_comes_back_whole(exported):
    folder, model, variables = exported
    again, back, info = pretrained.from_pretrained(folder)
    assert again == model
    assert_equal(back, variables)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(back))
    assert info["class_names"] == INFO["class_names"] and info["preprocessing"] == PREPROCESSING
    assert info["fresh"] == [] and info["source"]["arch"] == "hf/videomae"
    json.dumps(info)  # fit for JSON


def test_an_export_holds_what_hugging_face_expects(exported):
    names = sorted(p.name for p in exported[0].iterdir())
    assert names == ["config.json", "jaxvid.json", "model.safetensors", "preprocessor_config.json"]
    config = json.loads((exported[0] / "config.json").read_text())
    assert config["id2label"] == {"0": "walk", "1": "run", "2": "fight"}
    assert config["num_frames"] == 4 and config["image_size"] == 16 and config["use_mean_pooling"]
    processor = json.loads((exported[0] / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == [0.1, 0.2, 0.3] and processor["crop_size"]["height"] == 16


def test_without_jaxvid_json_an_export_is_a_hugging_face_folder(exported, tmp_path):
    for file in exported[0].iterdir():
        if file.name != "jaxvid.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    _, variables, info = pretrained.from_pretrained(tmp_path)
    assert_equal(variables, exported[2])
    assert info["class_names"] == INFO["class_names"]
    assert info["assumed"] == ["sampling", "stride_frames"]


def test_jaxvids_own_keys_and_options_come_back(tmp_path):
    model = classifier(layer_scale=0.1, drop_path_rate=0.2, dtype=jnp.bfloat16)
    variables = random_variables(model)
    saving.save_pretrained(tmp_path / "own", model, variables, INFO, arch="jaxvid")
    again, back, _ = pretrained.from_pretrained(tmp_path / "own", dtype=jnp.bfloat16)
    assert again == model  # dtype is a choice of the moment and is given again
    assert_equal(back, variables)
    assert not (tmp_path / "own" / "config.json").exists()


@pytest.mark.parametrize("arch", ["jaxvid", "hf/videomae", "videomae/finetune"])
def test_one_file_tells_all_by_itself(tmp_path, arch):
    model = classifier()
    variables = random_variables(model)
    path = tmp_path / "model.safetensors"
    saving.save_weights(path, model, variables, INFO, arch=arch)
    again, back, info = pretrained.from_pretrained(path)
    assert again == model and info["class_names"] == INFO["class_names"]
    assert_equal(back, variables)


def test_saving_asks_for_what_cannot_be_guessed_later(tmp_path, exported):
    _, model, variables = exported
    with pytest.raises(ConfigError, match=r"lacks num_frames, size, mean, std"):
        saving.save_pretrained(tmp_path / "a", model, variables, {})
    with pytest.raises(ConfigError, match="is named .safetensors, .pth or .pt"):
        saving.save_weights(tmp_path / "a.bin", model, variables, INFO, arch="jaxvid")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="not an earlier export"):
        saving.save_pretrained(tmp_path / "b", model, variables, INFO)


def _other_head(variables):
    params = variables["params"]
    return {"params": {**params, "head": jax.tree.map(lambda x: x[..., :2], params["head"])}}


@pytest.mark.parametrize(
    "change, said",
    [
        (_other_head, r"2 variables are not .*\n    head/bias: \(2,\) given, \(3,\) in the model"),
        (lambda v: {"params": {"encoder": v["params"]["encoder"]}}, "head/bias: absent given"),
        (lambda v: {**v, "batch_stats": {"mean": np.ones(3)}}, r"batch_stats/mean: \(3,\) given, absent"),
    ],
)  # fmt: skip
def test_variables_of_another_model_are_not_written(tmp_path, change, said):
    model = classifier()
    variables = change(random_variables(model))
    with pytest.raises(ConfigError, match=said):
        saving.save_pretrained(tmp_path / "x", model, variables, INFO)
    with pytest.raises(ConfigError, match="for clips of 4×16×16×3; nothing was written"):
        saving.save_weights(tmp_path / "x.safetensors", model, variables, INFO, arch="jaxvid")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [classifier, autoencoder])
def test_scanned_layers_convert_in_both_directions(make, tmp_path):
    plain, scanned = make(), make(scan_layers=True)
    variables = random_variables(plain)
    stacked = stack_layers(variables)
    arch = "hf/videomae" if make is classifier else "hf/videomae_pretrain"
    a = saving.to_state_dict(plain, variables, arch=arch, clip=CLIP)
    b = saving.to_state_dict(scanned, stacked, arch=arch, clip=CLIP)
    assert_equal(a, b)
    saving.save_pretrained(tmp_path / "s", scanned, stacked, INFO)
    again, back, _ = pretrained.from_pretrained(tmp_path / "s")
    assert again.scan_layers
    assert_equal(back, stacked)
    again, back, _ = pretrained.from_pretrained(tmp_path / "s", scan_layers=False)
    assert_equal(back, variables)


MY_NET = """
import flax.linen as nn

VARIANTS = {"test": dict(width=4)}


class MyNet(nn.Module):
    num_classes: int
    width: int = 4
    strides: tuple = (1, 2)

    @nn.compact
    def __call__(self, inputs, *, train):
        x = nn.Dense(self.width, name="stem")(inputs["video"].mean((1, 2, 3)))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return {"logits": nn.Dense(self.num_classes, name="head")(x)}


MODULE = MyNet


def build(num_classes, *, variant="test", **overrides):
    return MyNet(num_classes, **(VARIANTS[variant] | overrides))
"""


def test_a_model_of_ones_own_is_saved_and_loaded_with_its_statistics(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mynet.py").write_text(MY_NET)
    monkeypatch.syspath_prepend(tmp_path)
    model = pretrained.create_model("mine.mynet", num_classes=3)
    variables = random_variables(model)
    assert variables.keys() == {"params", "batch_stats"}
    saving.save_pretrained(tmp_path / "export", model, variables, INFO)
    again, back, info = pretrained.from_pretrained(tmp_path / "export")
    assert again == model and info["model"] == "mine.mynet"
    assert_equal(back, variables)
    _, back, info = pretrained.from_pretrained(tmp_path / "export", num_classes=5)
    assert info["fresh"] == ["head/bias", "head/kernel"]
    assert_equal(back["batch_stats"], variables["batch_stats"])


# --- heads ------------------------------------------------------------------------------------------


def test_shapes_are_traced_once_and_given_anew(monkeypatch):
    model, calls = classifier(width=40), []
    trace = jax.eval_shape
    monkeypatch.setattr(jax, "eval_shape", lambda *a: calls.append(1) or trace(*a))
    first, second = (model_tree.variable_shapes(model, CLIP) for _ in range(2))
    assert len(calls) == 1 and first == second
    del second["params"]["head"]  # by whoever asked
    assert "head" in model_tree.variable_shapes(model, CLIP)["params"]


class Offset(nn.Module):
    """Somebody's own, with an array for a field, of which flax makes no hash."""

    by: np.ndarray

    @nn.compact
    def __call__(self, inputs, *, train):
        return {"logits": nn.Dense(2, name="head")(inputs["video"].mean((1, 2, 3)) + self.by)}


def test_shapes_of_a_model_without_a_hash():
    shapes = model_tree.variable_shapes(Offset(np.ones(3, np.float32)), CLIP)
    assert shapes["params"]["head"]["kernel"].shape == (3, 2)


def test_another_number_of_classes_makes_a_fresh_head_and_says_so(exported, caplog):
    with caplog.at_level(logging.INFO, "jaxvid"):
        model, variables, info = pretrained.from_pretrained(exported[0], num_classes=7)
    assert model.num_classes == 7
    assert info["fresh"] == ["head/bias", "head/kernel"] and info["class_names"] is None
    assert info["waived"].keys() == {"classifier.weight", "classifier.bias"}
    assert "FRESH, train before use: head" in caplog.text
    assert "3 classes in the checkpoint, 7 asked" in caplog.text
    assert_equal(variables["params"]["encoder"], exported[2]["params"]["encoder"])
    kernel = variables["params"]["head"]["kernel"]
    assert kernel.shape == (32, 7) and np.std(kernel) > 0
    again = pretrained.from_pretrained(exported[0], num_classes=7)[1]
    np.testing.assert_array_equal(again["params"]["head"]["kernel"], kernel)
    other = pretrained.from_pretrained(exported[0], num_classes=7, seed=1)[1]
    assert np.any(other["params"]["head"]["kernel"] != kernel)
    assert np.isfinite(logits(model, variables)).all()


def test_the_same_number_of_classes_keeps_the_head(exported):
    _, variables, info = pretrained.from_pretrained(exported[0], num_classes=3)
    assert info["fresh"] == [] and info["class_names"] == INFO["class_names"]
    assert_equal(variables, exported[2])


def test_a_head_exported_fresh_is_still_fresh(exported, tmp_path):
    made = pretrained.from_pretrained(exported[0], num_classes=7)
    saving.save_pretrained(tmp_path / "fresh", *made)
    _, variables, info = pretrained.from_pretrained(tmp_path / "fresh")
    assert info["fresh"] == ["head/bias", "head/kernel"]
    assert_equal(variables, made[1])
    model = classifier(num_classes=7)
    _, report = pretrained.load_into(model, variables, tmp_path / "fresh")
    assert set(report.fresh) == set(info["fresh"])
    made[2]["fresh"] = []  # what training does
    saving.save_pretrained(tmp_path / "fresh", *made)
    assert pretrained.from_pretrained(tmp_path / "fresh")[2]["fresh"] == []


def test_fresh_leaves_start_as_the_model_starts_them(exported):
    model, variables, _ = pretrained.from_pretrained(exported[0], num_classes=7, seed=5)
    init = model.init(jax.random.key(5), {"video": video(1)}, train=False)
    for name, leaf in init["params"]["head"].items():  # compiled or not: equal but for rounding
        np.testing.assert_allclose(variables["params"]["head"][name], leaf, rtol=1e-5)


# --- from pretraining -------------------------------------------------------------------------------


def test_asking_for_classes_starts_a_classifier_from_a_pretraining(own_pretraining):
    folder, _, variables = own_pretraining
    for options in ({"num_classes": 2}, {"num_classes": 2, "arch": "videomae"}):
        model, back, info = pretrained.from_pretrained(folder, **options)
        assert model_tree.model_name(model) == "videomae" and model.num_classes == 2
        assert info["fresh"] == ["fc_norm/bias", "fc_norm/scale", "head/bias", "head/kernel"]
        for block in ("block_0", "block_1"):
            assert_equal(back["params"]["encoder"][block], variables["params"]["encoder"][block])
    model, back, _ = pretrained.from_pretrained(folder)
    assert model_tree.model_name(model) == "videomae_pretrain"
    assert_equal(back, variables)


def test_impossible_wishes_are_refused(own_pretraining, exported):
    with pytest.raises(ConfigError, match="no classes; model 'videomae' needs num_classes"):
        pretrained.from_pretrained(own_pretraining[0], arch="videomae")
    with pytest.raises(ConfigError, match="'videomae_pretrain' has no classes; leave num_classes"):
        pretrained.from_pretrained(own_pretraining[0], arch="videomae_pretrain", num_classes=2)
    with pytest.raises(ConversionError, match="'videomae' cannot start model 'videomae_pretrain'"):
        pretrained.from_pretrained(exported[0], arch="videomae_pretrain")
    with pytest.raises(ConfigError, match="no field 'dropp'.*Did you mean 'dropout'"):
        pretrained.from_pretrained(exported[0], dropp=0.1)


def test_a_checkpoint_of_another_shape_lists_every_difference(exported):
    with pytest.raises(ConversionError) as caught:
        pretrained.from_pretrained(exported[0], depth=3, mlp_ratio=4.0)
    text = str(caught.value)
    assert (
        "(hf/videomae) to model 'videomae' does not fit: 15 missing, 0 left over, 6 of anoth"
        in text
    )
    assert (
        "encoder/block_2/norm1/scale (32,)  <- videomae.encoder.layer.2.layernorm_before.w" in text
    )
    assert "videomae.encoder.layer.1.intermediate.dense.weight (64, 32)" in text


def test_the_number_of_frames_and_the_size_are_free(exported):
    model, variables, _ = pretrained.from_pretrained(exported[0])
    x = np.zeros((1, 8, 24, 32, 3), np.float32)
    assert model.apply(variables, {"video": x}, train=False)["logits"].shape == (1, 3)


# --- into given parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("shapes_only", [False, True])
def test_load_into_fills_given_parameters(exported, scan_layers, shapes_only):
    model = classifier(num_classes=5, scan_layers=scan_layers)
    init = model.init(jax.random.key(3), {"video": video(1)}, train=False)
    given = jax.eval_shape(lambda: init) if shapes_only else init
    variables, report = pretrained.load_into(model, given, exported[0])
    assert jax.tree.structure(variables) == jax.tree.structure(init)
    assert set(report.fresh) == {"head/kernel", "head/bias"}
    assert variables["params"]["head"]["kernel"] is given["params"]["head"]["kernel"] or scan_layers
    encoder = unstack_layers(variables["params"])["encoder"]
    assert_equal(encoder, exported[2]["params"]["encoder"])
    assert any("FRESH" in line for line in report.lines())


def test_tables_for_another_size_are_exported_with_it(tmp_path):
    model = pretrained.create_model("timesformer", variant="test", num_classes=3)
    shapes = model_tree.variable_shapes(model, CLIP)
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    saving.save_pretrained(tmp_path / "a", model, variables, INFO)
    _, _, info = pretrained.from_pretrained(tmp_path / "a", image_size=32)
    assert info["clip"] == [4, 32, 32, 3]
    assert (info["preprocessing"]["size"], info["preprocessing"]["short_side"]) == (32, 40)


def test_load_into_takes_a_pretraining(own_pretraining):
    model = classifier(pool="token")
    shapes = model_tree.variable_shapes(model, CLIP)
    variables, report = pretrained.load_into(model, shapes, own_pretraining[0])
    assert set(report.fresh) == {"head/kernel", "head/bias"}  # the encoder's norm is used
    assert_equal(variables["params"]["encoder"], own_pretraining[2]["params"]["encoder"])


def test_load_into_refuses_a_model_of_another_shape(exported):
    model = classifier(depth=1)
    shapes = model_tree.variable_shapes(model, CLIP)
    with pytest.raises(ConversionError, match="0 missing, 15 left over"):
        pretrained.load_into(model, shapes, exported[0])


def test_ones_own_weights_are_merged_by_what_they_are():
    model = classifier()
    shapes = model_tree.variable_shapes(model, CLIP)
    same = random_variables(model)
    merged, report = pretrained.merge_weights(shapes, same, what="runs/a, step 3")
    assert_equal(merged, same)
    assert not report.fresh
    other = random_variables(classifier(num_classes=9))
    merged, report = pretrained.merge_weights(same, other, what="runs/a, step 3")
    assert set(report.fresh) == {"head/kernel", "head/bias"}
    assert merged["params"]["head"]["bias"] is same["params"]["head"]["bias"]
    before = random_variables(autoencoder())
    merged, report = pretrained.merge_weights(stack_layers(same), before, what="runs/p, step 9")
    assert set(report.fresh) == {"fc_norm/bias", "fc_norm/scale", "head/bias", "head/kernel"}
    assert "encoder/norm/bias" in report.waived and "mask_token" in report.waived
    assert_equal(
        unstack_layers(merged["params"])["encoder"]["block_1"],
        before["params"]["encoder"]["block_1"],
    )
    with pytest.raises(
        ConversionError, match="runs/b, step 1 does not fit: 15 missing, 0 left over"
    ):
        pretrained.merge_weights(same, random_variables(classifier(depth=1)), what="runs/b, step 1")
