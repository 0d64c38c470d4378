"""X-CLIP's table: published checkpoints, configs both ways, tables of other sizes, starts from CLIP."""

import functools
import gzip
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source
from jaxvid.convert.clip_towers import resize_bicubic
from jaxvid.core.errors import ConversionError
from jaxvid.core.tree import flatten

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import check

PUBLISHED = {
    "hf_xclip-base-patch16": {"vision_config": {"patch_size": 16, "num_frames": 8}},
    "hf_xclip-base-patch32": {"vision_config": {"patch_size": 32, "num_frames": 8}},
}
IDS = np.array([[510, 7, 8, 511], [510, 9, 511, 511]], np.int32)
PREPROCESSING = {"num_frames": 8, "size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    check.check_manifest(name, "hf/xclip", PUBLISHED[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_config_survives_the_way_there_and_back(name):
    found = source.find("hf/xclip").source
    arguments, clip = found.arguments(PUBLISHED[name]), found.clip(PUBLISHED[name])
    assert clip == (8, 224, 224, 3)
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    variant = jaxvid.create_model("xclip", variant="B/" + name[-2:])
    assert {n: getattr(variant, n) for n in arguments} == arguments


def test_old_buffers_are_left_aside():
    state, checkpoint = published()
    state["vision_model.embeddings.position_ids"] = np.zeros((1, 197), np.int64)
    report = load(state, checkpoint)
    assert report.waived == {"vision_model.embeddings.position_ids": "the numbers 0, 1, 2, …"}


def published():
    listing = json.loads(
        gzip.decompress((GOLDENS / "manifests" / "hf_xclip-base-patch16.json.gz").read_bytes())
    )
    state = {
        row[0]: jax.ShapeDtypeStruct(tuple(row[1]), np.float32) for row in listing["state_dict"]
    }
    config = PUBLISHED["hf_xclip-base-patch16"]
    return state, reading.from_state(state, "hf/xclip", config)


@functools.cache
def published_shapes():
    _, checkpoint = published()
    model = jaxvid.create_model("xclip", variant="B/16")
    return apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))


def load(state, checkpoint):
    return apply.load(state, published_shapes(), checkpoint.entries)[1]


def test_differences_are_listed_all_at_once():
    state, checkpoint = published()
    del state["vision_model.encoder.layers.3.message_attn.k_proj.bias"]
    state["mit.encoder.layers.1.mlp.fc1.bias"] = np.zeros(3, np.float32)
    state["prompts_generator.alpha"] = np.zeros(3, np.float32)
    with pytest.raises(ConversionError) as error:
        load(state, checkpoint)
    text = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in text
    assert "visual/block_3/message_attention/key/bias" in text
    assert "mit.encoder.layers.1.mlp.fc1.bias" in text and "prompt/alpha (512,)" in text


