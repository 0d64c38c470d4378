"""VideoMamba's table: config and weights there and back, tables resized, images, what is refused."""

import functools
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import apply, reading, source, writing
from jaxvid.core.errors import ConversionError
from jaxvid.models import videomamba

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH, IMAGE = "videomamba/videomamba", "videomamba/image"
FOUND, OF_IMAGES = source.find(ARCH).source, source.find(IMAGE).source
CLIP = (4, 16, 16, 3)
INFO = {
    "preprocessing": {
        "num_frames": 4,
        "size": 16,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "class_names": ["walk", "run", "fight"],
}
SIZES = {
    "tiny": {},
    "small": {"embed_dim": 384},
    "middle": {"embed_dim": 576, "depth": 32},
}


def tiny(**fields):
    fields = {"depth": 2, "width": 32, **fields}
    return jaxvid.create_model("videomamba", variant="test", num_classes=3, **fields)


def random_variables(model, clip=CLIP):
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, clip)
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def config_of(model, variables, clip=CLIP):
    flat = {
        f"encoder/{name}": variables["params"]["encoder"][name]
        for name in ("spatial_position_embedding", "temporal_position_embedding")
    }
    _, arguments = FOUND.prepare_save(flat, model_tree.arguments_of(model))
    return FOUND.config(arguments, clip)


@functools.cache
def saved():
    """(model, variables, its weights under the reference's keys, its config)"""
    model = tiny()
    variables = random_variables(model)
    state = saving.to_state_dict(model, variables, arch=ARCH, clip=CLIP)
    return model, variables, state, config_of(model, variables)


# --- names and sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", SIZES)
def test_published_sizes(variant):
    """The keys and shapes of a published checkpoint, by what the reference's code makes."""
    config = {**SIZES[variant], "num_classes": 400, "num_frames": 16}
    arguments, clip = FOUND.arguments(config), FOUND.clip(config)
    model = jaxvid.create_model("videomamba", variant=variant, num_classes=400)
    tables = {"num_frames": 16, "image_size": 224}
    assert {name: getattr(model, name) for name in arguments} == {
        **arguments,
        **dict.fromkeys(tables),
    }
    assert clip == (16, 224, 224, 3) and tables.items() <= arguments.items()
    back = FOUND.config(arguments, clip)
    assert FOUND.arguments(back) == arguments and FOUND.clip(back) == clip
    shapes = model_tree.variable_shapes(videomamba.VideoMamba(**arguments), clip)
    state = writing.to_state(
        "videomamba", arguments, apply.flatten_variables(shapes), ARCH, clip
    ).state
    shapes = {key: tuple(x.shape) for key, x in state.items()}
    assert len(shapes) == 8 + 17 * arguments["depth"]
    width, rank = arguments["width"], math.ceil(arguments["width"] / 16)
    some = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "temporal_pos_embedding": (1, 16, width),
        "patch_embed.proj.weight": (width, 3, 1, 16, 16),
        "layers.1.mixer.conv1d_b.weight": (2 * width, 1, 4),
        "layers.1.mixer.x_proj_b.weight": (rank + 32, 2 * width),
        "layers.1.mixer.dt_proj.weight": (2 * width, rank),
        "layers.1.mixer.A_b_log": (2 * width, 16),
        "layers.1.norm.weight": (width,),
        "norm_f.weight": (width,),
        "head.weight": (400, width),
    }
    assert some.items() <= shapes.items()
    guessed = FOUND.guess(shapes, {})
    assert FOUND.arguments(guessed) == arguments and FOUND.clip(guessed) == clip


def test_every_key_of_the_reference_is_used_and_written_again():
    told, weights = check.facts("orig_videomamba"), check.weights("orig_videomamba")
    config = told["config"]
    model, variables, info = jaxvid.from_state_dict(weights, arch=ARCH, config=config)
    assert info["fresh"] == [] and info["waived"] == {} and info["clip"] == [4, 32, 32, 3]
    assert sum(x.size for x in jax.tree.leaves(variables)) == told["param_count"] == 62026
    back = saving.to_state_dict(model, variables, arch=ARCH, clip=(4, 32, 32, 3))
    assert back.keys() == weights.keys()
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key])
    shapes = {key: x.shape for key, x in weights.items()}
    assert FOUND.arguments(FOUND.guess(shapes, {})) == FOUND.arguments(config)


def test_how_it_was_trained():
    for config in ({}, {"num_classes": 400}, {"num_classes": 174}):
        told = FOUND.preprocessing(config)
        assert told["mean"] == (0.485, 0.456, 0.406) and told["sampling"] == "uniform"


def test_the_plain_name_knows_clips_from_images():
    state = saved()[2]
    checkpoint = reading.from_state(state, "videomamba")
    assert checkpoint.info["source"]["arch"] == ARCH
    assert checkpoint.arguments["tubelet_size"] == 2 and checkpoint.clip == CLIP
    checkpoint = reading.from_state(image_state()[1], "videomamba")
    assert checkpoint.info["source"]["arch"] == IMAGE and checkpoint.clip == (8, 16, 16, 3)


