"""The 2D ResNet: its sizes, its paths, frames folded into the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.tree import flatten
from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.resnet import DEPTHS, FIELDS, SMALL, ResNet, frame_features, resnet_of


def shapes(backbone, size=64):
    images = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(lambda: backbone.init(jax.random.key(0), images, train=False))


@pytest.mark.parametrize(
    "depth, count",  # torchvision's, less the classifier
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160)],
)
def test_sizes_of_the_paper(depth, count):
    backbone = ResNet(**DEPTHS[depth])
    params = shapes(backbone)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == count
    assert backbone.features == (512 if depth < 50 else 2048) and backbone.stride == 32


@pytest.mark.parametrize(
    "fields", [DEPTHS[18], DEPTHS[50] | {"stage_sizes": (1, 1, 1, 1), "width": 8}, SMALL]
)
def test_features_and_stride_are_those_of_the_maps(fields):
    backbone = ResNet(**fields)
    images = jnp.zeros((2, 64, 96, 3))
    maps = jax.eval_shape(lambda: backbone.init_with_output(jax.random.key(0), images, train=False))
    s = backbone.stride
    assert maps[0].shape == (2, 64 // s, 96 // s, backbone.features)


def test_paths_are_those_the_other_resnets_share():
    paths = flatten(shapes(ResNet(**DEPTHS[50]))["params"])
    assert {p for p in paths if p.startswith("stem/")} == {
        "stem/conv/kernel",
        "stem/norm/scale",
        "stem/norm/bias",
    }
    block = {p.removeprefix("stage_1/block_0/") for p in paths if p.startswith("stage_1/block_0/")}
    norms = [f"{n}/{leaf}" for n in ("norm_1", "norm_2", "norm_3") for leaf in ("scale", "bias")]
    convs = [f"conv_{n}/kernel" for n in (1, 2, 3)]
    shortcut = ["shortcut/kernel", "shortcut_norm/scale", "shortcut_norm/bias"]
    assert block == {*norms, *convs, *shortcut}
    assert not any(p.startswith("stage_1/block_1/shortcut") for p in paths)


def test_frames_are_folded_and_unfolded_in_their_order():
    backbone = ResNet(stage_sizes=(1,), width=8)
    video = np.random.default_rng(0).normal(size=(2, 3, 16, 16, 3)).astype(np.float32)
    init = jax.jit(lambda k: backbone.init(k, video[:, 0], train=False))
    variables = init(jax.random.key(0))
    features = jax.jit(
        lambda v, x: backbone.apply(
            v, x, method=lambda self, x: frame_features(self, x, train=False)
        )
    )(variables, video)
    assert features.shape == (2, 3, 8) and features.dtype == jnp.float32
    one = jax.jit(lambda v, x: backbone.apply(v, x, train=False))(variables, video[:, 1])
    np.testing.assert_allclose(features[:, 1], one.mean((1, 2)), atol=1e-5)


def test_half_precision_is_of_the_maps_not_of_the_parameters():
    backbone = ResNet(**SMALL, dtype=jnp.bfloat16)
    images = jnp.zeros((1, 16, 16, 3))
    maps, variables = jax.eval_shape(
        lambda: backbone.init_with_output(jax.random.key(0), images, train=False)
    )
    assert maps.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_convolutions_start_as_torchvisions():
    backbone = ResNet(stage_sizes=(1,), width=64, stem_kernel=3)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.jit(lambda k: backbone.init(k, images, train=False))(jax.random.key(0))
    kernel = np.asarray(variables["params"]["stem"]["conv"]["kernel"])
    assert kernel.shape == (3, 3, 3, 64)
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)  # fan out


def test_every_norm_has_the_backbones_momentum_and_epsilon():
    backbone = ResNet(**SMALL, bn_momentum=0.7, bn_epsilon=0.01)
    images = jnp.zeros((1, 16, 16, 3))
    seen = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm):
            seen.append((context.module.momentum, context.module.epsilon, context.module.frozen))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: backbone.init(jax.random.key(0), images, train=False))
    assert seen == [(0.7, 0.01, False)] * 9


def test_a_models_fields_make_its_resnet():
    class Model:
        pass

    model = Model()
    for name in FIELDS:
        setattr(model, name, getattr(ResNet(), name))
    model.width = 8
    backbone = resnet_of(model, frozen_bn=True)
    assert (backbone.width, backbone.frozen_bn, backbone.stage_sizes) == (8, True, (2, 2, 2, 2))
