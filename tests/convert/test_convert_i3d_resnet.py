"""The table of I3D on a ResNet against PyTorchVideo's published checkpoint."""

import resnet_tables

import jaxvid

ARCH = "pytorchvideo/i3d_r50"


def test_published():
    resnet_tables.check_published("ptv_i3d_r50", ARCH, "50", (8, 224, 224, 3), stride_frames=8)


def test_differences():
    resnet_tables.check_differences(
        "ptv_i3d_r50", ARCH, "blocks.0.norm.weight", "blocks.5.res_blocks.1.branch2.conv_a.weight"
    )


def test_weights_survive_the_way_there_and_back():
    model = jaxvid.create_model("i3d_resnet", variant="50", num_classes=5, width=8)
    config = {"model_num_class": 5, "stem_dim_out": 8}
    resnet_tables.check_there_and_back(model, ARCH, config)


def test_what_the_model_cannot_be():
    flat = {"stem_conv_kernel_size": [1, 7, 7]}
    resnet_tables.check_refused(
        ARCH, flat, r"stem_conv_kernel_size=\(1, 7, 7\): the model has only .*\(5, 7, 7\)"
    )
