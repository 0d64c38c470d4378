"""X3D's table against PyTorchVideo's published checkpoints."""

import jax
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConversionError

SMALL = {"width_factor": 1.0, "depth_factor": 0.5, "head_dim_out": 16, "model_num_class": 5}
FIELDS = {"width_factor": 1.0, "depth_factor": 0.5, "head_width": 16}


def small(**overrides):
    fields = {**FIELDS, **overrides}
    return jaxvid.create_model("x3d", variant="M", num_classes=5, **fields)


@pytest.mark.parametrize(
    "variant, clip, stride_frames",
    [
        ("XS", (4, 160, 160, 3), 12),
        ("S", (13, 160, 160, 3), 6),
        ("M", (16, 224, 224, 3), 5),
        ("L", (16, 312, 312, 3), 5),
    ],
)
def test_published(variant, clip, stride_frames):
    name = f"x3d_{variant.lower()}"
    arch = f"pytorchvideo/{name}"
    resnet_tables.check_published(f"ptv_{name}", arch, variant, clip, stride_frames)
    told = source.find(arch).source.preprocessing({})
    assert told["mean"] == (0.45,) * 3 and told["std"] == (0.225,) * 3
    assert told["short_side"] == {160: 182, 224: 256, 312: 356}[clip[1]]


def test_the_plain_name_knows_l_by_its_depth_and_takes_the_rest_for_m():
    clips = {}
    for name in ("x3d_l", "x3d_s"):
        state = resnet_tables.shapes_of(f"ptv_{name}")
        checkpoint = reading.from_state(state, "x3d")
        clips[name] = (*checkpoint.clip, checkpoint.info["preprocessing"]["short_side"])
    assert clips == {"x3d_l": (16, 312, 312, 3, 356), "x3d_s": (16, 224, 224, 3, 256)}


def test_differences():
    block = "blocks.3.res_blocks.2.branch2"
    for missing in (f"{block}.norm_b.1.block.2.bias", f"{block}.norm_b.0.running_var"):
        resnet_tables.check_differences(
            "ptv_x3d_m", "pytorchvideo/x3d_m", missing, f"{block}.conv_b.weight"
        )


def test_another_number_of_classes():
    resnet_tables.check_fresh_head("ptv_x3d_m", "pytorchvideo/x3d_m")


def test_weights_survive_the_way_there_and_back():
    arch = "pytorchvideo/x3d_m"
    resnet_tables.check_there_and_back(small(), arch, SMALL)
    model = small(head_norm=True, se_ratio=0.0, channels=2)
    config = {**SMALL, "head_bn_lin5_on": True, "se_ratio": 0.0, "input_channel": 2}
    resnet_tables.check_there_and_back(model, arch, config)


def test_the_mean_of_everything_is_written_as_the_window_of_the_clip():
    model, clip = small(head_pool=None), (8, 64, 64, 3)
    shapes = model_tree.variable_shapes(model, clip)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state = saving.to_state_dict(model, zeros, arch="pytorchvideo/x3d_m", clip=clip)
    assert state["blocks.5.proj.weight"].shape == (5, 16)
    found = source.find("pytorchvideo/x3d_m").source
    arguments = {n: x for n, x in model_tree.arguments_of(model).items() if n != "head_pool"}
    config = found.config(arguments, clip)
    assert (config["input_clip_length"], config["input_crop_size"]) == (8, 64)
    assert found.arguments(config)["head_pool"] == (8, 2, 2)


def test_what_the_reference_calls_its_input_is_the_window_not_the_clip():
    found = source.find("pytorchvideo/x3d_m").source
    arguments = found.arguments({"stage_temporal_stride": [1, 2, 1, 1], "input_crop_size": 300})
    assert arguments["head_pool"] == (8, 10, 10)
    assert found.arguments(found.config(arguments, (16, 224, 224, 3))) == arguments
    config = found.config(arguments, (16, 300, 300, 3))
    assert config["input_crop_size"] == 300 and config["input_clip_length"] == 16


@pytest.mark.parametrize(
    "config, message",
    [
        ({"norm_eps": 1e-3}, r"norm_eps=0.001: the model has only norm_eps=1e-05"),
        ({"stem_conv_kernel_size": [3, 3, 3]}, r"stem_conv_kernel_size=\(3, 3, 3\)"),
        ({"stem_conv_stride": [1, 1, 1]}, r"the model has only stem_conv_stride=\(1, 2, 2\)"),
        ({"stage_conv_kernel_size": [[1, 3, 3]] * 4}, "stage_conv_kernel_size="),
        ({"head_output_with_global_average": False}, "head_output_with_global_average=False"),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    resnet_tables.check_refused("pytorchvideo/x3d_m", config, message)


def test_notes_are_not_minded():
    found = source.find("pytorchvideo/x3d_m").source
    assert found.arguments({"note": "x"}) == found.arguments({})
    assert found.arguments({"norm_momentum": 0.01})["bn_momentum"] == 0.99


def test_depths_that_nobody_published_need_a_config():
    shapes = {k: x.shape for k, x in resnet_tables.shapes_of("ptv_x3d_m").items()}
    shapes = {k: x for k, x in shapes.items() if not k.startswith("blocks.3.res_blocks.10")}
    with pytest.raises(ConversionError, match=r"\[3, 5, 10, 7\] blocks .*create_x3d"):
        source.find("pytorchvideo/x3d_m").source.guess(shapes, {})


def test_a_window_that_no_input_makes_cannot_be_written():
    resnet_tables.check_inexpressible(
        small(head_pool=(16, 7, 5)), "pytorchvideo/x3d_m", r"head_pool: \(16, 7, 5\) here"
    )
