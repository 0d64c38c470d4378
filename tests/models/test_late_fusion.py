"""Late fusion: the course's size, features averaged before the perceptron, blindness to order."""

import jax
import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import late_fusion
from jaxvid.nn.resnet import frame_features


def test_the_courses_size():
    assert per_frame.count("late_fusion", "18") == 11_505_090  # 11.5M


def test_features_are_averaged_before_the_perceptron():
    model, variables, evaluate, _ = per_frame.made("late_fusion")

    @jax.jit
    def averaged(variables, video):
        pooled = model.apply(
            variables, video, method=lambda m, x: frame_features(m.backbone, x, train=False)
        )
        return model.apply(variables, pooled.mean(1), method=lambda m, x: m.mlp(x, train=False))

    logits, hidden = averaged(variables, per_frame.VIDEO)
    outputs = evaluate(variables, per_frame.VIDEO)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(outputs["features"], hidden, atol=1e-5)


def test_the_order_of_frames_makes_no_difference():
    assert per_frame.reordering_changes_logits_by("late_fusion") < 1e-6


def test_outputs():
    per_frame.check_outputs("late_fusion", 32)


def test_training():
    per_frame.check_training("late_fusion")


def test_options():
    per_frame.check_options("late_fusion")


def test_wrong_clips():
    per_frame.check_wrong_clips("late_fusion")


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'late_fusion' has no variant 'B'"):
        late_fusion.build(2, variant="B")
