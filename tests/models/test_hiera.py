"""Hiera: the reference's numbers, published sizes, mask units and pooling by hand, options, checks."""

import functools
import math
import sys
from pathlib import Path

import grid_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grid_models import VIDEO
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import hiera
from jaxvid.nn.rows import rows_divided

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

pytestmark = pytest.mark.usefixtures("quickly_made")


def in_their_order(x):
    """Theirs have the mask units fastest: (N, W, U, C) -> (N, U·W, C)"""
    return np.swapaxes(x, 1, 2).reshape(len(x), -1, x.shape[-1])


PROBES = {
    "patch_embed": ("encoder/patch_embed", lambda x: x.reshape(len(x), -1, x.shape[-1])),
    **{f"blocks.{i}": (f"encoder/block_{i}", in_their_order) for i in range(3)},
    "norm": ("norm", lambda x: x),
}


def test_the_references_numbers():
    check.check_golden("orig_hiera_video", "hiera/hiera", PROBES)


@pytest.mark.parametrize(
    "variant, millions, giga",
    # The paper's table of Kinetics-400, for one of the 3 × 5 views.
    [
        ("B", 51, 102),
        ("B+", 69, 133),
        pytest.param("L", 213, 413, marks=pytest.mark.slow),
        pytest.param("H", 672, 1159, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_work_are_as_published(variant, millions, giga):
    count, work = grid_models.measure("hiera", variant)
    assert count / 1e6 == pytest.approx(millions, rel=0.01)
    assert work == pytest.approx(giga, rel=0.01)


# --- the small one --------------------------------------------------------------------------------


def run(video=VIDEO, **fields):
    return grid_models.run("hiera", video, **fields)


def test_outputs():
    outputs = run()
    assert {k: (x.shape, x.dtype.name) for k, x in outputs.items()} == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 96), "float32"),
        "tokens": ((2, 16, 96), "float32"),  # 4 × 2 × 2 places
    }
    params = grid_models.variables("hiera")["params"]
    mean = outputs["tokens"].mean(1)
    unit = (mean - mean.mean(1, keepdims=True)) / np.sqrt(mean.var(1, keepdims=True) + 1e-6)
    features = unit * params["norm"]["scale"] + params["norm"]["bias"]
    np.testing.assert_allclose(outputs["features"], features, atol=1e-4)
    expected = features @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-3)


def test_16_bit_computation_is_close():
    exact, half = run(), run(dtype=jnp.bfloat16)
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    largest = float(jnp.abs(exact["features"]).max())
    np.testing.assert_allclose(half["features"], exact["features"], atol=0.1 * largest)


@pytest.mark.slow
def test_options():
    grid_models.check_options("hiera")


def test_each_field_changes_the_result():
    plain = run()["logits"]
    for fields in (
        {"norm_eps": 1.0},
        {"mask_unit_attention": (False, False, False)},
        {"mask_unit_attention": (True, True, False)},
        {"mask_unit_attention": (True, False, True)},
    ):
        assert np.abs(run(**fields)["logits"] - plain).max() > 1e-3, fields


def test_tokens_are_in_raster_order():
    """What is seen at one place changes the tokens there, also where poolings remain to be done."""
    fields = {"num_pools": 1, "mask_unit_attention": (True, True, True)}
    changed = VIDEO.copy()
    changed[:, :, 19:29, 3:13] += 3.0  # a mask unit of 16 × 16 pixels, but for what patches overlap
    difference = np.abs(run(changed, **fields)["tokens"] - run(**fields)["tokens"]).max((0, 2))
    seen = difference.reshape(4, 4, 4) > 1e-4  # t × h × w, of 8 × 8 pixels
    assert seen[:, 2:, :2].all() and not seen[:, :2].any() and not seen[:, :, 2:].any()


def test_the_order_of_frames_matters():
    ahead, back = run()["logits"], run(VIDEO[:, ::-1])["logits"]
    assert np.abs(ahead - back).max() > 1e-3 * np.abs(ahead).max()


