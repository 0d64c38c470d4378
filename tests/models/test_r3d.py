"""R3D: torchvision's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import clip_resnets
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def test_torchvisions_numbers():
    check.check_golden("tv_r3d_18", "torchvision/r3d_18", clip_resnets.TORCHVISION)


def test_published_sizes():
    assert clip_resnets.count("r3d", "18") == 33_371_472


def test_outputs():
    clip_resnets.check_outputs("r3d", 64)


def test_options():
    clip_resnets.check_options("r3d")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("r3d", frames=4, size=8)
    clip_resnets.check_wrong_clips("r3d", frames=8, size=16, variant="18")


def test_one_value_a_stage():
    clip_resnets.check_stage_lengths("r3d", "temporal_strides")


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("r3d") > 1e-3


def test_momentum_and_epsilon():
    clip_resnets.check_momentum("r3d")


def test_a_pooling_in_the_stem_halves_the_maps():
    variables, plain = clip_resnets.made("r3d")
    _, pooled = clip_resnets.made("r3d", stem_pool=True)
    key = jax.random.key(0)
    outputs = [f(variables, clip_resnets.VIDEO, False, key)[0]["features"] for f in (plain, pooled)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2
    clip_resnets.check_wrong_clips("r3d", frames=4, size=16, stem_pool=True)


def test_the_deeper_one_has_the_blocks_of_a_resnet_34():
    # 16 blocks instead of 8: 1, 2, 4 and 1 more, each of two 27·w² kernels and two norms.
    widths = [64] + [128] * 2 + [256] * 4 + [512]
    more = sum(2 * 27 * w * w + 4 * w for w in widths)
    assert clip_resnets.count("r3d", "34") == 33_371_472 + more
