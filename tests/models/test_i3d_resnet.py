"""I3D on a ResNet: PyTorchVideo's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_pytorchvideos_numbers():
    check.check_golden("ptv_i3d_r50", "pytorchvideo/i3d_r50", clip_resnets.POOLED)


def test_published_sizes():
    assert clip_resnets.count("i3d_resnet", "50") == 28_043_472


def test_outputs():
    clip_resnets.check_outputs("i3d_resnet", 256)


def test_options():
    clip_resnets.check_options("i3d_resnet")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("i3d_resnet", frames=5, size=7)
    clip_resnets.check_wrong_clips("i3d_resnet", frames=5, size=32, variant="50")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("i3d_resnet", "temporal_kernels")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("i3d_resnet") > 1e-3
