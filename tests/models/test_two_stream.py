"""Two-stream networks: streams, stacks, the three fusions, and what their inputs must be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import two_streams
from two_streams import FLOW, INPUTS, VIDEO, made

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import two_stream


def run(fusion, inputs=INPUTS, variables=None, **fields):
    start, forward = made("two_stream", fusion=fusion, **fields)
    return forward(variables or start, inputs)


def count(variant, **fields):
    model = two_stream.build(101, variant=variant, **fields)
    zeros = {k: jnp.zeros(x.shape) for k, x in two_stream.example_inputs(variant).items()}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), zeros, train=False))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))


RESNET_18, RESNET_50 = 11_176_512, 23_508_032  # without their classifiers, as published
FLOWS_18 = 49 * 17 * 64  # 20 channels of flow instead of 3


@pytest.mark.parametrize(
    "variant, fields, expected",
    [
        ("18", {}, 2 * RESNET_18 + FLOWS_18 + 2 * 513 * 101),
        ("18", {"flow_stack": 5}, 2 * RESNET_18 + 49 * 7 * 64 + 2 * 513 * 101),
        ("18", {"fusion": "learned"}, 2 * RESNET_18 + FLOWS_18 + 1025 * 101),
        (
            *("18", {"fusion": "conv3d"}),
            2 * RESNET_18 + FLOWS_18 + 27 * 1024 * 512 + 512 + 513 * 101,
        ),
        ("50", {}, 2 * RESNET_50 + FLOWS_18 + 2 * 2049 * 101),
    ],
)
def test_parameters_are_those_of_two_resnets_and_what_joins_them(variant, fields, expected):
    assert count(variant, **fields) == expected


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_outputs(fusion):
    outputs, params = run(fusion), made("two_stream", fusion=fusion)[0]["params"]
    width = 64 if fusion == "conv3d" else 128
    assert outputs["logits"].shape == (2, 5) and outputs["logits"].dtype == jnp.float32
    assert outputs["features"].shape == (2, width) and outputs["features"].dtype == jnp.float32
    assert 30_000 < sum(x.size for x in jax.tree.leaves(params)) < 400_000


def test_average_is_of_probabilities_and_logits_are_its_logarithm():
    outputs = run("average")
    spatial, temporal = (jax.nn.softmax(outputs[f"{s}_logits"]) for s in ("spatial", "temporal"))
    mean = (spatial + temporal) / 2
    np.testing.assert_allclose(jnp.exp(outputs["logits"]), mean, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(outputs["logits"]), mean, atol=1e-6)


def test_streams_that_are_certain_of_different_classes():
    one, other = jnp.array([[2000.0, 0, 0]]), jnp.array([[0, 2000.0, 0]])
    got = two_stream.log_mean_probabilities(one, other)
    np.testing.assert_allclose(jax.nn.softmax(got), [[0.5, 0.5, 0]], atol=1e-6)
    slope = jax.grad(lambda x: two_stream.log_mean_probabilities(x, other)[0, 2])(one)
    assert bool(jnp.isfinite(slope).all())


def test_a_stack_is_right_down_right_down_and_has_the_frame_in_its_middle():
    time = jnp.arange(11.0)
    flow = jnp.stack([time, -time], -1)[None, :, None, None]  # (1, 11, 1, 1, 2)
    got = two_stream.flow_stacks(flow, 4)[0, :, 0, 0]
    assert got.tolist() == [[1, -1, 2, -2, 3, -3, 4, -4], [5, -5, 6, -6, 7, -7, 8, -8]]
    assert two_stream.flow_stacks(flow, 11).shape == (1, 1, 1, 1, 22)
    assert two_stream.middle_frames(flow, 4)[0, :, 0, 0, 0].tolist() == [3, 7]
    assert two_stream.middle_frames(flow[:, :3], 3)[0, :, 0, 0, 0].tolist() == [1]


def test_a_stack_keeps_its_pixels_in_place():
    stacks = two_stream.flow_stacks(jnp.asarray(FLOW), 4)
    np.testing.assert_array_equal(stacks[1, 1, 5, 7], FLOW[1, 4:, 5, 7].reshape(-1))


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_each_stream_sees_what_is_its_own(fusion):
    plain = run(fusion)

    def changed_by(**other):
        return float(jnp.abs(run(fusion, INPUTS | other)["logits"] - plain["logits"]).max())

    def brighter(frame):
        return VIDEO + np.eye(8, dtype=np.float32)[frame][:, None, None, None]

    assert changed_by(video=brighter(2)) > 1e-4  # the first stack's middle
    assert changed_by(video=brighter(1)) == 0
    assert changed_by(flow=np.zeros_like(FLOW)) > 1e-4
    if fusion == "average":
        still = run(fusion, INPUTS | {"flow": np.zeros_like(FLOW)})
        np.testing.assert_array_equal(still["spatial_logits"], plain["spatial_logits"])


def test_stacks_are_averaged():
    parts = [run("average", {k: x[:, i : i + 4] for k, x in INPUTS.items()}) for i in (0, 4)]
    whole = run("average")
    for name in ("spatial_logits", "temporal_logits", "features"):
        mean = (parts[0][name] + parts[1][name]) / 2
        np.testing.assert_allclose(whole[name], mean, atol=1e-5)


def test_the_fusing_convolution_sees_the_order_of_stacks():
    swapped = {k: np.concatenate([x[:, 4:], x[:, :4]], axis=1) for k, x in INPUTS.items()}
    difference = run("conv3d")["logits"] - run("conv3d", swapped)["logits"]
    assert float(jnp.abs(difference).max()) > 1e-4


def test_the_fusing_convolution_starts_as_a_smoothed_sum():
    kernel = np.asarray(two_stream.smoothed_sum(jax.random.key(0), (3, 3, 3, 8, 4)))
    shares = np.vstack([0.25 * np.eye(4), 0.75 * np.eye(4)])
    np.testing.assert_allclose(kernel.sum((0, 1, 2)), shares, atol=1e-6)
    one = kernel[:, :, :, 0, 0]
    assert one[1, 1, 1] > one[0, 1, 1] == one[1, 1, 2] > one[0, 0, 0] > 0
    noise = np.asarray(two_stream.smoothed_sum(jax.random.key(0), (3, 3, 3, 8, 5)))
    assert noise.std() > 0.01 and abs(noise.mean()) < 0.02
    params = two_stream.build(2, variant="test", fusion="conv3d").bind(
        {}, mutable=["params"], rngs={"params": jax.random.key(0)}
    )
    assert params.fuse.kernel_init is two_stream.smoothed_sum


def test_flow_without_its_mean_does_not_see_a_moving_camera():
    fields = {"fusion": "average", "subtract_mean_flow": True}
    plain = run(**fields)
    panned = run(**fields, inputs=INPUTS | {"flow": FLOW + np.array([0.3, -0.2], np.float32)})
    np.testing.assert_allclose(panned["logits"], plain["logits"], atol=1e-4)
    assert (run("average")["logits"] != plain["logits"]).any()


@pytest.mark.parametrize("fusion", two_stream.FUSIONS)
def test_dropout_of_the_features_and_frozen_statistics(fusion):
    (one, other), before, after = two_streams.in_training(
        "two_stream", fusion=fusion, head_dropout=0.5, frozen_bn=True
    )
    assert (one != other).any()
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_16_bit_computation_is_close():
    exact, half = run("average"), run("average", dtype=jnp.bfloat16)
    assert half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["features"], exact["features"], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("change, words", two_streams.WRONG_INPUTS)
def test_inputs_that_do_not_fit(change, words):
    two_streams.check_wrong_inputs("two_stream", change, words)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="unknown fusion 'averge'. Did you mean 'average'"):
        made("two_stream", fusion="averge")
    with pytest.raises(UnknownNameError, match="'two_stream' has no variant 'B'"):
        jaxvid.create_model("two_stream", variant="B", num_classes=2)
