"""Early fusion: the course's size, frames as channels, sensitivity to order, a fixed length."""

import jax
import jax.numpy as jnp
import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import early_fusion


def test_the_courses_size():
    assert per_frame.count("early_fusion", "18") == 11_646_210  # 11.6M
    assert 11_505_090 + 7 * 7 * (16 - 1) * 3 * 64 == 11_646_210


def test_frames_become_channels_frame_by_frame():
    model, variables, evaluate, _ = per_frame.made("early_fusion", num_frames=4)
    video = per_frame.VIDEO
    image = np.concatenate([video[:, t] for t in range(4)], axis=-1)

    @jax.jit
    def of_image(variables, image):
        maps = model.apply(variables, image, method=lambda m, x: m.backbone(x, train=False))
        return model.apply(variables, maps.mean((1, 2)), method=lambda m, x: m.mlp(x, train=False))

    logits, _ = of_image(variables, image)
    np.testing.assert_allclose(evaluate(variables, video)["logits"], logits, atol=1e-5)


def test_the_order_of_frames_makes_a_difference():
    assert per_frame.reordering_changes_logits_by("early_fusion", num_frames=4) > 1e-3


def test_outputs():
    per_frame.check_outputs("early_fusion", 32, num_frames=4)


def test_training():
    per_frame.check_training("early_fusion", num_frames=4)


def test_options():
    per_frame.check_options("early_fusion", num_frames=4)


def test_wrong_clips():
    per_frame.check_wrong_clips("early_fusion", num_frames=4)


@pytest.mark.parametrize("frames", [3, 5])
def test_a_clip_of_another_length(frames):
    model, variables, _, _ = per_frame.made("early_fusion", num_frames=4)
    words = (
        rf"has {frames} frames .shape \(1, {frames}, .* exactly 4; .*data.num_frames.*num_frames"
    )
    with pytest.raises(ValueError, match=words):
        model.apply(variables, {"video": jnp.zeros((1, frames, 16, 16, 3))}, train=False)


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'early_fusion' has no variant 'B'"):
        early_fusion.build(2, variant="B")
