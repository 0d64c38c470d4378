"""MC3's table against torchvision's published checkpoint."""

import resnet_tables

import jaxvid

ARCH = "torchvision/mc3_18"


def small(**overrides):
    return jaxvid.create_model(
        "mc3", variant="18", num_classes=5, stage_sizes=(1, 1, 1, 1), **overrides
    )


def test_published():
    resnet_tables.check_published("tv_mc3_18", ARCH, "18", (16, 112, 112, 3), stride_frames=2)


def test_differences():
    resnet_tables.check_differences("tv_mc3_18", ARCH, "fc.bias", "stem.0.weight")


def test_a_fresh_head():
    resnet_tables.check_fresh_head("tv_mc3_18", ARCH)


def test_weights_survive_the_way_there_and_back():
    resnet_tables.check_there_and_back(small(), ARCH, {"num_classes": 5, "layers": [1, 1, 1, 1]})


def test_what_the_reference_cannot_be():
    more = small(temporal_kernels=(3, 3, 1, 1))
    resnet_tables.check_inexpressible(more, ARCH, r"temporal_kernels: \(3, 3, 1, 1\) here")
