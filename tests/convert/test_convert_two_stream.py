"""ImageNet's ResNet starts both streams; the temporal one sees flow where the image had colours."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import ConfigError, ConversionError
from jaxvid.core.tree import flatten

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check


@pytest.fixture(scope="module")
def state():
    return check.weights("tv_resnet18")


@pytest.fixture(scope="module", params=["average", "learned", "conv3d"])
def loaded(request, state):
    model, variables, info = _load(state, fusion=request.param, flow_stack=5)
    return model, variables, info


def _load(state, **fields):
    from_image = jaxvid.from_state_dict(state, arch="torchvision/resnet18")
    started = jaxvid.pretrained.from_checkpoint
    from jaxvid.convert import reading

    checkpoint = reading.from_state(state, "torchvision/resnet18")
    del from_image
    return started(checkpoint, "two_stream", num_classes=3, **fields)


def test_placeholder(loaded):
    pass
