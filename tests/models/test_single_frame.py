"""The single-frame classifier: the course's size, blindness to order, options."""

import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import single_frame


def test_the_courses_size():
    assert per_frame.count("single_frame", "18") == 11_505_090  # 11.5M
    # ResNet-18, 512 -> 512, 512 -> 128, 128 -> 2, each with its biases
    assert 11_176_512 + 513 * 512 + 513 * 128 + 129 * 2 == 11_505_090


def test_logits_are_averaged_not_features():
    _, variables, evaluate, _ = per_frame.made("single_frame")
    video = per_frame.VIDEO
    each = [evaluate(variables, video[:, [i] * 4])["logits"] for i in range(4)]
    logits = evaluate(variables, video)["logits"]
    np.testing.assert_allclose(logits, np.mean(each, axis=0), atol=1e-5)
    _, _, late, _ = per_frame.made("late_fusion")  # of the same parameters
    assert np.abs(late(variables, video)["logits"] - logits).max() > 1e-4


def test_the_order_of_frames_makes_no_difference():
    assert per_frame.reordering_changes_logits_by("single_frame") < 1e-6


def test_outputs():
    per_frame.check_outputs("single_frame", 32)


def test_training():
    per_frame.check_training("single_frame")


def test_options():
    per_frame.check_options("single_frame")


def test_wrong_clips():
    per_frame.check_wrong_clips("single_frame")


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'single_frame' has no variant 'B'"):
        single_frame.build(2, variant="B")
