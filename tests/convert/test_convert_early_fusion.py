"""How a ResNet starts early fusion: its first kernel over the frames."""

import backbones
import jax
import numpy as np
import pytest

from jaxvid import pretrained
from jaxvid.convert import early_fusion
from jaxvid.core.errors import ConversionError


def test_a_clip_that_stands_still_enters_as_its_frame_does(tmp_path):
    fresh = {"projection", "fc", "head"}
    model, variables, (ours, theirs) = backbones.check_start(
        tmp_path / "resnet", "early_fusion", fresh, num_frames=5
    )
    assert ours.shape == (3, 3, 15, 8)
    np.testing.assert_allclose(ours[:, :, 6:9], theirs / 5, atol=1e-7)
    frame = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    image = pretrained.create_model(
        "resnet", num_classes=6, stage_sizes=(1, 1), width=8, stem_kernel=3, stem_pool=False
    ).clone(bn_epsilon=1e-4)

    @jax.jit
    def maps(variables, x):
        owner = model if x.shape[-1] == 15 else image
        return owner.apply(variables, x, method=lambda m, x: m.backbone(x, train=False))

    of_clip = maps(variables, np.tile(frame, (1, 1, 1, 5)))
    of_frame = maps(backbones.variables(), frame)
    np.testing.assert_allclose(of_clip, of_frame, rtol=1e-4, atol=1e-4)


def test_a_kernel_of_another_size_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="stem/conv/kernel.*no inflation of a kernel"):
        backbones.start(tmp_path / "resnet", "early_fusion", num_classes=2, stem_kernel=7)


def test_its_clips_are_as_long_as_its_field_says():
    inputs = early_fusion.example_inputs({"num_frames": 9}, (1, 32, 48, 3))
    assert inputs["video"].shape == (1, 9, 32, 48, 3)


def test_what_it_expects_is_clips_not_the_images_of_the_checkpoint(tmp_path):
    backbones.check_start(
        tmp_path / "resnet", "early_fusion", {"projection", "fc", "head"}, num_frames=5
    )
    _, _, info = pretrained.from_pretrained(
        tmp_path / "resnet", arch="early_fusion", num_classes=2, num_frames=5
    )
    assert info["preprocessing"]["num_frames"] == 5
