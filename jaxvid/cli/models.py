"""list architectures and variants with their parameters"""

import argparse
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.evaluate.report import format_table


def run(argv: Sequence[str]) -> int:
    """`jaxvid models [NAME …]`"""
    p = argparse.ArgumentParser(prog="jaxvid models", description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--num-classes", type=int, default=400)
    args = p.parse_args(list(argv))
    rows = []
    for name in args.names or lookup.names("model"):
        module = lookup.module("model", name)
        for variant in module.VARIANTS:
            count, shape = parameters(module, variant, args.num_classes)
            rows.append([name, variant, f"{count / 1e6:.2f}M", "×".join(map(str, shape[1:4]))])
    print(format_table(rows, ["model", "variant", "parameters", "default input (T×H×W)"]))
    print(f"parameters with {args.num_classes} classes, where the model has any")
    return 0


def parameters(module, variant: str, num_classes: int) -> tuple[int, tuple[int, ...]]:
    """(number of parameters, shape of its default input), without allocating either."""
    model = module.build(num_classes, variant=variant)
    inputs = module.example_inputs(variant)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), _zeros(inputs), train=False))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))
    return count, inputs["video"].shape


def _zeros(inputs):
    return {name: jnp.zeros(x.shape, x.dtype) for name, x in inputs.items()}
