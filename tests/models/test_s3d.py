"""S3D: the numbers of both references, sizes with and without gates, input checks, options."""

import functools
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvid.core.tree import flatten
from jaxvid.models import s3d
from jaxvid.nn.pool import max_pool, window_mean

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


def first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def pooled(window, strides):
    return lambda x: first(max_pool(x, window, strides=strides, padding="half"))


AREA, CUBE, LAST = ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), 2), ((2, 2, 2), 2)
TORCHVISION = {  # of the reference -> module of ours, and what the reference does to its output
    "features.0": "backbone/stem",
    "features.4": ("backbone/conv_2c", pooled(*AREA)),
    "features.7": ("backbone/mixed_3c", pooled(*CUBE)),
    "features.13": ("backbone/mixed_4f", pooled(*LAST)),
    "features.15": "backbone/mixed_5c",
    "avgpool": ("backbone", lambda x: first(window_mean(x, (2, 7, 7)))),
}
KYLEMIN = {
    "base.0": "backbone/stem",
    "base.1": ("backbone/stem", pooled(*AREA)),
    "base.6": "backbone/mixed_3c",
    "base.12": "backbone/mixed_4f",
    "base.13": ("backbone/mixed_4f", pooled(*LAST)),
    "base.15": "backbone/mixed_5c",
}


@pytest.mark.parametrize(
    "name, arch, probes",
    [
        ("tv_s3d", "torchvision/s3d", TORCHVISION),
        ("orig_s3d_kylemin", "kylemin/s3d", KYLEMIN),
    ],
)
def test_the_references_numbers(name, arch, probes):
    check.check_golden(name, arch, probes)


def shapes(variant, num_classes):
    model, inputs = s3d.build(num_classes, variant=variant), s3d.example_inputs(variant)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)


def count(variant, num_classes):
    leaves = jax.tree.leaves(shapes(variant, num_classes)["params"])
    return sum(math.prod(x.shape) for x in leaves)


def test_parameters_are_as_many_as_published():
    assert count("S3D", 400) == 8_320_048  # torchvision's own number


def test_the_gates_are_all_that_s3d_g_has_more():
    gated = [192]
    for branches in (  # the outputs of the four branches, Szegedy et al. 2015, table 1
        (64, 128, 32, 32),
        (128, 192, 96, 64),
        (192, 208, 48, 64),
        (160, 224, 64, 64),
        (128, 256, 64, 64),
        (112, 288, 64, 64),
        (256, 320, 128, 128),
        (256, 320, 128, 128),
        (384, 384, 128, 128),
    ):
        gated += branches
    assert count("S3D-G", 400) == 8_320_048 + sum(c * c + c for c in gated)


def test_the_norms_are_the_references():
    assert (s3d.S3D(2).bn_epsilon, s3d.S3D(2).bn_momentum) == (1e-3, 0.999)
    for name in ("tv_s3d", "orig_s3d_kylemin"):
        told = check.facts(name)["module_facts"]["norms"]
        assert list(told) == ["BatchNorm3d eps=0.001 momentum=0.001"]


# --- the small one --------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 8, 32, 32, 3), dtype=np.float32)


def small(**fields):
    return s3d.build(5, variant="test", **fields)


def start(model, inputs):
    """Variables of the right shapes, their numbers such that nothing dies out."""
    tree = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)
    rng = np.random.default_rng(1)

    def number(path, leaf):
        noise = rng.standard_normal(leaf.shape, dtype=np.float32)
        if path[-1].key == "kernel":
            return noise * np.sqrt(2 / math.prod(leaf.shape[:-1])).astype(np.float32)
        return 0.1 * noise + (path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(number, tree)


@functools.cache
def forward(model):
    return jax.jit(functools.partial(model.apply, train=False))


@functools.cache
def step(model):
    def train(variables, key):
        rngs = {"dropout": key}
        return model.apply(
            variables, {"video": VIDEO}, train=True, rngs=rngs, mutable=["batch_stats"]
        )

    return jax.jit(train)


@pytest.fixture(scope="module")
def variables():
    return start(small(), {"video": VIDEO})


def test_outputs(variables):
    outputs = forward(small())(variables, {"video": VIDEO})
    found = {name: (x.shape, x.dtype.name) for name, x in outputs.items()}
    assert found == {"logits": ((2, 5), "float32"), "features": ((2, 128), "float32")}
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    expected = outputs["features"] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)


def test_the_head_averages_windows_or_everything(variables):
    windows, whole, areas = (
        forward(small(head_pool=pool))(variables, {"video": VIDEO})
        for pool in ((2, 7, 7), None, (2, None, None))
    )
    assert np.abs(windows["features"] - whole["features"]).max() > 1e-3
    np.testing.assert_allclose(areas["features"], windows["features"], atol=1e-6)


def test_gates_change_what_is_seen(variables):
    model = small(gating=True)
    gated = start(model, {"video": VIDEO})
    backbone = gated["params"]["backbone"]
    gates = sorted(name for name in flatten(backbone) if "gate" in name and "kernel" in name)
    assert len(gates) == 1 + 2 * 4 and gates[0] == "gate_2c/kernel"
    shut = jax.tree_util.tree_map_with_path(
        lambda path, x: x - 50 if _is_gates_bias(path) else x, gated
    )
    outputs = forward(model)(shut, {"video": VIDEO})
    assert np.abs(outputs["features"]).max() < 1e-6  # nothing passes
    assert np.abs(forward(model)(gated, {"video": VIDEO})["features"]).max() > 1e-2


def _is_gates_bias(path):
    names = [entry.key for entry in path]
    return names[-1] == "bias" and names[-2].startswith("gate")


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, 32, 32, 3), r"shape \(2, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((2, 8, 32, 32, 4), "4 channels in the last axis"),
        ((2, 7, 32, 32, 3), "7 frames .* at least 8"),
        ((2, 8, 31, 32, 3), "frames of 31×32 .* at least 32×32"),
    ],
)
def test_clips_that_do_not_fit_are_refused(shape, message):
    model = s3d.build(5)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            functools.partial(model.init, train=False),
            jax.random.key(0),
            {"video": np.zeros(shape, np.float32)},
        )


def test_training_updates_the_statistics(variables):
    _, changed = step(small())(variables, jax.random.key(1))
    before, after = jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(changed)
    assert len(after) == len(before) > 0
    assert all(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True))


def test_dropout_is_of_training_alone_and_frozen_norms_do_not_move(variables):
    model = small(head_dropout=0.5, frozen_bn=True)
    (one, stats), (other, _) = (step(model)(variables, jax.random.key(i)) for i in (1, 2))
    assert np.abs(one["logits"] - other["logits"]).max() > 1e-2
    jax.tree.map(np.testing.assert_array_equal, stats["batch_stats"], variables["batch_stats"])
    plain = forward(small())(variables, {"video": VIDEO})
    np.testing.assert_allclose(one["features"], plain["features"], atol=1e-5)
    evaluated = forward(model)(variables, {"video": VIDEO})
    np.testing.assert_allclose(evaluated["logits"], plain["logits"], atol=1e-6)
