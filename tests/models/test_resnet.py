"""A ResNet per frame: torchvision's numbers, sizes, input checks, options."""

import sys
from pathlib import Path

import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import resnet

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

PROBES = {"maxpool": "backbone/stem"} | {f"layer{i}": f"backbone/stage_{i}" for i in (1, 2, 3, 4)}


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_numbers(depth):
    check.check_golden(f"tv_resnet{depth}", f"torchvision/resnet{depth}", PROBES)


@pytest.mark.parametrize(
    "depth, expected", [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)]
)
def test_published_sizes(depth, expected):
    assert per_frame.count("resnet", str(depth), 1000) == expected


def test_logits_and_features_are_averages_over_the_frames():
    _, variables, evaluate, _ = per_frame.made("resnet")
    video = per_frame.VIDEO
    whole = evaluate(variables, video)
    for name in ("logits", "features"):
        each = [evaluate(variables, video[:, [i] * 4])[name] for i in range(4)]
        np.testing.assert_allclose(whole[name], np.mean(each, axis=0), atol=1e-5)


def test_the_order_of_frames_makes_no_difference():
    assert per_frame.reordering_changes_logits_by("resnet") < 1e-6


def test_outputs():
    per_frame.check_outputs("resnet", 16)


def test_training():
    per_frame.check_training("resnet")


def test_options():
    per_frame.check_options("resnet")


def test_wrong_clips():
    per_frame.check_wrong_clips("resnet")


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'resnet' has no variant '51'.*test, 18, 34, 50"):
        resnet.build(2, variant="51")
