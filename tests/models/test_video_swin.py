"""Video Swin: torchvision's numbers, sizes and work, any size of input, options."""

import sys
from pathlib import Path

import grid_models
import jax
import numpy as np
import pytest
from grid_models import VIDEO

import jaxvid
from jaxvid.models import video_swin

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "torchvision/swin3d_t"


def last(path):
    return path, lambda x: x  # the reference's maps have channels last


def test_torchvisions_numbers():
    probes = {
        "patch_embed": last("encoder/patch_norm"),
        "features.0.0": last("encoder/stage_1/block_0"),
        "features.0.1": last("encoder/stage_1/block_1"),
        "features.1": last("encoder/merge_1"),
        "features.2": last("encoder/stage_2"),
        "norm": last("encoder/norm"),
    }
    check.check_golden("tv_swin3d_tiny", ARCH, probes)


@pytest.mark.slow
def test_torchvisions_numbers_at_full_width():
    probes = {
        "patch_embed": last("encoder/patch_norm"),
        **{f"features.{2 * i}": last(f"encoder/stage_{i + 1}") for i in range(4)},
        "norm": last("encoder/norm"),
    }
    check.check_golden("tv_swin3d_t_full", ARCH, probes)


@pytest.mark.parametrize(
    "variant, parameters, giga",
    [("T", 28_158_070, 88), ("S", 49_816_678, 166), ("B", 88_048_984, 282)],
)
def test_parameters_and_work_are_as_published(variant, parameters, giga):
    count, work = grid_models.measure("video_swin", variant)
    assert count == parameters
    assert work == pytest.approx(giga, rel=0.005)  # 32 frames of 224², table 1 of the paper


def test_outputs():
    grid_models.check_outputs("video_swin", 4 * 4 * 4, 64)


@pytest.mark.slow
def test_options():
    grid_models.check_options("video_swin")


def test_norm_eps_reaches_every_norm():
    plain = grid_models.run("video_swin")["tokens"]
    assert np.abs(grid_models.run("video_swin", norm_eps=1.0)["tokens"] - plain).max() > 1e-2
    params = grid_models.variables("video_swin")["params"]["encoder"]
    norms = [p for p, _ in jax.tree_util.tree_leaves_with_path(params) if p[-1].key == "scale"]
    assert len(norms) == 2 + 1 + 2 * 4


@pytest.mark.parametrize("shape", [(5, 30, 37), (1, 17, 9), (16, 48, 16)])
def test_any_size_is_the_padded_one(shape):
    """What the patches do not divide is padded with zeros at the end."""
    clip = np.random.default_rng(0).normal(size=(1, *shape, 3)).astype(np.float32)
    outputs = grid_models.run("video_swin", clip)
    t, h, w = (-(-n // p) for n, p in zip(shape, (2, 4, 4), strict=True))
    assert outputs["tokens"].shape == (1, t * -(-h // 2) * -(-w // 2), 64)
    pads = [(0, -n % p) for n, p in zip(shape, (2, 4, 4), strict=True)]
    whole = grid_models.run("video_swin", np.pad(clip, ((0, 0), *pads, (0, 0))))
    np.testing.assert_allclose(outputs["tokens"], whole["tokens"], atol=1e-5)


def test_the_order_of_frames_matters():
    ahead = grid_models.run("video_swin")["logits"]
    back = grid_models.run("video_swin", VIDEO[:, ::-1])["logits"]
    assert np.abs(ahead - back).max() > 1e-3 * np.abs(ahead).max()


def test_the_start():
    model = jaxvid.create_model("video_swin", variant="test", num_classes=5, width=64)
    params = jax.jit(lambda: model.init(jax.random.key(0), {"video": VIDEO}, train=False))()
    block = params["params"]["encoder"]["stage_2"]["block_1"]
    for x in (
        block["attention"]["query"]["kernel"],
        block["attention"]["out"]["kernel"],
        block["attention"]["relative_position_bias"],
        block["mlp"]["fc2"]["kernel"],
        params["params"]["encoder"]["merge_1"]["reduction"]["kernel"],
    ):
        assert float(x.std()) == pytest.approx(0.02, rel=0.1)
    assert not block["attention"]["query"]["bias"].any()
    assert params["params"]["encoder"]["merge_1"]["reduction"].keys() == {"kernel"}


def test_wrong_input_and_fields():
    grid_models.check_wrong_clips("video_swin", [])
    words = r"depths=\(2, 2\) and num_heads=\(2, 4, 8\): expected one number of each"
    grid_models.check_wrong_fields("video_swin", words, num_heads=(2, 4, 8))
    grid_models.check_wrong_fields("video_swin", "num_heads=3", num_heads=(3, 4))
    grid_models.check_wrong_fields("video_swin", r"drop path rate is 1.0", drop_path_rate=1.0)


def test_inputs_that_variants_were_made_for():
    shapes = {v: video_swin.example_inputs(v)["video"].shape for v in video_swin.VARIANTS}
    assert shapes.pop("test") == (1, 8, 32, 32, 3)
    assert set(shapes.values()) == {(1, 32, 224, 224, 3)}