# --- weights, there and back ------------------------------------------------------------------------


def test_weights_survive_the_way_there_and_back():
    for fields in ({}, {"d_conv": 3, "dt_rank": 5, "expand": 3, "tubelet_size": 1}):
        model = tiny(**fields)
        variables = random_variables(model)
        state = saving.to_state_dict(model, variables, arch=ARCH, clip=CLIP)
        wrapped = {f"module.{key}": value for key, value in state.items()}
        for config in (config_of(model, variables), None):
            again, back, info = jaxvid.from_state_dict(wrapped, arch=ARCH, config=config)
            jax.tree.map(np.testing.assert_array_equal, back, variables)
            assert info["fresh"] == [] and info["waived"] == {}
            ours, theirs = model_tree.arguments_of(model), model_tree.arguments_of(again)
            of_starts = {"start", "position_init_std", "time_init_std"}
            differing = {n for n in ours if ours[n] != theirs[n]}
            assert differing <= of_starts | {"num_frames", "image_size"}


def test_a_difference_is_an_error_that_lists_all():
    _, _, state, config = saved()
    state = dict(state)
    del state["layers.1.mixer.D_b"]
    state["extra.weight"] = np.zeros(3, np.float32)
    state["layers.0.mixer.A_log"] = np.zeros((64, 9), np.float32)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch=ARCH, config=config)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said and "nothing was loaded" in said
    assert "<- layers.1.mixer.D_b" in said and "extra.weight (3,)" in said
    assert "layers.0.mixer.A_log (64, 9)" in said


def test_another_number_of_classes():
    _, _, state, config = saved()
    model, _, info = jaxvid.from_state_dict(state, arch=ARCH, config=config, num_classes=7)
    assert model.num_classes == 7 and info["fresh"] == ["head/bias", "head/kernel"]


