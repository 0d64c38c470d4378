"""I3D: the reference's numbers for frames and flow, sizes, input checks, options."""

import functools
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import i3d
from jaxvid.nn.pool import max_pool, window_mean

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "pytorch_i3d/inception_i3d"


def first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def pooled(window, strides):
    return lambda x: first(max_pool(x, window, strides=strides, padding="SAME"))


PROBES = {  # of the reference -> module of ours, and what the reference does to its output
    "Conv3d_1a_7x7": "backbone/stem",
    "MaxPool3d_2a_3x3": ("backbone/stem", pooled((1, 3, 3), (1, 2, 2))),
    "Conv3d_2c_3x3": "backbone/conv_2c",
    "Mixed_3c": "backbone/mixed_3c",
    "MaxPool3d_4a_3x3": ("backbone/mixed_3c", pooled((3, 3, 3), 2)),
    "Mixed_4f": "backbone/mixed_4f",
    "Mixed_5c": "backbone/mixed_5c",
    "avg_pool": ("backbone", lambda x: first(window_mean(x, (2, 7, 7)))),
}


@pytest.mark.parametrize("name", ["i3d_inception_rgb", "i3d_inception_flow"])
def test_the_references_numbers(name):
    check.check_golden(name, ARCH, PROBES)


@pytest.mark.slow
def test_the_references_numbers_at_full_size_and_at_every_time():
    name = "i3d_inception_rgb_224"
    probes = check.facts(name)["probes"]
    check.check_golden(name, ARCH, {key: PROBES[key] for key in probes})
    told = check.facts(name)
    model, variables, _ = jaxvid.from_state_dict(
        check.weights(name), arch=ARCH, config=told["config"]
    )
    outputs = jax.jit(functools.partial(model.apply, train=False))(
        variables, {"video": check.clip(name)}
    )
    expected = check.stored(name)["logits_time"].transpose(0, 2, 1)  # (B, K, T') -> (B, T', K)
    assert expected.shape == (2, 2, 10)
    atol = told["checks"]["suggested_atol"]
    np.testing.assert_allclose(outputs["logits_time"], expected, atol=atol)


def shapes(variant, num_classes):
    model, inputs = i3d.build(num_classes, variant=variant), i3d.example_inputs(variant)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)


@pytest.mark.parametrize(
    "variant, num_classes, expected",
    [("rgb", 400, 12_697_264), ("flow", 400, 12_675_312), ("rgb", 157, 12_697_264 - 243 * 1025)],
)
def test_parameters_are_as_many_as_published(variant, num_classes, expected):
    leaves = jax.tree.leaves(shapes(variant, num_classes)["params"])
    assert sum(math.prod(x.shape) for x in leaves) == expected


def test_the_norms_are_the_references():
    assert (i3d.I3D(2).bn_epsilon, i3d.I3D(2).bn_momentum) == (1e-3, 0.99)
    told = check.facts("i3d_inception_rgb")["module_facts"]["norms"]
    assert list(told) == ["BatchNorm3d eps=0.001 momentum=0.01"]


# --- the small one --------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 8, 32, 32, 3), dtype=np.float32)


def small(**fields):
    return i3d.build(5, variant="test", **fields)


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
    # Four times in the last map, three places of a window of two.
    assert found == {
        "logits": ((2, 5), "float32"),
        "logits_time": ((2, 3, 5), "float32"),
        "features": ((2, 128), "float32"),
    }
    np.testing.assert_allclose(outputs["logits"], outputs["logits_time"].mean(1), atol=1e-6)


def test_the_head_sees_windows_or_everything(variables):
    windows = forward(small())(variables, {"video": VIDEO})
    whole = forward(small(head_pool=None))(variables, {"video": VIDEO})
    assert whole["logits_time"].shape == (2, 1, 5)
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    for outputs in (windows, whole):
        expected = outputs["features"] @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    # The first and the last time stand in one window, the others in two.
    assert np.abs(windows["features"] - whole["features"]).max() > 1e-3


def test_other_sizes_and_lengths(variables):
    for frames, size, times in ((2, 8, 1), (9, 45, 4), (16, 48, 7)):
        clip = np.zeros((1, frames, size, size, 3), np.float32)
        outputs = jax.eval_shape(
            functools.partial(small().apply, train=False), variables, {"video": clip}
        )
        assert outputs["logits_time"].shape == (1, times, 5)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, 8, 32, 32), r"shape \(2, 8, 32, 32\): expected \(N, T, H, W, 3\)"),
        ((2, 8, 32, 32, 2), "2 channels in the last axis"),
        ((2, 7, 32, 32, 3), "7 frames .* at least 8"),
        ((2, 8, 32, 31, 3), "frames of 32×31 .* at least 32×32"),
    ],
)
def test_clips_that_do_not_fit_are_refused(shape, message):
    model = i3d.build(5)
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


# --- flow -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow_variables():
    return start(small(stream="flow", channels=2), {"flow": VIDEO[..., :2]})


def test_the_flow_variant():
    assert {name: x.shape for name, x in i3d.example_inputs("flow").items()} == {
        "flow": (1, 64, 224, 224, 2)
    }
    model = i3d.build(5, variant="flow")
    assert (model.stream, model.channels) == ("flow", 2)


def test_flow_comes_as_flow_or_in_the_place_of_the_video(flow_variables):
    model = small(stream="flow", channels=2)
    flow = VIDEO[..., :2]
    both = forward(model)(flow_variables, {"video": VIDEO, "flow": flow})
    alone = forward(model)(flow_variables, {"video": flow})
    np.testing.assert_array_equal(both["logits"], alone["logits"])


def test_the_stream_of_the_video_does_not_see_the_flow(variables):
    flow = VIDEO[..., :2]
    both = forward(small())(variables, {"video": VIDEO, "flow": flow})
    np.testing.assert_array_equal(
        both["logits"], forward(small())(variables, {"video": VIDEO})["logits"]
    )


def test_flow_of_other_channels_is_refused_by_its_name(flow_variables):
    model = small(stream="flow", channels=2)
    with pytest.raises(ValueError, match=r"inputs\['flow'\] has shape .*: 3 channels"):
        model.apply(flow_variables, {"flow": VIDEO}, train=False)
    with pytest.raises(ValueError, match=r"inputs\['video'\] has shape .*: 3 channels"):
        model.apply(flow_variables, {"video": VIDEO}, train=False)


def test_an_unknown_stream_and_an_unknown_variant_are_named():
    with pytest.raises(UnknownNameError, match="stream 'fow'.*'flow'"):
        small(stream="fow").init(jax.random.key(0), {"video": VIDEO}, train=False)
    with pytest.raises(UnknownNameError, match="RGB"):
        i3d.build(5, variant="RGB")
