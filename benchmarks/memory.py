"""Peak memory of VideoMAE's training step beside that of `transformers` in PyTorch, on a CPU, in one run.

    python benchmarks/memory.py [--variants S B] [--tasks finetune pretrain] [--batch 4]

Each row is a process of its own: by how much its resident memory, at its highest in three steps, has grown
since before the model was made (weights, optimiser, gradients, activations, programs, all that is allocated on
the way). A step comes before them; after it the heap that nobody uses any more is given back, as in training,
and the highest is counted anew. The share is of PyTorch's. Needs the `torch` extra and Linux.
"""

import argparse
import json
import os
import subprocess
import sys

import jax

from jaxvid.core import heap
from jaxvid.evaluate.report import format_table

STEPS = 3
SIDES = {  # fields of the model
    "PyTorch": None,
    "jaxvid": {},
    # Without the loop XLA's CPU backend computes nothing again, whatever it is told.
    "jaxvid, scan_layers and remat": {"scan_layers": True, "remat": True},
}


def resident(what: str) -> float:
    """MiB: "VmRSS" now, "VmHWM" at their highest since they were counted anew."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(what))
    return int(line.split()[1]) / 2**10


def count_anew() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def measure(side: str, task: str, variant: str, batch: int) -> dict[str, float]:
    """In a process of its own: MiB of growth, and what the compiler says the step needs."""
    import train_step  # brings PyTorch: imported before the memory is read

    jax.devices()
    before, planned = resident("VmRSS"), float("nan")
    if side == "PyTorch":
        step, _ = train_step.theirs(task, variant, batch)
    else:
        step, _, _, planned = train_step.ours(task, variant, batch, **SIDES[side])
    step()
    heap.give_back()
    count_anew()
    for _ in range(STEPS):
        step()
    return {"grown": resident("VmHWM") - before, "planned": planned / 2**20}


def in_a_process(*words: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
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
    for task in args.tasks:
        for variant in args.variants:
            grown = {}
            for side in SIDES:
                told = in_a_process(side, task, variant, "--batch", str(args.batch))
                grown[side] = told["grown"]
                share = told["grown"] / grown["PyTorch"]
                planned = "" if side == "PyTorch" else f"{told['planned']:.0f}"
                rows.append([task, variant, side, f"{told['grown']:.0f}", f"{share:.2f}", planned])
                print(*rows[-1], file=sys.stderr)
    print(f"batch {args.batch}, float32, MiB")
    heads = ["task", "variant", "side", "peak growth", "share", "by the compiler's plan"]
    print(format_table(rows, heads))


if __name__ == "__main__":
    main()
