"""SlowFast's table against PyTorchVideo's published checkpoints."""

import jax
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import apply, source, writing
from jaxvid.core.errors import ConversionError

R50, R101 = "pytorchvideo/slowfast_r50", "pytorchvideo/slowfast_r101"
SMALL = {"model_num_class": 5, "stem_dim_outs": [16, 2], "model_depth": 18}


def small(**overrides):
    fields = {"width": 16, "stage_sizes": (1, 1, 1, 1), **overrides}
    return jaxvid.create_model("slowfast", variant="R50_8x8", num_classes=5, **fields)


@pytest.mark.parametrize("arch, variant", [(R50, "R50_8x8"), (R101, "R101_8x8")])
def test_published(arch, variant):
    name = arch.replace("pytorchvideo/", "ptv_")
    resnet_tables.check_published(name, arch, variant, (32, 224, 224, 3), stride_frames=2)


@pytest.mark.parametrize("variant, frames", [("R50_4x16", 32), ("R101_16x8", 64)])
def test_the_other_published_files_tell_what_they_are(variant, frames):
    """They are not in the hub: the shapes alone, under the hub's name of their depth."""
    arch, clip = (R50 if "R50" in variant else R101), (frames, 224, 224, 3)
    model = jaxvid.create_model("slowfast", variant=variant, num_classes=400)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, clip))
    arguments = model_tree.arguments_of(model)
    state = writing.to_state("slowfast", arguments, shapes, arch, clip).state
    found = source.find(arch).source
    guess = found.guess({key: tuple(x.shape) for key, x in state.items()}, {})
    assert found.clip(guess) == clip
    theirs = found.arguments(guess)
    # (3, 3, …, 1, 1) for every block instead of in turn is the same network.
    assert {n for n in theirs if theirs[n] != arguments[n]} <= set()


def test_differences():
    block = "blocks.4.multipathway_blocks.1.res_blocks.2.branch2"
    for missing in (f"{block}.norm_c.running_mean", "blocks.2.multipathway_fusion.norm.weight"):
        resnet_tables.check_differences("ptv_slowfast_r50", R50, missing, f"{block}.conv_a.weight")


def test_another_number_of_classes():
    resnet_tables.check_fresh_head("ptv_slowfast_r50", R50)


def test_weights_survive_the_way_there_and_back():
    resnet_tables.check_there_and_back(small(), R50, SMALL)
    fields = {"fusion_kernel": 3, "fusion_ratio": 1, "alpha": 8, "channels": 2}
    config = {
        **SMALL,
        "slowfast_fusion_conv_kernel_size": [3, 1, 1],
        "slowfast_conv_channel_fusion_ratio": 1,
        "slowfast_fusion_conv_stride": [8, 1, 1],
        "input_channels": [2, 2],
    }
    resnet_tables.check_there_and_back(small(**fields), R50, config)


def test_every_field_comes_back():
    config = {
        "slowfast_channel_reduction_ratio": 4,
        "stem_dim_outs": [32, 8],
        "stage_spatial_strides": [[1, 2, 2, 1]] * 2,
        "head_pool_kernel_sizes": [[4, 14, 14], [16, 14, 14]],
        "stage_conv_a_kernel_sizes": [
            [[1, 1, 1], [1, 1, 1], [[3, 1, 1], [1, 1, 1]], [5, 1, 1]],
            [[3, 1, 1]] * 4,
        ],
        "dropout_rate": 0.2,
        "note": "not minded",
    }
    found = source.find(R50).source
    arguments = found.arguments(config)
    assert arguments["slow_temporal_kernels"] == ((1,), (1,), (3, 1), (5,))
    assert arguments["channel_reduction"] == 4 and arguments["width"] == 32
    clip = found.clip(config)
    assert clip == (16, 224, 224, 3)
    assert found.arguments(found.config(arguments, clip)) == arguments


def test_the_mean_of_everything_is_written_as_the_windows_of_the_clip():
    model, clip = small(head_pools=None), (16, 100, 100, 3)
    shapes = model_tree.variable_shapes(model, clip)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    assert saving.to_state_dict(model, zeros, arch=R50, clip=clip)
    found = source.find(R50).source
    arguments = {n: x for n, x in model_tree.arguments_of(model).items() if n != "head_pools"}
    config = found.config(arguments, clip)
    assert config["head_pool_kernel_sizes"] == ((4, 4, 4), (16, 4, 4))


@pytest.mark.parametrize(
    "config, message",
    [
        ({"stem_conv_kernel_sizes": [[1, 7, 7], [3, 7, 7]]}, "stem_conv_kernel_sizes="),
        ({"stem_dim_outs": [64, 16]}, r"the model has only stem_dim_outs=\(64, 8\)"),
        ({"slowfast_fusion_conv_kernel_size": [7, 3, 3]}, r"conv_kernel_size=\(7, 1, 1\)"),
        ({"slowfast_fusion_conv_stride": [4, 2, 2]}, r"conv_stride=\(4, 1, 1\)"),
        ({"input_channels": [3, 2]}, r"only input_channels=\(3, 3\)"),
        ({"slowfast_channel_reduction_ratio": [8, 2]}, "reduction_ratio="),
        ({"stage_spatial_strides": [[1, 2, 2, 2], [1, 2, 2, 1]]}, "stage_spatial_strides="),
        ({"model_depth": 34}, "model_depth=34: the reference has only 18, 50, 101, 152"),
        (
            {"stage_conv_a_kernel_sizes": [[[1, 3, 3]] * 4] * 2},
            r"the model has kernels \(t, 1, 1\) there only",
        ),
    ],
)
def test_what_the_model_cannot_be_is_refused(config, message):
    resnet_tables.check_refused(R50, config, message)


def test_depths_of_no_reference():
    resnet_tables.check_inexpressible(
        small(stage_sizes=(2, 1, 1, 1)), R50, r"cannot express this model: stage_sizes=\(2, 1, 1, 1"
    )
    shapes = {k: x.shape for k, x in resnet_tables.shapes_of("ptv_slowfast_r50").items()}
    shapes = {k: x for k, x in shapes.items() if ".0.res_blocks.5." not in k}
    with pytest.raises(ConversionError, match=r"stages of \(3, 4, 5, 3\) blocks"):
        source.find(R50).source.guess(shapes, {})


@pytest.mark.parametrize(
    "arch, changed, message",
    [
        (R50, {"slow": 32, "fast": 4}, r"model_depth=50, stem_dim_outs=\(32, 4\)"),
        (R50, {"reach": 9}, r"kernel_size=\(9, 1, 1\), are of no published"),
        (R101, {"reach": 7}, r"model_depth=101, .*=\(7, 1, 1\), are of no"),
    ],
)
def test_strides_of_unpublished_models_are_not_made_up(arch, changed, message):
    name = arch.replace("pytorchvideo/", "ptv_")
    shapes = {k: x.shape for k, x in resnet_tables.shapes_of(name).items()}
    stem, fusion = "blocks.0.multipathway_blocks", "blocks.0.multipathway_fusion.conv_fast_to_slow"
    slow, fast = changed.get("slow", 64), changed.get("fast", 8)
    shapes[f"{stem}.0.conv.weight"] = (slow, 3, 1, 7, 7)
    shapes[f"{stem}.1.conv.weight"] = (fast, 3, 5, 7, 7)
    old = shapes[f"{fusion}.weight"]
    shapes[f"{fusion}.weight"] = (2 * fast, fast, changed.get("reach", old[2]), 1, 1)
    with pytest.raises(ConversionError, match=f"slowfast_fusion_conv_stride, .*{message}"):
        source.find(arch).source.guess(shapes, {})
