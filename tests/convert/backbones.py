"""A small ResNet as a checkpoint, for the tables of the models that start from one."""

import functools

import jax
import numpy as np

import jaxvid
from jaxvid import model_tree

PREPROCESSING = {"num_frames": 1, "size": 32, "mean": (0.45,) * 3, "std": (0.22,) * 3}


@functools.cache
def variables():
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(_model(), (1, 32, 32, 3))
    return jax.tree.map(lambda x: rng.uniform(0.5, 1.0, x.shape).astype(np.float32), shapes)


def _model():
    return jaxvid.create_model(
        "resnet", variant="test", num_classes=6, stage_sizes=(1, 1), width=8, bn_epsilon=1e-4
    )


def start(folder, name, **overrides):
    """from_pretrained of that checkpoint as the model of this name."""
    jaxvid.save_pretrained(
        folder, _model(), variables(), {"preprocessing": PREPROCESSING, "class_names": None}
    )
    return jaxvid.from_pretrained(folder, arch=name, **overrides)


def check_start(folder, name, fresh, **overrides):
    """Its ResNet is the checkpoint's, parameters and statistics; all else is fresh, and said to be."""
    model, got, info = start(folder, name, num_classes=2, **overrides)
    assert model_tree.model_name(model) == name and model.num_classes == 2
    assert model.stage_sizes == (1, 1) and model.width == 8 and model.bn_epsilon == 1e-4
    assert {path.split("/")[0] for path in info["fresh"]} == fresh
    assert got["params"].keys() == {"backbone", *fresh}
    assert any(path.startswith("head/") for path in info["waived"])
    assert info["class_names"] is None and info["clip"][0] == overrides.get("num_frames", 16)
    for part in fresh:
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(got["params"][part]))
    jax.tree.map(np.testing.assert_array_equal, got["batch_stats"], variables()["batch_stats"])
    ours, theirs = (
        {k: v for k, v in tree["params"]["backbone"].items() if k != "stem"}
        for tree in (got, variables())
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    norms = (tree["params"]["backbone"]["stem"]["norm"] for tree in (got, variables()))
    jax.tree.map(np.testing.assert_array_equal, *norms)
    kernels = [tree["params"]["backbone"]["stem"]["conv"]["kernel"] for tree in (got, variables())]
    return model, got, kernels
