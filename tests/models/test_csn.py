"""ir-CSN: PyTorchVideo's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_pytorchvideos_numbers():
    check.check_golden("ptv_csn_r101", "pytorchvideo/csn_r101", clip_resnets.PLAIN)


def test_published_sizes():
    assert clip_resnets.count("csn", "101") == 22_213_776


def test_outputs():
    clip_resnets.check_outputs("csn", 256)


def test_options():
    clip_resnets.check_options("csn")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("csn", frames=3, size=7)
    clip_resnets.check_wrong_clips("csn", frames=8, size=32, variant="101")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("csn", "temporal_strides")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("csn") > 1e-3


def test_channels_meet_in_pointwise_layers_only():
    variables, _ = clip_resnets.made("csn")
    for stage, width in (("stage_1", 16), ("stage_2", 32)):
        block = variables["params"]["backbone"][stage]["block_0"]
        assert block["conv_2"]["kernel"].shape == (3, 3, 3, 1, width)
        assert (
            block["conv_1"]["kernel"].shape[:3] == block["conv_3"]["kernel"].shape[:3] == (1, 1, 1)
        )
