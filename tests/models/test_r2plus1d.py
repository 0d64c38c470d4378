"""R(2+1)D: torchvision's and PyTorchVideo's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

from jaxvid.models import r2plus1d

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_torchvisions_numbers():
    check.check_golden("tv_r2plus1d_18", "torchvision/r2plus1d_18", clip_resnets.TORCHVISION)


def test_pytorchvideos_numbers():
    check.check_golden("ptv_r2plus1d_r50", "pytorchvideo/r2plus1d_r50", clip_resnets.PLAIN)


def test_published_sizes():
    assert clip_resnets.count("r2plus1d", "18") == 31_505_325
    assert clip_resnets.count("r2plus1d", "50") == 28_107_600


def test_outputs():
    clip_resnets.check_outputs("r2plus1d", 64)


def test_options():
    clip_resnets.check_options("r2plus1d")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("r2plus1d", frames=4, size=8)
    clip_resnets.check_wrong_clips("r2plus1d", frames=8, size=16, variant="18")
    clip_resnets.check_wrong_clips("r2plus1d", frames=4, size=32, variant="50")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("r2plus1d", "temporal_strides")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("r2plus1d") > 1e-3


def test_as_many_parameters_as_one_of_three_dimensions():
    for inputs, outputs in [(64, 64), (64, 128), (256, 512)]:
        channels = r2plus1d.between(inputs, outputs)
        pair = 9 * inputs * channels + 3 * channels * outputs
        assert 0 <= 27 * inputs * outputs - pair < 9 * inputs + 3 * outputs


def test_space_and_time_are_a_pair_of_layers():
    variables, _ = clip_resnets.made("r2plus1d")
    block = variables["params"]["backbone"]["stage_2"]["block_0"]
    # The first convolution sees 16 channels, and its number between holds for the second one too.
    assert block["conv_1"]["spatial"]["kernel"].shape == (1, 3, 3, 16, 57)
    assert block["conv_1"]["temporal"]["kernel"].shape == (3, 1, 1, 57, 32)
    assert block["conv_2"]["spatial"]["kernel"].shape == (1, 3, 3, 32, 57)
    assert block["conv_2"]["norm"]["scale"].shape == (57,)
