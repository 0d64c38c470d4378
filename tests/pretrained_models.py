"""Small models with random weights for the tests of what is read and written."""

import jax
import numpy as np

from jaxvid import model_tree, pretrained

CLIP = (4, 16, 16, 3)
PREPROCESSING = {
    "num_frames": 4,
    "size": 16,
    "short_side": 20,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "sampling": "dense",
    "stride_frames": 4,
}
INFO = {"preprocessing": PREPROCESSING, "class_names": ["walk", "run", "fight"]}


def classifier(**overrides):
    options = {"num_classes": 3, "norm_eps": 1e-12, "fc_norm_eps": 1e-5, **overrides}
    return pretrained.create_model("videomae", variant="test", **options)


def autoencoder(**overrides):
    return pretrained.create_model("videomae_pretrain", variant="test", **overrides)


def random_variables(model, seed=0):
    rng = np.random.default_rng(seed)
    shapes = model_tree.variable_shapes(model, CLIP)
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def video(batch=2):
    return np.random.default_rng(9).normal(size=(batch, *CLIP)).astype(np.float32)


def logits(model, variables):
    return np.asarray(model.apply(variables, {"video": video()}, train=False)["logits"])
