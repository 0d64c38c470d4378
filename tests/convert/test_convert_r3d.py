"""R3D's table against torchvision's published checkpoint, and its start from image ResNets."""

import pytest
import resnet_tables

import jaxvid
from jaxvid.convert import source

ARCH = "torchvision/r3d_18"
CLIP = (16, 112, 112, 3)


def small(**overrides):
    return jaxvid.create_model(
        "r3d", variant="18", num_classes=5, stage_sizes=(1, 1, 1, 1), **overrides
    )


def test_published():
    resnet_tables.check_published("tv_r3d_18", ARCH, "18", CLIP, stride_frames=2)
    told = source.find(ARCH).source.preprocessing({})
    assert told["mean"] == (0.43216, 0.394666, 0.37645)
    assert told["std"] == (0.22803, 0.22145, 0.216989)


def test_differences():
    resnet_tables.check_differences(
        "tv_r3d_18", ARCH, "layer2.0.downsample.1.bias", "layer1.0.conv1.0.weight"
    )


def test_weights_survive_the_way_there_and_back():
    resnet_tables.check_there_and_back(small(), ARCH, {"num_classes": 5, "layers": [1, 1, 1, 1]})


def test_what_the_reference_cannot_be():
    resnet_tables.check_refused(ARCH, {"layers": [1, 1]}, "four stages")
    pooled = small(stem_pool=True)
    resnet_tables.check_inexpressible(pooled, ARCH, "stem_pool: True here, False there")
    tiny = jaxvid.create_model("r3d", variant="test", num_classes=5)
    resnet_tables.check_inexpressible(tiny, ARCH, r"stage_sizes=\(1, 1, 1\).* four stages")


@pytest.mark.parametrize("depth", [18, 34])
def test_depths_are_guessed(depth):
    layers = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]
    shapes = {f"layer{s}.{i}.conv1.0.weight": () for s in range(1, 5) for i in range(layers[s - 1])}
    guess = source.find(ARCH).source.guess({**shapes, "fc.weight": (9, 512)}, {})
    assert guess == {"num_classes": 9, "layers": layers}
