"""Video Swin's table against torchvision's published checkpoints, MMAction2's keys, and 2D Swin."""

import jax
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import reading, source
from jaxvid.convert import video_swin as table
from jaxvid.core.errors import ConversionError
from jaxvid.nn.window import relative_bias

ARCHS = {v: f"torchvision/swin3d_{v.lower()}" for v in "TSB"}
SMALL = {"width": 8, "depths": (2, 1), "num_heads": (2, 2), "window": (4, 3, 3), "mlp_ratio": 2.0}
CLIP = (4, 32, 32, 3)
rng = np.random.default_rng(0)


def small(**fields):
    return jaxvid.create_model("video_swin", variant="T", num_classes=5, **{**SMALL, **fields})


def drawn(model, clip=CLIP):
    shapes = model_tree.variable_shapes(model, clip)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("variant", "TSB")
def test_published(variant):
    name, arch = f"tv_swin3d_{variant.lower()}", ARCHS[variant]
    resnet_tables.check.check_manifest(name, arch, {}, waived="relative_position_index")
    found = source.find(arch).source
    arguments = found.arguments({})
    assert found.clip({}) == (32, 224, 224, 3)
    back = found.config(arguments, found.clip({}))
    assert found.arguments(back) == arguments
    shapes = {key: x.shape for key, x in resnet_tables.shapes_of(name).items()}
    assert found.arguments(found.guess(shapes, {})) == arguments
    model = jaxvid.create_model("video_swin", variant=variant, num_classes=400)
    assert {field: getattr(model, field) for field in arguments} == arguments
    told = found.preprocessing({})
    assert told["mean"] == (0.485, 0.456, 0.406) and told["std"] == (0.229, 0.224, 0.225)
    assert (told["sampling"], told["stride_frames"], told["short_side"]) == ("dense", 2, 256)


def test_the_plain_name_knows_every_size_by_its_shapes():
    for variant, arch in ARCHS.items():
        state = resnet_tables.shapes_of(f"tv_swin3d_{variant.lower()}")
        checkpoint = reading.from_state(state, "video_swin")
        assert dict(checkpoint.arguments) == source.find(arch).source.arguments({})


def test_differences():
    for missing in ("features.4.5.attn.relative_position_bias_table", "features.5.norm.bias"):
        resnet_tables.check_differences(
            "tv_swin3d_t", ARCHS["T"], missing, "features.2.1.mlp.3.weight"
        )


def test_another_number_of_classes():
    state = {
        k: np.zeros(x.shape, x.dtype) for k, x in resnet_tables.shapes_of("tv_swin3d_t").items()
    }
    model, _, info = jaxvid.from_state_dict(state, arch=ARCHS["T"], num_classes=7)
    assert model.num_classes == 7 and info["fresh"] == ["head/bias", "head/kernel"]


@pytest.mark.parametrize("arch", [ARCHS["T"], ARCHS["B"], "mmaction/swin"])
def test_weights_survive_the_way_there_and_back(arch):
    model = small()
    variables = drawn(model)
    state = saving.to_state_dict(model, variables, arch=arch, clip=CLIP)
    indices = {k: x for k, x in state.items() if k.endswith("relative_position_index")}
    assert len(indices) == 3 and all(x.dtype == np.int64 for x in indices.values())
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for config in (source.find(arch).source.config(model_tree.arguments_of(model), CLIP), None):
        again, back, info = pretrained.from_state_dict(wrapped, arch=arch, config=config)
        jax.tree.map(np.testing.assert_array_equal, back, variables)
        assert set(info["waived"]) == set(indices) and info["fresh"] == []
        assert model_tree.arguments_of(again) == model_tree.arguments_of(model)


def test_the_index_that_is_written_finds_the_bias_in_the_flat_table():
    offsets = (7, 5, 5)
    bias = rng.normal(size=(*offsets, 2)).astype(np.float32)
    index = table.position_index(offsets)
    assert index.shape == (36, 36) and index[0, 0] == index[35, 35] == 7 * 5 * 5 // 2
    flat = bias.reshape(-1, 2)[index]
    np.testing.assert_array_equal(np.moveaxis(flat, -1, 0), relative_bias(bias, 36))


def test_keys_of_mmaction():
    model = small(channels=2)
    variables = drawn(model, (8, 64, 64, 2))
    state = saving.to_state_dict(model, variables, arch="mmaction/swin", clip=(8, 64, 64, 2))
    assert state["backbone.layers.0.downsample.reduction.weight"].shape == (16, 32)
    assert state["backbone.layers.1.blocks.0.attn.qkv.bias"].shape == (48,)
    assert state["cls_head.fc_cls.weight"].shape == (5, 16)
    found = source.find("mmaction/swin").source
    config = found.config(model_tree.arguments_of(model), (8, 64, 64, 2))
    assert found.clip(config) == (8, 64, 64, 2)
    later = {k.replace("backbone.norm.", "backbone.norm3."): x for k, x in state.items()}
    assert "backbone.norm3.bias" in later
    assert source.find("video_swin", later).arch == "mmaction/swin"
    _, back, _ = pretrained.from_state_dict(later, arch="mmaction/swin")
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def images():
    """A Swin of images in Microsoft's keys: that of clips without time."""
    state = saving.to_state_dict(small(), drawn(small()), arch="mmaction/swin", clip=CLIP)
    state = {
        k.removeprefix("backbone.").replace("cls_head.fc_cls", "head"): x for k, x in state.items()
    }
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, 0]
    for key, x in state.items():
        if key.endswith("bias_table"):
            state[key] = x[: 5 * 5]
        if key.endswith("position_index"):
            state[key] = table.position_index((1, 5, 5))
    state["layers.0.blocks.1.attn_mask"] = np.zeros((4, 9, 9), np.float32)
    return state


