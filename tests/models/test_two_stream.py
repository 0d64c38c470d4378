"""Two-stream networks: streams, stacks, the three fusions, and what their inputs must be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import two_stream

RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((2, 8, 32, 32, 3), dtype=np.float32)
FLOW = RNG.uniform(-1, 1, (2, 8, 32, 32, 2)).astype(np.float32)
INPUTS = {"video": VIDEO, "flow": FLOW}


def small(**fields):
    return two_stream.build(5, **({"variant": "test"} | fields))


def start(model):
    return jax.jit(lambda: model.init(jax.random.key(0), INPUTS, train=False))()


def run(model, variables, inputs=INPUTS):
    return jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, inputs)


@pytest.fixture(scope="module")
def started():
    return {fusion: start(small(fusion=fusion)) for fusion in two_stream.FUSIONS}


def count(variant, **fields):
    model = two_stream.build(101, variant=variant, **fields)
    zeros = {k: jnp.zeros(x.shape) for k, x in two_stream.example_inputs(variant).items()}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), zeros, train=False))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))


RESNET_18, RESNET_50 = 11_176_512, 23_508_032  # without their classifiers, as published
FIRST_18 = 49 * 17 * 64  # 20 channels of flow instead of 3


@pytest.mark.parametrize(
    "variant, fields, expected",
    [
        ("18", {}, 2 * RESNET_18 + FIRST_18 + 2 * 513 * 101),
        ("18", {"flow_stack": 5}, 2 * RESNET_18 + 49 * 7 * 64 + 2 * 513 * 101),
        ("18", {"fusion": "learned"}, 2 * RESNET_18 + FIRST_18 + 1025 * 101),
        (
            *("18", {"fusion": "conv3d"}),
            2 * RESNET_18 + FIRST_18 + 27 * 1024 * 512 + 512 + 513 * 101,
        ),
        ("50", {}, 2 * RESNET_50 + FIRST_18 + 2 * 2049 * 101),
    ],
)
def test_parameters_are_those_of_two_resnets_and_what_joins_them(variant, fields, expected):
    assert count(variant, **fields) == expected


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_outputs(started, fusion):
    outputs = run(small(fusion=fusion), started[fusion])
    width = 64 if fusion == "conv3d" else 128
    assert outputs["logits"].shape == (2, 5) and outputs["logits"].dtype == jnp.float32
    assert outputs["features"].shape == (2, width) and outputs["features"].dtype == jnp.float32
    assert 30_000 < sum(x.size for x in jax.tree.leaves(started[fusion]["params"])) < 400_000


def test_average_is_of_probabilities_and_logits_are_its_logarithm(started):
    outputs = run(small(), started["average"])
    streams = [jax.nn.softmax(outputs[f"{s}_logits"] * 1.0) for s in ("spatial", "temporal")]
    np.testing.assert_allclose(jnp.exp(outputs["logits"]), sum(streams) / 2, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(outputs["logits"]), sum(streams) / 2, atol=1e-6)


def test_streams_that_are_certain_of_different_classes():
    one, other = jnp.array([[2000.0, 0, 0]]), jnp.array([[0, 2000.0, 0]])
    got = two_stream.log_mean_probabilities(one, other)
    np.testing.assert_allclose(jax.nn.softmax(got), [[0.5, 0.5, 0]], atol=1e-6)
    assert jnp.isfinite(
        jax.grad(lambda x: two_stream.log_mean_probabilities(x, other)[0, 2])(one)
    ).all()


def test_a_stack_is_right_down_right_down_and_has_the_frame_in_its_middle():
    time = jnp.arange(11.0)
    flow = jnp.stack([time, -time], -1)[None, :, None, None]  # (1, 11, 1, 1, 2)
    got = two_stream.flow_stacks(flow, 4)[0, :, 0, 0]
    assert got.tolist() == [[1, -1, 2, -2, 3, -3, 4, -4], [5, -5, 6, -6, 7, -7, 8, -8]]
    frames = two_stream.middle_frames(flow, 4)[0, :, 0, 0, 0]
    assert frames.tolist() == [3, 7]
    assert two_stream.middle_frames(flow[:, :3], 3)[0, :, 0, 0, 0].tolist() == [1]
    assert two_stream.flow_stacks(flow, 11).shape == (1, 1, 1, 1, 22)


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_each_stream_sees_what_is_its_own(started, fusion):
    model, variables = small(fusion=fusion), started[fusion]
    plain = run(model, variables)
    seen = INPUTS | {"video": VIDEO + np.eye(8)[2][:, None, None, None]}  # the first stack's middle
    unseen = INPUTS | {"video": VIDEO + np.eye(8)[1][:, None, None, None]}
    assert float(jnp.abs(run(model, variables, seen)["logits"] - plain["logits"]).max()) > 1e-5
    np.testing.assert_array_equal(run(model, variables, unseen)["logits"], plain["logits"])
    still = run(model, variables, INPUTS | {"flow": np.zeros_like(FLOW)})
    assert float(jnp.abs(still["logits"] - plain["logits"]).max()) > 1e-5
    if fusion == "average":
        np.testing.assert_array_equal(still["spatial_logits"], plain["spatial_logits"])


def test_stacks_are_averaged(started):
    model, variables = small(), started["average"]
    halves = [
        run(model, variables, {k: x[:, i : i + 4] for k, x in INPUTS.items()}) for i in (0, 4)
    ]
    whole = run(model, variables)
    for name in ("spatial_logits", "temporal_logits", "features"):
        mean = (halves[0][name] + halves[1][name]) / 2
        np.testing.assert_allclose(whole[name], mean, atol=1e-6)


def test_the_fusing_convolution_starts_as_a_smoothed_sum_and_sees_the_order_of_stacks(started):
    variables = started["conv3d"]
    kernel = np.asarray(variables["params"]["fuse"]["kernel"])
    np.testing.assert_allclose(
        kernel.sum((0, 1, 2)), np.vstack([0.25 * np.eye(64), 0.75 * np.eye(64)]), atol=1e-6
    )
    assert kernel[1, 1, 1, 0, 0] > kernel[0, 1, 1, 0, 0] > kernel[0, 0, 0, 0, 0] > 0
    assert (
        float(start(small(fusion="conv3d", fusion_width=32))["params"]["fuse"]["kernel"].std()) > 0
    )
    noise = jax.random.normal(jax.random.key(1), kernel.shape) * 0.05
    variables = {
        **variables,
        "params": {**variables["params"], "fuse": {"kernel": noise, "bias": jnp.zeros(64)}},
    }
    swapped = {k: np.concatenate([x[:, 4:], x[:, :4]], axis=1) for k, x in INPUTS.items()}
    got = [run(small(fusion="conv3d"), variables, x)["logits"] for x in (INPUTS, swapped)]
    assert float(jnp.abs(got[0] - got[1]).max()) > 1e-5


def test_flow_without_its_mean_does_not_see_a_moving_camera(started):
    model, variables = small(subtract_mean_flow=True), started["average"]
    plain = run(model, variables)
    panned = run(model, variables, INPUTS | {"flow": FLOW + np.array([0.3, -0.2], np.float32)})
    np.testing.assert_allclose(panned["logits"], plain["logits"], atol=1e-5)
    assert (run(small(), variables)["logits"] != plain["logits"]).any()


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_training_updates_statistics_drops_features_and_reaches_every_weight(started, fusion):
    model, variables = small(fusion=fusion, head_dropout=0.5), started[fusion]

    @jax.jit
    def train(params, key):
        outputs, changed = model.apply(
            {**variables, "params": params},
            INPUTS,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return -jax.nn.log_softmax(outputs["logits"])[:, 0].sum(), (outputs["logits"], changed)

    (_, (logits, changed)), grads = jax.jit(jax.value_and_grad(train, has_aux=True))(
        variables["params"], jax.random.key(0)
    )
    others = train(variables["params"], jax.random.key(1))[1][0]
    assert (logits != others).any()
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), changed, {"batch_stats": variables["batch_stats"]}
    )
    assert all(jax.tree.leaves(moved))
    assert all(bool(jnp.abs(g).max() > 0) for g in jax.tree.leaves(grads))


def test_frozen_statistics_stay(started):
    model, variables = small(frozen_bn=True), started["average"]
    _, changed = model.apply(
        variables, INPUTS, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"]
    )
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])


def test_16_bit_computation_is_close(started):
    exact = run(small(), started["average"])
    half = run(small(dtype=jnp.bfloat16), started["average"])
    assert half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["logits"], exact["logits"], atol=0.05)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"flow": None}, "inputs has 'video' and no 'flow'.*set data.flow to 'tvl1' or 'dis'"),
        ({"flow": FLOW[..., :1]}, r"inputs\['flow'\] .* 1 channels in the last axis"),
        (
            {"flow": FLOW[:, :4]},
            r"\(2, 8, 32, 32, 3\) and inputs\['flow'\] \(2, 4, 32, 32, 2\): ex",
        ),
        ({"flow": FLOW[:, :, :16]}, "expected the same clips, frames, height and width"),
        ({"video": VIDEO[..., :2]}, r"inputs\['video'\] .* 2 channels in the last axis"),
        (
            {"video": VIDEO[:, :3], "flow": FLOW[:, :3]},
            "3 frames.*needs at least 4.*data.num_frames",
        ),
        ({"video": VIDEO[:, :, :4, :4], "flow": FLOW[:, :, :4, :4]}, "needs at least 8×8"),
    ],
)
def test_inputs_that_do_not_fit(started, change, words):
    inputs = {k: x for k, x in (INPUTS | change).items() if x is not None}
    with pytest.raises(ValueError, match=words):
        small().apply(started["average"], inputs, train=False)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="unknown fusion 'averge'. Did you mean 'average'"):
        start(small(fusion="averge"))
    with pytest.raises(UnknownNameError, match="'two_stream' has no variant 'B'"):
        jaxvid.create_model("two_stream", variant="B", num_classes=2)
