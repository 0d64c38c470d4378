"""Both published I3D checkpoints as one model: every key of both, and back to both."""

import gzip
import json
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvid import model_tree
from jaxvid.convert import apply, reading, source, writing
from jaxvid.core.errors import ConversionError
from jaxvid.models import two_stream_i3d

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

ARCH = "pytorch_i3d/two_stream"
CONFIG = {"num_classes": 400, "in_channels": 3}


@pytest.fixture(scope="module")
def listings():
    folder = check.HERE / "manifests"
    return {
        stream: json.loads(
            gzip.decompress((folder / f"i3d_inception_{stream}.json.gz").read_bytes())
        )
        for stream in ("rgb", "flow")
    }


@pytest.fixture
def state(listings):
    """{key: shape} of both published files, each key under its stream's name."""
    return {
        f"{stream}.{key}": jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for stream, listing in listings.items()
        for key, shape, dtype, *_ in listing["state_dict"]
    }


def load(state, config=CONFIG):
    checkpoint = reading.from_state(state, ARCH, config)
    model = two_stream_i3d.MODULE(**checkpoint.arguments)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))
    return checkpoint, *apply.load(checkpoint.state, shapes, checkpoint.entries)


def test_every_key_of_both_and_back(state, listings):
    checkpoint, filled, report = load(state)
    assert not report.fresh and report.used.keys() | report.waived.keys() == state.keys()
    assert all("num_batches_tracked" in key for key in report.waived)
    params = {p: x for p, x in filled.items() if not p.startswith("batch_stats/")}
    total = sum(listing["param_count"] for listing in listings.values())
    assert sum(math.prod(x.shape) for x in params.values()) == total
    arguments = dict(checkpoint.arguments)
    written = writing.to_state("two_stream_i3d", arguments, filled, ARCH, checkpoint.clip)
    assert {k: x.shape for k, x in written.state.items()} == {k: x.shape for k, x in state.items()}
    assert written.config["num_classes"] == 400


def test_the_config_is_guessed_and_comes_back(state):
    checkpoint, *_ = load(state, None)
    assert checkpoint.arguments["num_classes"] == 400 and checkpoint.arguments["channels"] == 3
    told = {**CONFIG, "avg_pool_kernel": [2, 4, 4], "dropout_keep_prob": 0.3}
    checkpoint, filled, _ = load(state, told)
    assert checkpoint.arguments["head_pool"] == (2, 4, 4)
    written = writing.to_state(
        "two_stream_i3d", dict(checkpoint.arguments), filled, ARCH, checkpoint.clip
    )
    again = reading.from_state(state, ARCH, written.config)
    assert again.arguments == checkpoint.arguments
    assert again.info["preprocessing"]["mean"] == (0.5, 0.5, 0.5)


def test_what_does_not_fit_is_listed_whole(state):
    del state["flow.Mixed_4c.b2b.conv3d.weight"]
    state["rgb.extra"] = jax.ShapeDtypeStruct((3,), np.float32)
    state["flow.logits.conv3d.bias"] = jax.ShapeDtypeStruct((7,), np.float32)
    with pytest.raises(ConversionError) as error:
        load(state)
    for words in (
        "1 missing, 1 left over, 1 of another shape",
        "flow/backbone/mixed_4c/branch_2b/conv/kernel",
        "rgb.extra (3,)",
        "flow.logits.conv3d.bias (7,)",
    ):
        assert words in str(error.value)


def test_one_file_alone_is_not_enough(state):
    alone = {key: x for key, x in state.items() if key.startswith("rgb.")}
    with pytest.raises(ConversionError, match="missing.*\n.*flow/"):
        load(alone)
    with pytest.raises(ConversionError, match="it has no 'logits.conv3d.weight'"):
        reading.from_state({k: x for k, x in state.items() if k.startswith("flow.")}, ARCH)


def test_channels_are_those_of_the_frames(state):
    with pytest.raises(ConversionError, match="in_channels 2: expected those of the frames"):
        load(state, {**CONFIG, "in_channels": 2})


def test_the_heads_of_both_streams_depend_on_the_classes(state):
    _, filled, _ = load(state)
    found = {f"{s}/head/{x}" for s in ("rgb", "flow") for x in ("kernel", "bias")}
    assert set(source.heads(filled)) == found
