"""UniFormer: the references' numbers with and without split attention, sizes and work, options."""

import sys
from pathlib import Path

import grid_models
import jax
import numpy as np
import pytest
from grid_models import VIDEO

import jaxvid
from jaxvid.models import uniformer

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

pytestmark = pytest.mark.usefixtures("quickly_made")

PROBES = {
    "patch_embed1": "encoder/patch_norm",
    **{f"patch_embed{i + 1}": f"encoder/merge_{i}" for i in (1, 2, 3)},
    **{f"blocks{i}.0": f"encoder/stage_{i}/block_0" for i in (1, 2, 3, 4)},
    "norm": "encoder/norm",
}


@pytest.mark.parametrize("name", ["orig_uniformer_s", "orig_uniformer_split_tiny"])
def test_the_references_numbers(name):
    check.check_golden(name, "uniformer/uniformer", PROBES)


@pytest.mark.parametrize(
    "variant, parameters, giga",
    # Table 2 of the paper gives 167 and 389 for four clips of 16 frames.
    [("S", 21_400_400, 167 / 4), ("B", 49_813_200, 389 / 4)],
)
def test_parameters_and_work_are_as_published(variant, parameters, giga):
    count, work = grid_models.measure("uniformer", variant)
    assert count == parameters
    assert work == pytest.approx(giga, rel=0.01)


def test_outputs():
    grid_models.check_outputs("uniformer", 4, 64)


@pytest.mark.slow
def test_options():
    grid_models.check_options("uniformer", frozen_bn=True)


@pytest.mark.slow
def test_batch_normalisation():
    """Its statistics are those of the batch in training unless frozen; bn_epsilon is added to the
    variance; norm_eps is of the global blocks."""
    plain = grid_models.run("uniformer")["features"]
    trained = grid_models.run("uniformer", train=True)["features"]
    assert np.abs(trained - plain).max() > 1e-2
    frozen = grid_models.run("uniformer", train=True, frozen_bn=True)["features"]
    np.testing.assert_allclose(frozen, plain, atol=1e-4)
    for field in ("bn_epsilon", "norm_eps"):
        assert np.abs(grid_models.run("uniformer", **{field: 1.0})["features"] - plain).max() > 1e-2
    stats = [
        grid_models.forward("uniformer", VIDEO.shape, train=True, bn_momentum=momentum)(
            VIDEO, jax.random.key(0)
        )[1]["batch_stats"]["encoder"]["stage_1"]["block_0"]["norm1"]["mean"]
        for momentum in (1.0, 0.0, 0.75)
    ]
    np.testing.assert_allclose(stats[2], 0.75 * stats[0] + 0.25 * stats[1], atol=1e-5)


def test_split_attention_starts_as_if_there_were_none_over_time():
    model = jaxvid.create_model("uniformer", variant="test", num_classes=5, split=True)
    init = jax.jit(lambda: model.init(jax.random.key(0), {"video": VIDEO[:1, :1]}, train=False))
    options = {"xla_backend_optimization_level": 0}
    params = init.lower().compile(compiler_options=options)()
    blocks = params["params"]["encoder"]["stage_3"]["block_0"]
    temporal = blocks["time_attention"]
    for name in ("query", "key", "value"):
        assert not temporal[name]["kernel"].any() and not temporal[name]["bias"].any()
        assert float(blocks["attention"][name]["kernel"].std()) == pytest.approx(0.02, rel=0.1)
    assert (temporal["out"]["kernel"] == 1).all() and not temporal["out"]["bias"].any()


@pytest.mark.slow
def test_split_attention_has_options_too():
    for fields in ({"dropout": 0.3}, {"drop_path_rate": 0.5}):
        fields = {**fields, "split": True, "train": True, "frozen_bn": True}
        one, other = (grid_models.run("uniformer", key=i, **fields)["logits"] for i in (0, 1))
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("shape, places", [((5, 33, 70), 3 * 2), ((1, 32, 32), 1)])
def test_any_size_without_what_is_left_over(shape, places):
    clip = np.random.default_rng(0).normal(size=(1, *shape, 3)).astype(np.float32)
    outputs = grid_models.run("uniformer", clip)
    assert outputs["tokens"].shape == (1, places, 64)
    cut = clip[:, :, : shape[1] // 4 * 4, : shape[2] // 4 * 4]
    np.testing.assert_allclose(
        outputs["logits"], grid_models.run("uniformer", cut)["logits"], atol=1e-5
    )


def test_the_order_of_frames_matters():
    ahead = grid_models.run("uniformer")["logits"]
    back = grid_models.run("uniformer", VIDEO[:, ::-1])["logits"]
    assert np.abs(ahead - back).max() > 1e-3 * np.abs(ahead).max()


def test_wrong_input_and_fields():
    small = (1, 8, 64, 31, 3), "frames of 64×31 .* at least 32×32"
    grid_models.check_wrong_clips("uniformer", [small])
    words = r"widths=\(16, 32, 48, 64\) and depths=\(1, 1\): expected one number of each"
    grid_models.check_wrong_fields("uniformer", words, depths=(1, 1))
    grid_models.check_wrong_fields("uniformer", r"width 48 .* multiple of head_dim=32", head_dim=32)
    grid_models.check_wrong_fields("uniformer", "drop path rate is -0.1", drop_path_rate=-0.1)


def test_inputs_that_variants_were_made_for():
    shapes = {v: uniformer.example_inputs(v)["video"].shape for v in uniformer.VARIANTS}
    assert shapes.pop("test") == (1, 8, 32, 32, 3)
    assert set(shapes.values()) == {(1, 16, 224, 224, 3)}