def test_a_start_from_images():
    state = images()
    for config in (None, {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 3}):
        config = config and {**config, "num_classes": 5, "mlp_ratio": 2.0}
        model, variables, info = pretrained.from_state_dict(state, arch="swin/swin", config=config)
        assert model.window == (8, 3, 3) and model.tubelet_size == 2 and model.num_classes == 5
        encoder = variables["params"]["encoder"]
        kernel = state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_allclose(encoder["patch_embed"]["kernel"].sum(0), kernel, atol=1e-6)
        np.testing.assert_array_equal(*encoder["patch_embed"]["kernel"])
        bias = encoder["stage_1"]["block_1"]["attention"]["relative_position_bias"]
        assert bias.shape == (15, 5, 5, 2)
        flat = state["layers.0.blocks.1.attn.relative_position_bias_table"]
        for at_offset in bias:
            np.testing.assert_array_equal(at_offset.reshape(25, 2), flat)
        assert sum(k.endswith(("_index", "attn_mask")) for k in info["waived"]) == 4
    assert source.find("video_swin", state).arch == "swin/swin"
    assert info["preprocessing"]["num_frames"] == 32
    model, _, info = pretrained.from_state_dict(state, arch="swin/swin", num_classes=2)
    assert info["fresh"] == ["head/bias", "head/kernel"]


def test_clips_are_no_images():
    with pytest.raises(ConversionError, match="swin/swin is a Swin of images"):
        saving.to_state_dict(small(), drawn(small()), arch="swin/swin", clip=CLIP)
    state = images()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, :3]
    with pytest.raises(ConversionError, match=r"patch_embed.proj.weight \(8, 3, 3, 4\) "):
        pretrained.from_state_dict(state, arch="swin/swin")


@pytest.mark.parametrize("field", [{"channels": 2}, {"norm_eps": 1e-3}])
def test_what_torchvision_cannot_express(field, caplog):
    model = small(**field)
    variables = drawn(model, (*CLIP[:3], model.channels))
    if "norm_eps" in field:  # said, as little comes of it
        saving.to_state_dict(model, variables, arch=ARCHS["T"], clip=CLIP)
        assert "norm_eps is 0.001 here, always 1e-05 there" in caplog.text
    else:
        with pytest.raises(ConversionError, match="channels: 2 here, 3 there"):
            saving.to_state_dict(model, variables, arch=ARCHS["T"], clip=CLIP)


@pytest.mark.parametrize("arch", [ARCHS["T"], "mmaction/swin", "swin/swin"])
@pytest.mark.parametrize(
    "config, message",
    [
        ({"qkv_bias": False}, "qkv_bias=False: the model has only qkv_bias=True"),
        ({"patch_norm": False}, "patch_norm=False"),
        ({"qk_scale": 0.5, "ape": True}, "qk_scale=0.5, ape=True: the model has only"),
        ({"depths": [2, 2]}, r"depths \[2, 2\] with num_heads \(3, 6, 12, 24\)"),
        ({"depths": [1] * 5, "num_heads": [1] * 5}, "4 stages at most"),
    ],
)
def test_what_the_model_cannot_be_is_refused(arch, config, message):
    resnet_tables.check_refused(arch, config, message)


def test_patches_are_squares():
    resnet_tables.check_refused(ARCHS["T"], {"patch_size": [2, 4, 2]}, "squares only")


@pytest.mark.parametrize(
    "rows, tokens, expected",
    [
        (15 * 13 * 13, None, (8, 7, 7)),
        (31 * 13 * 13, 16 * 49, (16, 7, 7)),
        (7 * 5 * 5, 36, (4, 3, 3)),
        (9 * 13 * 13, 5 * 49, (5, 7, 7)),
        (9 * 13 * 13, 20 * 20, (1, 20, 20)),
    ],
)
def test_the_window_is_read_off_the_table(rows, tokens, expected):
    assert table.guess_window(rows, tokens, in_time=True) == expected


def test_windows_of_images():
    assert table.guess_window(23 * 23, 144, in_time=False) == 12
    for rows, in_time in ((24, True), (15 * 13 * 13, False)):
        with pytest.raises(ConversionError, match=f"{rows} rows is of no window"):
            table.guess_window(rows, None, in_time=in_time)
