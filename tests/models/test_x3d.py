"""X3D: PyTorchVideo's numbers, sizes, the head's window, input checks, options."""

import functools
import sys
from pathlib import Path

import clip_resnets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_resnets import VIDEO

import jaxvid
from jaxvid.models import x3d
from jaxvid.nn.batch_norm import BatchNorm

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

PROBES = {
    **clip_resnets.PLAIN,
    "blocks.5.pool": ("fc_1", lambda x: np.maximum(np.moveaxis(x, -1, 1), 0)),
}


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_m"])
def test_pytorchvideos_numbers(name):
    check.check_golden(f"ptv_{name}", f"pytorchvideo/{name}", PROBES)


def test_published_sizes():
    assert {clip_resnets.count("x3d", v) for v in ("XS", "S", "M")} == {3_794_274}
    assert clip_resnets.count("x3d", "L") == 6_153_384
    clips = {v: x3d.example_inputs(v)["video"].shape[1:4] for v in ("XS", "S", "M", "L")}
    assert clips == {
        "XS": (4, 160, 160),
        "S": (13, 160, 160),
        "M": (16, 224, 224),
        "L": (16, 312, 312),
    }


def test_outputs():
    clip_resnets.check_outputs("x3d", 256)


@pytest.mark.slow
def test_options():
    clip_resnets.check_options("x3d")
    clip_resnets.check_momentum("x3d")


def test_wrong_clips():
    clip_resnets.check_wrong_clips("x3d", frames=3, size=8)
    clip_resnets.check_wrong_clips("x3d", frames=3, size=32, variant="M")
    clip_resnets.check_wrong_clips("x3d", frames=4, size=8, temporal_strides=(1, 2, 2, 1))


def test_a_clip_and_its_reversal_are_told_apart():
    assert clip_resnets.backwards_differs_by("x3d") > 1e-3


@functools.cache
def shapes(variant="test", **fields):
    model = x3d.build(5, variant=variant, **fields)
    init = functools.partial(model.init, train=False)
    inputs = x3d.example_inputs(variant)
    return jax.eval_shape(init, jax.random.key(0), inputs)["params"]


def test_every_other_block_squeezes_beginning_with_the_first():
    backbone = shapes("M")["backbone"]
    depths = [len(backbone[f"stage_{i}"]) for i in (1, 2, 3, 4)]
    assert depths == [3, 5, 11, 7]
    for i, depth in enumerate(depths, 1):
        squeezing = [b for b in range(depth) if "squeeze" in backbone[f"stage_{i}"][f"block_{b}"]]
        assert squeezing == list(range(0, depth, 2))
    widths = [
        backbone[f"stage_{i}"]["block_0"]["squeeze"]["reduce"]["bias"].shape for i in (1, 2, 3, 4)
    ]
    assert widths == [(8,), (8,), (16,), (32,)]  # 54, 108, 216, 432 / 16, to multiples of 8
    assert "squeeze" in str(shapes()) and "squeeze" not in str(shapes(se_ratio=0.0))


def test_only_a_shortcut_that_changes_the_width_is_normalised():
    backbone = shapes("M")["backbone"]
    assert "shortcut" in backbone["stage_1"]["block_0"]  # it strides, and 24 stay 24
    assert "shortcut_norm" not in backbone["stage_1"]["block_0"]
    assert "shortcut_norm" in backbone["stage_2"]["block_0"]
    assert "shortcut" not in backbone["stage_2"]["block_1"]


def test_a_block_starts_as_an_identity_with_the_references_weights():
    block = x3d.Block(96, 216, (1, 1, 1), 16, BatchNorm, jnp.float32)
    x = jnp.ones((1, 1, 1, 1, 96))
    params = jax.jit(functools.partial(block.init, train=False))(jax.random.key(0), x)["params"]
    assert not params["norm_3"]["scale"].any() and (params["norm_2"]["scale"] == 1).all()
    depthwise = params["conv_2"]["kernel"]  # He over 27 places and 216 channels going out
    assert depthwise.shape == (3, 3, 3, 1, 216)
    assert float(depthwise.std()) == pytest.approx((2 / (27 * 216)) ** 0.5, rel=0.05)
    assert not params["squeeze"]["expand"]["bias"].any()
    assert shapes()["fc_1"].keys() == {"kernel"}


def test_a_window_smaller_than_the_map_slides_and_the_mean_follows_the_activation():
    variables, whole = clip_resnets.made("x3d")
    model = jaxvid.create_model("x3d", variant="test", num_classes=5, head_pool=(7, 1, 2))
    run = functools.partial(model.apply, train=False, capture_intermediates=True)
    outputs, kept = jax.jit(functools.partial(run, mutable=["intermediates"]))(
        variables, {"video": VIDEO}
    )
    maps = np.asarray(kept["intermediates"]["backbone"]["__call__"][0])
    assert maps.shape == (3, 8, 2, 2, 216)
    kernel = np.asarray(variables["params"]["fc_1"]["kernel"])
    windows = [maps[:, t : t + 7, h].mean((1, 2)) for t in range(2) for h in range(2)]
    expected = np.mean([np.maximum(window @ kernel, 0) for window in windows], axis=0)
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-4, atol=1e-4)
    all_of_it = whole(variables, VIDEO, False, jax.random.key(0))[0]["features"]
    assert np.abs(outputs["features"] - all_of_it).max() > 1e-2
    larger = jaxvid.create_model("x3d", variant="test", num_classes=5, head_pool=(16, 7, 7))
    cut = jax.jit(functools.partial(larger.apply, train=False))(variables, {"video": VIDEO})
    np.testing.assert_allclose(cut["features"], all_of_it, rtol=1e-4, atol=1e-5)


def test_the_heads_norm():
    assert "fc_1_norm" not in shapes() and "fc_1_norm" in shapes(head_norm=True)
    assert shapes(head_norm=True)["fc_1_norm"]["scale"].shape == (256,)


def test_16_bit_computation_is_close():
    variables, exact = clip_resnets.made("x3d")
    _, half = clip_resnets.made("x3d", dtype=jnp.bfloat16)
    key = jax.random.key(0)
    outputs = [apply(variables, VIDEO, False, key)[0]["features"] for apply in (exact, half)]
    assert outputs[1].dtype == jnp.float32
    np.testing.assert_allclose(*outputs, atol=0.05 * float(np.abs(outputs[0]).max()))
