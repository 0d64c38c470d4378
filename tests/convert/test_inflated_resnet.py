"""Weights of image ResNets in 3D ones: a clip that stands still is what its frame is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resnet_tables

import jaxvid
from jaxvid import model_tree, pretrained
from jaxvid.convert import inflated_resnet, source
from jaxvid.core.errors import ConversionError

SMALL = {"stage_sizes": (1, 1, 1, 1), "width": 8}
STEM = {"stem_kernel": 7, "stem_pool": True}
FRAME = np.random.default_rng(0).normal(size=(1, 1, 32, 64, 3)).astype(np.float32)


def random_variables(model, frames):
    """Leaves of either sign, but for the variances."""
    shapes = model_tree.variable_shapes(model, (frames, *FRAME.shape[2:]))
    rng = np.random.default_rng(1)

    def draw(path, shape):
        noise = rng.normal(size=shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return noise / np.sqrt(np.prod(shape.shape[:-1]))
        return 1 + 0.2 * np.abs(noise) if path[-1].key in ("var", "scale") else 0.2 * noise

    return jax.tree_util.tree_map_with_path(draw, shapes)


def maps(model, variables, frames):
    """(features, maps of the backbone) of FRAME standing still."""

    @jax.jit
    def run(variables, video):
        return model.apply(
            variables,
            {"video": video},
            train=False,
            capture_intermediates=lambda module, _: module.name == "backbone",
            mutable=["intermediates"],
        )

    outputs, kept = run(variables, np.repeat(FRAME, frames, axis=1))
    return outputs["features"], np.asarray(kept["intermediates"]["backbone"]["__call__"][0])


# frames: enough that the middle sees neither end.
CASES = [("c2d", 4, {}), ("slow", 8, {}), ("i3d_resnet", 24, {}), ("r3d", 48, {"stem_pool": True})]


@pytest.mark.parametrize(
    "name, frames, fields", CASES, ids=lambda x: x if isinstance(x, str) else ""
)
def test_a_clip_that_stands_still_is_what_its_frame_is(name, frames, fields):
    kind = {"bottleneck": name != "r3d"}
    image = jaxvid.create_model("resnet", num_classes=3, **SMALL, **STEM, **kind)
    model = jaxvid.create_model(name, num_classes=5, **SMALL, **fields)
    weights = random_variables(image, 1)
    given = random_variables(model, frames)
    variables, report = pretrained.merge_weights(given, weights, what="an image ResNet")
    assert set(report.fresh) == {"head/kernel", "head/bias"}
    assert variables["params"]["head"] is not None
    np.testing.assert_array_equal(
        variables["params"]["head"]["kernel"], given["params"]["head"]["kernel"]
    )
    features, of_image = maps(image, weights, 1)
    moving, of_clip = maps(model, variables, frames)
    middle = of_clip[0, of_clip.shape[1] // 2]
    assert middle.std() > 0.1
    np.testing.assert_allclose(middle, of_image.reshape(middle.shape), atol=1e-5)
    if name == "c2d":
        np.testing.assert_allclose(moving, features, atol=1e-5)


@pytest.mark.parametrize(
    "name, depth, clip",
    [
        ("c2d", 50, (8, 224)),
        ("slow", 50, (8, 224)),
        ("i3d_resnet", 50, (8, 224)),
        ("r3d", 18, (16, 112)),
    ],
)
def test_imagenets_checkpoints_start_a_classifier_by_its_name(name, depth, clip):
    shapes = resnet_tables.shapes_of(f"tv_resnet{depth}")
    state = {key: np.full(x.shape, 0.5, x.dtype) for key, x in shapes.items()}
    model, variables, info = jaxvid.from_state_dict(state, arch=name, num_classes=2)
    assert model_tree.model_name(model) == name and model.num_classes == 2 and model.stem_pool
    assert info["fresh"] == ["head/bias", "head/kernel"]
    assert "head/kernel" in info["waived"]
    assert tuple(info["clip"]) == (*clip, clip[1], 3)
    kernel = variables["params"]["backbone"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(kernel.sum(0), 0.5, rtol=1e-6)
    stats = jax.tree.leaves(variables["batch_stats"])
    assert all((x == 0.5).all() for x in stats)
    outputs = jax.eval_shape(
        lambda v, x: model.apply(v, {"video": x}, train=False),
        variables,
        jax.ShapeDtypeStruct((1, *info["clip"]), jnp.float32),
    )
    assert outputs["logits"].shape == (1, 2)


def test_classes_must_be_said():
    state = resnet_tables.shapes_of("tv_resnet50")
    with pytest.raises(ValueError, match="needs num_classes"):
        jaxvid.from_state_dict(state, arch="slow")


def test_resnets_of_other_blocks_and_stems_are_refused():
    bottlenecks = inflated_resnet.transfer(bottleneck=True, clip=(8, 224, 224, 3))
    basics = inflated_resnet.transfer(bottleneck=False, clip=(16, 112, 112, 3))
    known = source.find("torchvision/resnet18").source.arguments({"num_classes": 5})
    assert basics.arguments(known)["stage_sizes"] == (2, 2, 2, 2)
    assert "num_classes" not in basics.arguments(known)
    with pytest.raises(ConversionError, match="bottleneck=False.* depth 50 or more"):
        bottlenecks.arguments(known)
    with pytest.raises(ConversionError, match="bottleneck=True.* depth 18 or 34"):
        basics.arguments({**known, "bottleneck": True})
    with pytest.raises(ConversionError, match=r"stem_kernel=3, .*stage_sizes=\(2, 2, 2\)"):
        basics.arguments({**known, "stem_kernel": 3, "stage_sizes": (2, 2, 2)})