def test_tables_serve_the_clip_they_were_made_for():
    variables = grid_models.variables("hiera")
    tables = {n: p.shape for n, p in variables["params"]["encoder"].items() if "position" in n}
    assert tables == {
        "spatial_position_embedding": (8, 8, 24),
        "temporal_position_embedding": (4, 24),
    }
    model = jaxvid.create_model("hiera", variant="test", num_classes=5)
    apply = functools.partial(model.apply, train=False)
    for shape, words in (
        (
            (1, 8, 32, 48, 3),
            r"spatial_position_embedding has 8×8 places, this clip makes 8×12: give",
        ),
        (
            (1, 4, 32, 32, 3),
            r"temporal_position_embedding has 4 .* makes 2: .*load the weights into",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(apply, variables, {"video": jnp.ones(shape)})


def test_each_device_keeps_its_rows_between_blocks():
    variables = grid_models.variables("hiera")
    model = jaxvid.create_model("hiera", variant="test", num_classes=5)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    with rows_divided(NamedSharding(mesh, PartitionSpec("data"))):
        run = functools.partial(model.apply, train=False)
        program = str(jax.make_jaxpr(run)(variables, {"video": VIDEO}))
    assert program.count("sharding_constraint[") == 2 * 4  # before and after each block


def test_wrong_clips():
    uneven = r"= \(8, 40, 32\): expected multiples of \(2, 16, 16\), a mask unit of 1×4×4 patches of 2×4×4"
    odd = r"= \(7, 32, 32\): expected multiples of \(2, 16, 16\)"
    cases = [((1, 8, 40, 32, 3), uneven), ((1, 7, 32, 32, 3), odd)]
    grid_models.check_wrong_clips("hiera", cases)


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"depths": (1, 1)},
            r"depths=\(1, 1\) and mask_unit_attention=\(True, False, False\): exp",
        ),
        ({"num_pools": 3}, "num_pools=3: expected 0…2 of 3 stages"),
        ({"num_heads": 5}, "width 24 is not a multiple of num_heads=5"),
        ({"patch_kernel": (3, 8, 8)}, r"patch_kernel=\(3, 8, 8\): expected odd numbers"),
        ({"drop_path_rate": 1.0}, "drop path rate is 1.0"),
    ],
)
def test_fields_that_contradict_each_other(fields, words):
    grid_models.check_wrong_fields("hiera", words, **fields)


def test_the_start_is_that_of_the_reference():
    model = hiera.build(50, variant="test", head_init_scale=0.001)
    init = functools.partial(model.init, train=False)
    params = jax.jit(init, compiler_options={"xla_backend_optimization_level": 0})(
        jax.random.key(0), {"video": VIDEO}
    )["params"]
    encoder, head = params["encoder"], params["head"]
    block = encoder["block_2"]
    for start in (
        encoder["patch_embed"]["kernel"],
        encoder["spatial_position_embedding"],
        block["projection"]["kernel"],
        block["attention"]["query"]["kernel"],
        block["attention"]["out"]["kernel"],
        block["mlp"]["fc1"]["kernel"],
        1000 * head["kernel"],
    ):
        assert float(start.std()) == pytest.approx(0.02, rel=0.1)
    biases = {
        "/".join(path): x
        for path, x in ((tuple(k.key for k in p), x) for p, x in jax.tree.leaves_with_path(params))
        if path[-1] == "bias" and path[0] != "head" and "patch_embed" not in path
    }
    assert len(biases) == 4 * 8 + 2 + 1
    for path, bias in biases.items():
        np.testing.assert_allclose(bias, 0.02, err_msg=path)
    np.testing.assert_allclose(head["bias"], 2e-5)


def test_the_small_one_is_small():
    shapes = jax.tree.leaves(grid_models.variables("hiera"))
    assert 30_000 < sum(math.prod(x.shape) for x in shapes) < 400_000


def test_variants():
    with pytest.raises(UnknownNameError, match="'hiera' has no variant 'S'.*B\\+"):
        hiera.build(2, variant="S")
    shapes = {v: hiera.example_inputs(v)["video"].shape for v in hiera.VARIANTS}
    assert shapes.pop("test") == (1, 8, 32, 32, 3)
    assert set(shapes.values()) == {(1, 16, 224, 224, 3)}
