"""R(2+1)D's tables against torchvision's and PyTorchVideo's published checkpoints."""

import resnet_tables

import jaxvid
from jaxvid.convert import source

TORCHVISION, PYTORCHVIDEO = "torchvision/r2plus1d_18", "pytorchvideo/r2plus1d_r50"


def small(variant, **overrides):
    return jaxvid.create_model("r2plus1d", variant=variant, num_classes=5, **overrides)


def test_published():
    clip = (16, 112, 112, 3)
    resnet_tables.check_published("tv_r2plus1d_18", TORCHVISION, "18", clip, stride_frames=2)
    clip = (16, 224, 224, 3)
    resnet_tables.check_published("ptv_r2plus1d_r50", PYTORCHVIDEO, "50", clip, stride_frames=4)


def test_differences():
    resnet_tables.check_differences(
        "tv_r2plus1d_18", TORCHVISION, "stem.4.weight", "layer1.0.conv1.0.3.weight"
    )
    block = "blocks.1.res_blocks.0.branch2"
    resnet_tables.check_differences(
        "ptv_r2plus1d_r50", PYTORCHVIDEO, f"{block}.conv_b.norm.bias", f"{block}.conv_c.weight"
    )


def test_weights_survive_the_way_there_and_back():
    model = small("18", stage_sizes=(1, 1, 1, 1))
    config = {"num_classes": 5, "layers": [1, 1, 1, 1]}
    resnet_tables.check_there_and_back(model, TORCHVISION, config)
    config = {"model_num_class": 5, "stem_dim_out": 8}
    resnet_tables.check_there_and_back(small("50", width=8), PYTORCHVIDEO, config)


def test_the_keys_tell_the_two_apart():
    for name, arch in (("tv_r2plus1d_18", TORCHVISION), ("ptv_r2plus1d_r50", PYTORCHVIDEO)):
        assert source.find("r2plus1d", resnet_tables.shapes_of(name)).arch == arch


def test_what_the_references_cannot_be():
    resnet_tables.check_inexpressible(small("18"), PYTORCHVIDEO, "cannot express this model")
    resnet_tables.check_inexpressible(small("50"), TORCHVISION, "bottleneck: True here, False")
    wide = ((1, 1, 1), (3, 1, 1), (3, 1, 1), (3, 1, 1))
    resnet_tables.check_refused(
        PYTORCHVIDEO, {"stage_conv_a_kernel_size": wide}, r"stage_conv_a_kernel_size=.* has only"
    )