@pytest.mark.parametrize(
    "config, message",
    [
        ({"rms_norm": False}, "rms_norm=False: the model has only rms_norm=True"),
        ({"bimamba": False}, "bimamba=False"),
        ({"ssm_cfg": {"bias": True}}, "ssm_cfg has bias: the model knows d_state, d_conv"),
        ({"patch_size": [16, 8]}, r"patch_size \[16, 8\]: the model has squares only"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    with pytest.raises(ConversionError, match=message):
        FOUND.arguments(config)


def test_what_the_reference_cannot_be_is_not_written():
    model = tiny()
    with pytest.raises(ConversionError, match="2 × 3 patches: the reference has squares only"):
        saving.to_state_dict(model, random_variables(model, (4, 16, 24, 3)), arch=ARCH, clip=CLIP)


# --- tables -----------------------------------------------------------------------------------------


@functools.cache
def interpolated():
    """(places for 4 × 4 patches, times for 3 tubelets) as the authors' code resizes those of `saved`."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    state = saved()[2]
    resize = torch.nn.functional.interpolate
    places = torch.tensor(state["pos_embed"][:, 1:]).reshape(1, 2, 2, 32).permute(0, 3, 1, 2)
    places = resize(places, size=(4, 4), mode="bicubic", align_corners=False)
    times = torch.tensor(state["temporal_pos_embedding"]).permute(0, 2, 1)
    times = resize(times, size=(3,), mode="linear", align_corners=False)
    return places[0].permute(1, 2, 0).numpy(), times[0].T.numpy()


def check_tables(params):
    places, times = interpolated()
    encoder, before = params["encoder"], saved()[1]["params"]["encoder"]
    np.testing.assert_allclose(encoder["spatial_position_embedding"], places, atol=1e-6)
    np.testing.assert_allclose(encoder["temporal_position_embedding"], times, atol=1e-6)
    for same in ("class_position_embedding", "class_token"):
        np.testing.assert_array_equal(encoder[same], before[same])


@pytest.mark.torch
def test_tables_of_other_sizes_are_resized_when_loaded():
    model, variables, state, config = saved()
    other, back, info = jaxvid.from_state_dict(
        state, arch=ARCH, config=config, num_frames=6, image_size=32
    )
    check_tables(back["params"])
    assert info["preprocessing"]["num_frames"] == 6
    # What is loaded for the larger clip is what the smaller tables give for it.
    video = np.random.default_rng(1).normal(size=(1, 6, 32, 32, 3)).astype(np.float32)
    run = jax.jit(lambda model, v: model.apply(v, {"video": video}, train=False), static_argnums=0)
    np.testing.assert_allclose(
        run(other, back)["logits"], run(model, variables)["logits"], atol=1e-5
    )
    # And into variables of one's own, as training starts from a checkpoint.
    shapes = model_tree.variable_shapes(tiny(), (6, 32, 32, 3))
    merged, report = pretrained.load_into(tiny(), shapes, reading.from_state(state, ARCH, config))
    assert not report.fresh
    check_tables(merged["params"])


@pytest.mark.torch
def test_ones_own_weights_start_it_for_other_clips():
    shapes = model_tree.variable_shapes(tiny(), (6, 32, 32, 3))
    merged, report = pretrained.merge_weights(shapes, saved()[1], what="runs/a, step 3")
    assert not report.fresh
    check_tables(merged["params"])
    with pytest.raises(ConversionError, match="runs/b, step 1 does not fit"):
        pretrained.merge_weights(shapes, random_variables(tiny(depth=1)), what="runs/b, step 1")


def test_tables_that_are_none_are_named():
    _, _, state, config = saved()
    for key, wrong, words in (
        ("pos_embed", np.zeros((1, 7, 32)), r"shape \(1, 1 \+ s·s, D\), not \(1, 7, 32\)"),
        ("pos_embed", np.zeros((5, 32)), r"has shape \(1, 1 \+ s·s, D\), not \(5, 32\)"),
        ("temporal_pos_embedding", np.zeros((4, 32)), "shape .4, 32. has 2 axes"),
    ):
        with pytest.raises(ConversionError, match=words):
            jaxvid.from_state_dict({**state, key: wrong}, arch=ARCH, config=config)
    own = source.transfers("videomamba")["videomamba"].entries
    path = "encoder/temporal_position_embedding"
    wanted = {path: np.zeros((3, 32), np.float32)}
    with pytest.raises(ConversionError, match="tables of 2 and 1 axes"):
        apply.load({path: np.zeros((2, 2, 32), np.float32)}, wanted, own)


def test_an_export_says_the_size_of_its_tables_and_is_resized_when_loaded(tmp_path):
    model = tiny()
    variables = random_variables(model, (6, 16, 16, 3))
    assert saving.save_pretrained(tmp_path / "export", model, variables, INFO) == ARCH
    again, back, info = jaxvid.from_pretrained(tmp_path / "export")
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert (again.num_frames, again.image_size) == (6, 16)
    assert info["class_names"] == INFO["class_names"]
    model, back, info = jaxvid.from_pretrained(tmp_path / "export", num_classes=7, image_size=32)
    assert info["fresh"] == ["head/bias", "head/kernel"] and model.num_classes == 7
    assert back["params"]["encoder"]["spatial_position_embedding"].shape == (4, 4, 32)


# --- images -----------------------------------------------------------------------------------------


@functools.cache
def image_state():
    """(variables of single frames without times, their weights under the keys of an image model)"""
    model = tiny(tubelet_size=1)
    variables = random_variables(model)
    variables["params"]["encoder"]["temporal_position_embedding"][:] = 0.0
    return variables, saving.to_state_dict(model, variables, arch=IMAGE, clip=CLIP)


def test_an_image_model_starts_it():
    theirs, state = image_state()
    assert "temporal_pos_embedding" not in state
    assert state["patch_embed.proj.weight"].shape == (32, 3, 8, 8)
    model, variables, info = jaxvid.from_state_dict(state, arch=IMAGE, num_classes=7)
    assert model.num_classes == 7 and info["fresh"] == ["head/bias", "head/kernel"]
    assert info["preprocessing"]["num_frames"] == 8
    ours, image = variables["params"]["encoder"], theirs["params"]["encoder"]
    ours, image = ({k: x for k, x in e.items() if "temporal" not in k} for e in (ours, image))
    jax.tree.map(np.testing.assert_array_equal, ours, image)
    times = variables["params"]["encoder"]["temporal_position_embedding"]
    assert times.shape == (8, 32) and not times.any()


def test_an_image_model_starts_tubelets_in_their_middle_frame():
    theirs, state = image_state()
    _, variables, _ = jaxvid.from_state_dict(state, arch=IMAGE, tubelet_size=2, image_size=32)
    encoder, image = variables["params"]["encoder"], theirs["params"]["encoder"]
    kernel = encoder["patch_embed"]["kernel"]
    assert kernel.shape == (2, 8, 8, 3, 32) and not kernel[0].any()
    np.testing.assert_array_equal(kernel[1], image["patch_embed"]["kernel"][0])
    assert encoder["temporal_position_embedding"].shape == (4, 32)
    places = videomamba.resize_places(jnp.asarray(image["spatial_position_embedding"]), (4, 4))
    np.testing.assert_allclose(encoder["spatial_position_embedding"], places, atol=1e-6)


def test_what_moves_is_not_written_as_an_image_model():
    model, variables, _, _ = saved()
    with pytest.raises(ConversionError, match="tubelet_size=2 and positions in time: a model of"):
        saving.to_state_dict(model, variables, arch=IMAGE, clip=CLIP)
