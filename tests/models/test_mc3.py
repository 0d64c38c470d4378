"""MC3: torchvision's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_torchvisions_numbers():
    check.check_golden("tv_mc3_18", "torchvision/mc3_18", clip_resnets.TORCHVISION)


def test_published_sizes():
    assert clip_resnets.count("mc3", "18") == 11_695_440


def test_outputs():
    clip_resnets.check_outputs("mc3", 64)


def test_options():
    clip_resnets.check_options("mc3")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("mc3", frames=3, size=8)
    clip_resnets.check_wrong_clips("mc3", frames=3, size=16, variant="18")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("mc3", "temporal_kernels")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("mc3") > 1e-3
