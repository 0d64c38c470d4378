"""Slow's table against PyTorchVideo's published checkpoint."""

import pytest
import resnet_tables

import jaxvid
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

ARCH = "pytorchvideo/slow_r50"


def small(**overrides):
    return jaxvid.create_model("slow", variant="8x8", num_classes=5, width=8, **overrides)


def test_published():
    resnet_tables.check_published("ptv_slow_r50", ARCH, "8x8", (8, 224, 224, 3), stride_frames=8)


def test_differences():
    block = "blocks.4.res_blocks.2.branch2"
    resnet_tables.check_differences(
        "ptv_slow_r50", ARCH, f"{block}.norm_c.running_mean", f"{block}.conv_a.weight"
    )


def test_weights_survive_the_way_there_and_back():
    config = {"model_num_class": 5, "stem_dim_out": 8}
    resnet_tables.check_there_and_back(small(), ARCH, config)


def test_a_head_without_a_window():
    config = {"model_num_class": 5, "stem_dim_out": 8, "head_pool": None}
    model = small(head_pool=None)
    resnet_tables.check_there_and_back(model, ARCH, config)
    assert source.find(ARCH).source.clip(config) == (8, 224, 224, 3)


@pytest.mark.parametrize(
    "arch, words",
    [
        (ARCH, {"activation": "SiLU"}),
        (ARCH, {"stem_pool": None}),
        (ARCH, {"stage1_pool": "MaxPool3d"}),
        (ARCH, {"stage_spatial_h_stride": (1, 2, 2, 1)}),
        ("pytorchvideo/csn_r101", {"stem_pool": None}),
        ("pytorchvideo/slowfast_r50", {"stem_pool": [None, None]}),
        ("pytorchvideo/x3d_m", {"inner_act": "ReLU"}),
        ("pytorchvideo/x3d_m", {"head_pool_act": None}),
    ],
)
def test_layers_that_the_model_does_not_have_are_refused(arch, words):
    with pytest.raises(ConversionError, match=next(iter(words))):
        source.find(arch).source.arguments(words)


def test_strides_said_for_height_and_width():
    both = {"stage_spatial_h_stride": [1, 1, 2, 2], "stage_spatial_w_stride": [1, 1, 2, 2]}
    relu = type("ReLU", (), {})  # torch's, as a class
    arguments = source.find(ARCH).source.arguments({**both, "activation": relu})
    assert arguments["spatial_strides"] == (1, 1, 2, 2)


@pytest.mark.parametrize("arch", ["slow_r50", "c2d_r50", "i3d_r50", "csn_r101", "r2plus1d_r50"])
def test_strides_of_unpublished_models_are_not_made_up(arch):
    shapes = {k: x.shape for k, x in resnet_tables.shapes_of(f"ptv_{arch}").items()}
    stem = "blocks.0.conv.weight"
    depth = 101 if "101" in arch else 50
    message = (
        f"not tell stage_spatial_stride.* model_depth={depth}, stem_dim_out=32, .*=64.*config="
    )
    with pytest.raises(ConversionError, match=message):
        narrow = {**shapes, stem: (32, *shapes[stem][1:])}
        source.find(f"pytorchvideo/{arch}").source.guess(narrow, {})


def test_the_other_clip_length():
    found = source.find(ARCH).source
    config = {"head_pool_kernel_size": [4, 7, 7]}
    variant = jaxvid.create_model("slow", variant="4x16", num_classes=400)
    assert found.clip(config) == (4, 224, 224, 3)
    assert found.preprocessing(config)["stride_frames"] == 16
    assert found.arguments(config)["head_pool"] == variant.head_pool == (4, 7, 7)


def test_temporal_kernels():
    found = source.find(ARCH).source
    assert found.arguments({})["temporal_kernels"] == ((1,), (1,), (3,), (3,))
    config = {"stage_conv_a_kernel_size": [(3, 1, 1), [(3, 1, 1), (1, 1, 1)], (1, 1, 1), (5, 1, 1)]}
    arguments = found.arguments(config)
    assert arguments["temporal_kernels"] == ((3,), (3, 1), (1,), (5,))
    assert found.arguments(found.config(arguments, (8, 224, 224, 3))) == arguments
    square = {"stage_conv_a_kernel_size": ((1, 3, 3),) * 4}
    resnet_tables.check_refused(ARCH, square, r"the model has kernels \(t, 1, 1\) there only")
