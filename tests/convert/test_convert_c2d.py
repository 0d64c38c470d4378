"""C2D's table against PyTorchVideo's published checkpoint, and its start from image ResNets."""

import resnet_tables

import jaxvid

ARCH = "pytorchvideo/c2d_r50"


def small(**overrides):
    return jaxvid.create_model("c2d", variant="50", num_classes=5, width=8, **overrides)


def test_published():
    resnet_tables.check_published("ptv_c2d_r50", ARCH, "50", (8, 224, 224, 3), stride_frames=8)


def test_differences():
    resnet_tables.check_differences(
        "ptv_c2d_r50", ARCH, "blocks.6.proj.bias", "blocks.3.res_blocks.0.branch1_conv.weight"
    )


def test_weights_survive_the_way_there_and_back():
    config = {"model_num_class": 5, "stem_dim_out": 8}
    resnet_tables.check_there_and_back(small(), ARCH, config)


def test_what_the_reference_cannot_be():
    tiny = jaxvid.create_model("c2d", variant="test", num_classes=5)
    resnet_tables.check_inexpressible(
        tiny, ARCH, r"stage_sizes=\(1, 1, 1\); the reference has only"
    )
