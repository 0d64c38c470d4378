"""Small ViViTs and image models with random weights, run once: for tests of their conversion."""

import functools

import jax
import numpy as np

from jaxvid import model_tree

CLIP = (8, 32, 32, 3)


def random_variables(model, clip=CLIP, seed=0):
    rng = np.random.default_rng(seed)
    shapes = model_tree.variable_shapes(model, clip)
    return jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), shapes)


def run(model, variables, video):
    """Compiled once for one use: quickly made is better than quick."""
    apply_it = jax.jit(functools.partial(model.apply, train=False))
    lowered = apply_it.lower(variables, {"video": video})
    options = {"xla_backend_optimization_level": 0}
    return lowered.compile(compiler_options=options)(variables, {"video": video})
