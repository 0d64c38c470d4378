"""What the tests of the 3D ResNets' conversion tables have in common."""

import gzip
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import check


def shapes_of(name):
    """The published checkpoint without its values: key -> shape and dtype."""
    listing = json.loads(gzip.decompress((GOLDENS / "manifests" / f"{name}.json.gz").read_bytes()))
    return {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for key, shape, dtype, *_ in listing["state_dict"]
    }


def check_published(name, arch, variant, clip, stride_frames):
    """The manifest fits; its config comes back, and is what its shapes tell, without one; the
    variant of that name is the published model."""
    check.check_manifest(name, arch, {})
    found = source.find(arch).source
    arguments = found.arguments({})
    assert found.clip({}) == clip
    back = found.config(arguments, clip)
    assert found.arguments(back) == arguments and found.clip(back) == clip
    shapes = {key: x.shape for key, x in shapes_of(name).items()}
    guessed = found.guess(shapes, {})
    assert found.arguments(guessed) == arguments and found.clip(guessed) == clip
    told = found.preprocessing({})
    assert told["stride_frames"] == stride_frames and told["sampling"] == "dense"
    model = jaxvid.create_model(source.find(arch).model, variant=variant, num_classes=400)
    assert {field: getattr(model, field) for field in arguments} == arguments
    assert model.bn_epsilon == 1e-5 and model.bn_momentum == 0.9


def check_there_and_back(model, arch, config):
    """Weights of a small model as a checkpoint and back, by value, counters too, with wrappers'
    prefixes."""
    rng = np.random.default_rng(0)
    clip = source.find(arch).source.clip(config)
    shapes = model_tree.variable_shapes(model, clip)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=arch, clip=clip)
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    norms = [key for key in state if key.endswith("running_var")]
    assert len(counters) == len(norms) > 10
    wrapped = {f"module.{key}": value for key, value in state.items()}
    again, back, info = pretrained.from_state_dict(wrapped, arch=arch, config=config)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert info["fresh"] == [] and set(info["waived"]) == set(counters)
    ours, theirs = model_tree.arguments_of(model), model_tree.arguments_of(again)
    assert {n for n in ours if ours[n] != theirs[n]} <= {"head_dropout"}


def check_differences(name, arch, missing, misshaped):
    """One key missing, one too many, one of another shape: one error, with all three."""
    state = shapes_of(name)
    del state[missing]
    state["extra.weight"] = jax.ShapeDtypeStruct((3,), np.float32)
    old = state[misshaped].shape
    state[misshaped] = jax.ShapeDtypeStruct((*old[:-1], old[-1] + 1), np.float32)
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(state, arch=arch, config={})
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said and "nothing was loaded" in said
    assert f"<- {missing}" in said and "extra.weight (3,)" in said and f"{misshaped} (" in said


def check_fresh_head(name, arch, num_classes=7):
    """Another number of classes: the head alone is fresh, and said."""
    head = {key: x for key, x in shapes_of(name).items() if x.shape and x.shape[0] == 400}
    assert len(head) == 2
    state = {key: np.zeros(x.shape, x.dtype) for key, x in shapes_of(name).items()}
    model, variables, info = jaxvid.from_state_dict(state, arch=arch, num_classes=num_classes)
    assert model.num_classes == num_classes and info["fresh"] == ["head/bias", "head/kernel"]
    assert set(head) <= set(info["waived"])
    assert variables["params"]["head"]["kernel"].std() == pytest.approx(0.01, rel=0.1)


def check_refused(arch, config, message):
    with pytest.raises(ConversionError, match=message):
        source.find(arch).source.arguments(config)


def check_inexpressible(model, arch, message):
    with pytest.raises(ConversionError, match=message):
        shapes = model_tree.variable_shapes(model, (8, 32, 32, 3))
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        saving.to_state_dict(model, zeros, arch=arch)
