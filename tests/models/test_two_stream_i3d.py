"""Two-stream I3D: the sum of the two published networks' numbers; its inputs and options."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import two_streams

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import two_stream_i3d

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

NAMES = {stream: f"i3d_inception_{stream}" for stream in ("rgb", "flow")}


def test_the_references_numbers_added_up():
    state = {
        f"{stream}.{key}": x
        for stream, name in NAMES.items()
        for key, x in check.weights(name).items()
    }
    config = check.facts(NAMES["rgb"])["config"]
    model, variables, _ = jaxvid.from_state_dict(
        state, arch="pytorch_i3d/two_stream", config=config
    )
    inputs = {"video": check.clip(NAMES["rgb"]), "flow": check.clip(NAMES["flow"])}
    outputs = jax.jit(functools.partial(model.apply, train=False))(variables, inputs)
    total, room = 0.0, 0.0
    for stream, name in NAMES.items():
        expected, atol = check.stored(name)["logits"], check.facts(name)["checks"]["suggested_atol"]
        np.testing.assert_allclose(outputs[f"{stream}_logits"], expected, atol=atol)
        total, room = total + expected, room + atol
    np.testing.assert_allclose(outputs["logits"], total, atol=room)


def test_outputs():
    variables, forward = two_streams.made("two_stream_i3d")
    outputs = forward(variables, two_streams.INPUTS)
    for name in ("logits", "rgb_logits", "flow_logits"):
        assert outputs[name].shape == (2, 5) and outputs[name].dtype == jnp.float32
    assert outputs["features"].ndim == 2 and outputs["features"].dtype == jnp.float32
    assert 30_000 < sum(x.size for x in jax.tree.leaves(variables["params"])) < 400_000


def test_dropout_of_the_features_and_frozen_statistics():
    (one, other), before, after = two_streams.in_training(
        "two_stream_i3d", head_dropout=0.5, frozen_bn=True
    )
    assert (one != other).any()
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_fields_reach_both_streams():
    model = two_stream_i3d.build(3, bn_epsilon=0.1, head_pool=(1, 2, 2), channels=4)
    model = model.bind({}, mutable=["params"], rngs={"params": jax.random.key(0)})
    for stream in (model.rgb, model.flow):
        assert (stream.num_classes, stream.bn_epsilon, stream.head_pool) == (3, 0.1, (1, 2, 2))
    assert (model.rgb.channels, model.flow.channels) == (4, 2)
    assert (model.rgb.stream, model.flow.stream) == ("video", "flow")


@pytest.mark.parametrize("change, words", two_streams.WRONG_INPUTS)
def test_inputs_that_do_not_fit(change, words):
    two_streams.check_wrong_inputs("two_stream_i3d", change, words)


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'two_stream_i3d' has no variant 'rgb'"):
        two_stream_i3d.build(2, variant="rgb")
