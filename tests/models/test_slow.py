"""Slow: PyTorchVideo's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_pytorchvideos_numbers():
    check.check_golden("ptv_slow_r50", "pytorchvideo/slow_r50", clip_resnets.PLAIN)


def test_published_sizes():
    assert clip_resnets.count("slow", "8x8") == 32_454_096
    assert clip_resnets.count("slow", "4x16") == 32_454_096


def test_outputs():
    clip_resnets.check_outputs("slow", 256)


def test_options():
    clip_resnets.check_options("slow")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("slow", frames=3, size=7)
    clip_resnets.check_wrong_clips("slow", frames=3, size=32, variant="8x8")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("slow", "spatial_strides")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("slow") > 1e-3
