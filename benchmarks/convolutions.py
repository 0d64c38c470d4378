"""Every distinct convolution of the package's models, forward and gradient, against PyTorch on one CPU.

    python benchmarks/convolutions.py [--models r3d slow …] [--all-variants] [--rounds 5] [--worst]

The convolutions are those that the models call when they are traced on their default inputs, one clip,
so the list follows the code. Both sides run in turn in one process on the same cores in float32, each
after a pause and two runs that are not counted: medians of all the others. XLA's threads sleep between two
runs, and one that wakes up late leaves a run of 1 or 2 ms to the other, which can double its time; in a
model they are awake. So the last lines count by the fastest runs as well. The gradient is with respect to
input and kernel. Ratios are jaxvid's time over PyTorch's: below 1 jaxvid is faster. Needs the `torch`
extra.
"""

import argparse
import functools
import inspect
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxvid.core import lookup
from jaxvid.nn import conv as conv_file

GOAL = 1.5
PAUSE = 0.05  # seconds between the two sides
ENOUGH = 0.03  # seconds of runs in a row
LINE = "{:46s} {:24s} {:>8s} {:>8s} {:>6s} {:>7s} {:>8s} {:>8s} {:>6s} {:>7s} {:>8s}  {}"


def convolutions(models, all_variants):
    """{(input shape, kernel shape, geometry): names of the models}, of what the models call"""
    found = {}
    original = conv_file._conv

    def note(x, kernel, geometry, by):
        found.setdefault((x.shape, kernel.shape, geometry), set()).add(name)
        return original(x, kernel, geometry, by)

    conv_file._conv = note
    try:
        for name in models:
            module = lookup.module("model", name)
            default = inspect.signature(module.build).parameters["variant"].default
            names = [v for v in module.VARIANTS if v != "test"] if all_variants else [default]
            for variant in names:
                model = module.build(400, variant=variant)
                init = functools.partial(model.init, train=False)
                jax.eval_shape(init, jax.random.key(0), module.example_inputs(variant))
    finally:
        conv_file._conv = original
    return found


def ours(x, kernel, weights, geometry):
    """-> (forward, gradient, compile seconds): functions that end when the arrays are there"""
    function = functools.partial(conv_file._conv, geometry=geometry, by=None)

    def gradient(x, kernel, weights):
        return jax.vjp(function, x, kernel)[1](weights)

    arrays = [jnp.asarray(np.moveaxis(a, 1, -1)) for a in (x, weights)]
    arrays.insert(1, jnp.asarray(np.moveaxis(kernel, (0, 1), (-1, -2))))
    began = time.perf_counter()
    compiled_forward = jax.jit(function).lower(*arrays[:2]).compile()
    compiled_gradient = jax.jit(gradient).lower(*arrays).compile()
    seconds = time.perf_counter() - began

    def run_forward():
        return jax.block_until_ready(compiled_forward(*arrays[:2]))

    def run_gradient():
        return jax.block_until_ready(compiled_gradient(*arrays))

    return run_forward, run_gradient, seconds


def theirs(x, kernel, geometry):
    """-> (forward, gradient, result) of the same convolution"""
    operation = {2: torch.conv2d, 3: torch.conv3d}[len(geometry.strides)]
    x, kernel = torch.from_numpy(x), torch.from_numpy(kernel)
    symmetric = all(low == high for low, high in geometry.pads)
    around = [low for low, _ in geometry.pads] if symmetric else 0
    if not symmetric:  # once, outside the timing
        x = torch.nn.functional.pad(x, [p for pair in reversed(geometry.pads) for p in pair])
    options = (None, geometry.strides, around, geometry.dilation, geometry.groups)
    leaves = x.clone().requires_grad_(), kernel.clone().requires_grad_()
    result = operation(*leaves, *options)
    weights = torch.randn_like(result)

    @torch.no_grad()
    def forward():
        return operation(x, kernel, *options)

    def gradient():
        return torch.autograd.grad(result, leaves, weights, retain_graph=True)

    return forward, gradient, weights.numpy()


def runs(function):
    """-> the seconds of some runs in a row, without those that wake the side's threads up. The other
    side's look for work for some ms after their last, on the cores that this side needs: hence the pause."""
    time.sleep(PAUSE)
    for _ in range(2):
        function()
    found, until = [], time.perf_counter() + ENOUGH
    while len(found) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return found


def compare(case, rounds):
    """-> ms of all runs of (their forward, our forward, their gradient, our gradient), compile seconds"""
    (n, *sizes, channels), (*window, per_group, out), geometry = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, *sizes), dtype=np.float32)
    kernel = rng.standard_normal((out, per_group, *window), dtype=np.float32) * 0.1
    their_forward, their_gradient, weights = theirs(x, kernel, geometry)
    our_forward, our_gradient, compiling = ours(x, kernel, weights, geometry)
    their_y = np.moveaxis(their_forward().numpy(), 1, -1)
    error = np.max(np.abs(our_forward() - their_y)) / np.max(np.abs(their_y))
    if error > 1e-5:
        raise SystemExit(f"{case}: results differ by {error:.1e} of the largest")
    functions = their_forward, our_forward, their_gradient, our_gradient
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, found in zip(functions, times, strict=True):
            found += runs(function)
    return [[1e3 * t for t in found] for found in times], compiling


def in_words(case):
    x, kernel, geometry = case
    times = "×".join
    shape = times(map(str, x[:-1])) + f", {x[-1]} -> {kernel[-1]}"
    words = times(map(str, kernel[:-2])) + " /" + times(map(str, geometry.strides))
    return shape, words + (f" groups {geometry.groups}" if geometry.groups > 1 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=lookup.names("model"))
    parser.add_argument("--all-variants", action="store_true", help="not only the default ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--worst", action="store_true", help=f"print only what is above {GOAL} by either"
    )
    args = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("this compares CPUs: set JAX_PLATFORMS=cpu")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(threads)
    cases = convolutions(args.models, args.all_variants)
    print(f"{len(cases)} distinct convolutions, {threads} threads, float32; times in ms")
    heads = "input, channels|window /strides|PyTorch|jaxvid|ratio|fastest"
    heads += "|gradient|jaxvid|ratio|fastest|compile|in"
    print(LINE.format(*heads.split("|")))
    by_median, by_fastest, total_compiling = [], [], 0.0
    for case, names in cases.items():
        times, compiling = compare(case, args.rounds)
        total_compiling += compiling
        tf, of, tg, og = map(statistics.median, times)
        fastest = list(map(min, times))
        by_median.append((of / tf, og / tg))
        by_fastest.append((fastest[1] / fastest[0], fastest[3] / fastest[2]))
        if args.worst and max(by_median[-1] + by_fastest[-1]) <= GOAL:
            continue
        forward = (tf, of, by_median[-1][0], by_fastest[-1][0])
        gradient = (tg, og, by_median[-1][1], by_fastest[-1][1])
        numbers = [f"{x:.2f}" for x in forward + gradient] + [f"{compiling:.1f} s"]
        print(LINE.format(*in_words(case), *numbers, ", ".join(sorted(names))), flush=True)
    for what, all_ratios in (("median", by_median), ("fastest", by_fastest)):
        for name, column in zip(
            ("forward", "gradient"), zip(*all_ratios, strict=True), strict=True
        ):
            print(
                f"{name}, by the {what} runs: {sum(r > GOAL for r in column)} of {len(cases)} above "
                f"{GOAL}; median ratio {statistics.median(column):.2f}, largest {max(column):.2f}"
            )
    print(f"compiled in {total_compiling:.0f} s altogether")


if __name__ == "__main__":
    main()