@pytest.mark.parametrize(
    "config, message",
    [
        ({"vision_config": {"hidden_act": "gelu"}}, "vision_config.hidden_act 'gelu'"),
        ({"text_config": {"hidden_act": "gelu"}}, "text_config.hidden_act 'gelu'"),
        (
            {"prompt_hidden_act": "gelu"},
            "prompt_hidden_act 'gelu': the model has 'quick_gelu' only",
        ),
        ({"text_config_dict": {"hidden_act": "relu"}}, "text_config.hidden_act 'relu'"),
        ({"projection_dim": 768}, "mit_hidden_size 512 and projection_dim 768: .* equal"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    with pytest.raises(ConversionError, match=message):
        source.find("hf/xclip").source.arguments(config)


def test_preprocessing():
    told = source.find("hf/xclip").source.preprocessing({})
    assert told["mean"] == (0.485, 0.456, 0.406) and told["sampling"] == "uniform"


# --- weights --------------------------------------------------------------------------------------


def filled(model, clip=(8, 32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)
    shapes = model_tree.variable_shapes(model, clip)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(x.dtype) * 0.3, shapes)


def small(**fields):
    return jaxvid.create_model("xclip", variant="test", **fields)


def assert_same(one, other):
    one, other = flatten(one), flatten(other)
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path], err_msg=path)


def test_an_export_is_read_again(tmp_path):
    model = small(class_texts=IDS)
    variables = filled(model)
    info = {"preprocessing": PREPROCESSING, "class_names": ["a fight", "a hug"]}
    assert saving.save_pretrained(tmp_path / "x", model, variables, info) == "hf/xclip"
    again, back, told = pretrained.from_pretrained(tmp_path / "x")
    assert again == model and told["class_names"] == ["a fight", "a hug"]
    assert_same(back, variables)


def test_tables_are_resized_for_other_frames_and_sizes():
    variables = filled(small())
    state = saving.to_state_dict(small(), variables, arch="hf/xclip", clip=(8, 32, 32, 3))
    config = source.find("hf/xclip").source.config(model_tree.arguments_of(small()), (8, 32, 32, 3))
    checkpoint = reading.from_state(state, "hf/xclip", config)
    other = filled(small(), (4, 48, 48, 3), seed=1)
    merged, report = pretrained.load_into(small(), other, checkpoint)
    assert not report.fresh
    places = variables["params"]["visual"]["position_embedding"]
    got = merged["params"]["visual"]["position_embedding"]
    np.testing.assert_allclose(got, resize_bicubic(places, 6, 6), atol=1e-7)
    times = variables["params"]["integration"]["position_embedding"]
    got = merged["params"]["integration"]["position_embedding"]
    np.testing.assert_allclose(got, (times[::2] + times[1::2]) / 2, atol=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [(7, 14), (14, 7), (4, 5), (3, 3)])
def test_bicubic_is_torchs(sizes):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((sizes[0], sizes[0], 3), dtype=np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(table).permute(2, 0, 1)[None], size=(sizes[1], 6), mode="bicubic"
    )
    ours = resize_bicubic(table, sizes[1], 6)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=1e-5)


def test_a_table_that_is_no_square_cannot_be_resized():
    state, checkpoint = published()
    key = "vision_model.embeddings.position_embedding.weight"
    state[key] = jax.ShapeDtypeStruct((1 + 7 * 11, 768), np.float32)
    with pytest.raises(ConversionError, match="77 places are neither a map of 14×14 nor a square"):
        load(state, checkpoint)


def test_training_starts_from_clip(tmp_path):
    clip = jaxvid.create_model("clip_pooling", variant="test", pool="mean")
    variables = filled(clip)
    info = {"preprocessing": PREPROCESSING, "class_names": None}
    saving.save_pretrained(tmp_path / "clip", clip, variables, info, arch="hf/clip")
    model, mine, told = pretrained.from_pretrained(
        tmp_path / "clip", arch="xclip", integration_num_heads=4, prompt_num_heads=4
    )
    assert type(model).__name__ == "XCLIP"
    fresh = {path.split("/block_")[0].split("/")[0] for path in told["fresh"]}
    assert fresh == {"visual", "integration", "prompt", "prompt_norm", "prompt_projection"}
    assert all("message" in path for path in told["fresh"] if path.startswith("visual"))
    ours, theirs = flatten(mine["params"]), flatten(variables["params"])
    assert not theirs.keys() - ours.keys()
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


@pytest.mark.torch
def test_transformers_reads_an_export_with_the_same_logits(tmp_path):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = small(prompt_depth=2)
    variables = filled(model)
    info = {"preprocessing": PREPROCESSING, "class_names": None}
    saving.save_pretrained(tmp_path / "x", model, variables, info)
    theirs, report = transformers.XCLIPModel.from_pretrained(
        tmp_path / "x", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    video = np.random.default_rng(1).standard_normal((2, 8, 32, 32, 3), dtype=np.float32)
    with torch.no_grad():
        wanted = theirs.eval()(
            input_ids=torch.from_numpy(IDS.astype(np.int64)),
            pixel_values=torch.from_numpy(video).permute(0, 1, 4, 2, 3),
        ).logits_per_video.numpy()
    inputs = {"video": video, "text_ids": IDS}
    got = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])(variables, inputs)
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    assert np.ptp(wanted) > 1e-3
    # And back: what transformers writes is read with the same logits.
    theirs.save_pretrained(tmp_path / "theirs")
    again, back, told = pretrained.from_pretrained(tmp_path / "theirs")
    assert told["fresh"] == [] and told["preprocessing"]["num_frames"] == 8
    got = jax.jit(lambda v, x: again.apply(v, x, train=False)["logits"])(back, inputs)
    np.testing.assert_allclose(got, wanted, atol=2e-5)
