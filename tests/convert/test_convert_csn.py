"""CSN's table against PyTorchVideo's published checkpoint."""

import pytest
import resnet_tables

import jaxvid
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

ARCH = "pytorchvideo/csn_r101"


def test_published():
    resnet_tables.check_published("ptv_csn_r101", ARCH, "101", (32, 224, 224, 3), stride_frames=2)


def test_differences():
    block = "blocks.3.res_blocks.22.branch2"
    resnet_tables.check_differences(
        "ptv_csn_r101", ARCH, f"{block}.conv_b.weight", f"{block}.conv_a.weight"
    )


def test_weights_survive_the_way_there_and_back():
    model = jaxvid.create_model("csn", variant="50", num_classes=5, width=8)
    config = {"model_num_class": 5, "stem_dim_out": 8, "model_depth": 50}
    resnet_tables.check_there_and_back(model, ARCH, config)


def test_what_the_model_cannot_be():
    resnet_tables.check_refused(ARCH, {"stage_conv_b_width_per_group": 2}, "has only")
    resnet_tables.check_refused(ARCH, {"model_depth": 18}, "model_depth=18: the reference has only")


def test_depths_nobody_has_are_not_guessed():
    shapes = {"blocks.1.res_blocks.0.branch2.conv_a.weight": ()}
    with pytest.raises(
        ConversionError, match=r"stages of \(1, 0, 0, 0\) blocks; the reference has"
    ):
        source.find(ARCH).source.guess(shapes, {})
