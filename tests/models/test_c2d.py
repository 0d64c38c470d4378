"""C2D: PyTorchVideo's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_pytorchvideos_numbers():
    check.check_golden("ptv_c2d_r50", "pytorchvideo/c2d_r50", clip_resnets.POOLED)


def test_published_sizes():
    assert clip_resnets.count("c2d", "50") == 24_327_632


def test_outputs():
    clip_resnets.check_outputs("c2d", 256)


def test_options():
    clip_resnets.check_options("c2d")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("c2d", frames=2, size=7)
    clip_resnets.check_wrong_clips("c2d", frames=2, size=32, variant="50")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("c2d", "spatial_strides")


def test_a_clip_and_its_reversal_are_the_same():
    assert clip_resnets.backwards_differs_by("c2d") < 1e-5
