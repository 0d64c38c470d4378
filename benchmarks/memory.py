"""Peak memory of VideoMAE's training step beside that of `transformers` in PyTorch, on a CPU, in one run.

    python benchmarks/memory.py [--variants S B] [--tasks finetune pretrain] [--batch 4]

Each row is a process of its own: by how much its resident memory, at its highest, has grown since before the
model was made, after three steps (weights, optimiser, gradients, activations, all that is allocated on the
way). jaxvid's processes read the compiled step from a cache that a process before them has filled, as the
compiler's memory is none of the step's. The share is of PyTorch's. Needs the `torch` extra and Linux.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

import jax

from jaxvid.evaluate.report import format_table

STEPS = 3
SIDES = {  # fields of the model
    "PyTorch": None,
    "jaxvid": {},
    # Without the loop XLA's CPU backend computes nothing again, whatever it is told.
    "jaxvid, scan_layers and remat": {"scan_layers": True, "remat": True},
}


def resident() -> float:
    """MiB now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def measure(side: str, task: str, variant: str, batch: int) -> dict[str, float]:
    """In a process of its own: MiB of growth, and what the compiler says the step needs."""
    import train_step  # brings PyTorch: imported before the memory is read

    jax.devices()
    before, planned = resident(), float("nan")
    if side == "PyTorch":
        step, _ = train_step.theirs(task, variant, batch)
    else:
        step, _, _, planned = train_step.ours(task, variant, batch, **SIDES[side])
    for _ in range(STEPS):
        step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"grown": peak - before, "planned": planned / 2**20}


def in_a_process(cache: str, *words: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["S", "B"])
    parser.add_argument("--tasks", nargs="+", default=["finetune", "pretrain"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args.batch)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for task in args.tasks:
            for variant in args.variants:
                grown = {}
                for side in SIDES:
                    words = (side, task, variant, "--batch", str(args.batch))
                    if side != "PyTorch":
                        in_a_process(cache, *words)
                    told = in_a_process(cache, *words)
                    grown[side] = told["grown"]
                    share = told["grown"] / grown["PyTorch"]
                    planned = "" if side == "PyTorch" else f"{told['planned']:.0f}"
                    rows.append(
                        [task, variant, side, f"{told['grown']:.0f}", f"{share:.2f}", planned]
                    )
                    print(*rows[-1], file=sys.stderr)
    print(f"batch {args.batch}, float32, MiB")
    heads = ["task", "variant", "side", "peak growth", "share", "by the compiler's plan"]
    print(format_table(rows, heads))


if __name__ == "__main__":
    main()
