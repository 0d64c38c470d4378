"""list architectures and variants with their parameters and their work"""

import argparse
import functools
import math
from collections.abc import Sequence

import jax

from jaxvid.core import lookup
from jaxvid.core.batch import FLOW, VIDEO
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.ops.tube_mask import num_masked

MASK_RATIO = 0.9
ROW = "{:18s} {:22s} {:>10s} {:>9s}  {}"


def run(argv: Sequence[str]) -> int:
    """`jaxvid models [NAME …]`"""
    p = argparse.ArgumentParser(prog="jaxvid models", description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--num-classes", type=int, default=400)
    args = p.parse_args(list(argv))
    modules = [lookup.module("model", name) for name in args.names or lookup.names("model")]
    print(ROW.format("model", "variant", "parameters", "GFLOPs", "default input"))
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        for variant in module.VARIANTS:
            count, work, inputs = measure(module, variant, args.num_classes)
            row = ROW.format(name, variant, f"{count / 1e6:.2f}M", f"{work / 1e9:.2f}", inputs)
            print(row, flush=True)
    print(
        f"parameters with {args.num_classes} classes, where the model has any. GFLOPs as papers count them: "
        "billions of multiply-adds\nof matrix products and convolutions in a forward pass of one clip of the "
        f"default input (T×H×W), {MASK_RATIO:.0%} of\nit masked in pretraining; hardware counts two each"
    )
    return 0


def measure(module, variant: str, num_classes: int) -> tuple[int, int, str]:
    """(parameters, multiply-adds, default input in words), without allocating any of it."""
    model = module.build(num_classes, variant=variant)
    inputs = module.example_inputs(variant)
    if hasattr(model, "num_visible"):
        model = model.clone(num_visible=_visible(model, inputs[VIDEO].shape))
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), inputs
    )
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    work = multiply_adds(functools.partial(model.apply, train=False), variables, inputs)
    return count, work, ", ".join(_in_words(n, x.shape) for n, x in inputs.items() if _is_seen(n))


def _visible(model, shape: tuple[int, ...]) -> int:
    """Tokens that a pretraining's encoder sees of such a clip."""
    patch = (model.tubelet_size, model.patch_size, model.patch_size)
    grid = tuple(size // p for size, p in zip(shape[1:4], patch, strict=True))
    return math.prod(grid) - num_masked("tube", grid, MASK_RATIO)


def _in_words(name: str, shape: tuple[int, ...]) -> str:
    sizes = "×".join(map(str, shape[1:4] if name in (VIDEO, FLOW) else shape[1:]))
    return sizes if name == VIDEO else f"{name} {sizes}"


def _is_seen(name: str) -> bool:
    return name != "tube_mask"
