"""Every classifier of the package learns to tell four motions: one table.

    python benchmarks/learns.py [NAME …] [--workdir runs/learns] [--seeds 0]

Each model is trained in its `test` variant by configs/quickstart.py:NAME, as anyone would start it, in a
process of its own; a finished one is not trained again. The classes differ by motion alone, right being left
played backwards: what cannot tell a clip from its reversal cannot pass 0.5 but by chance (0.58 is
allowed for 200 clips), and what can is asked for 0.85. Exit status 1 if a model misses its bound.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import jax

from jaxvid import build, config
from jaxvid.core import lookup
from jaxvid.core.batch import VIDEO
from jaxvid.evaluate.report import format_table

RECIPE = "configs/quickstart.py"
# What is made without order: frames are averaged, or time is never convolved.
ORDER_BLIND = {"resnet", "vit", "single_frame", "late_fusion", "c2d", "timesformer_space_only"}
# Rows that are a model by another recipe. Streams that meet only at their ends need stacks of flow as long
# as the clip, and more epochs.
_TWO_STREAM = {"model.overrides.flow_stack": 15, "run.epochs": 24, "data.in_memory": True}
VARIED = {
    "timesformer_space_only": ("timesformer", {"model.overrides.attention_type": "space_only"}),
    "two_stream_averaged": ("two_stream", {"model.overrides.fusion": "average", **_TWO_STREAM}),
    "two_stream_learned": ("two_stream", {"model.overrides.fusion": "learned", **_TWO_STREAM}),
}
BLIND_AT_MOST, TEMPORAL_AT_LEAST = 0.58, 0.85


def classifiers() -> list[str]:
    """All models that tell classes of videos, and those of VARIED."""

    def tells(name):
        module = lookup.module("model", name)
        classes = {"num_classes", "class_texts"} & module.MODULE.__annotations__.keys()
        return classes and VIDEO in module.example_inputs()

    return sorted([*VARIED, *filter(tells, lookup.names("model"))])


def words(name: str) -> tuple[str, list[str]]:
    """(recipe, overrides) of a row."""
    model, changes = VARIED.get(name, (name, {}))
    return f"{RECIPE}:{model}", [f"{field}={value}" for field, value in changes.items()]


def parameters(name: str) -> int:
    """Of the model that the recipe trains."""
    task = build.task(config.load(*words(name)), num_classes=4)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))


def train(name: str, seed: int, home: Path) -> tuple[float, float]:
    """(seconds of the whole process, validation top-1), from the workdir if it is there."""
    workdir = home / f"{name}_{seed}"
    finished = workdir / "learns.json"
    if not finished.is_file():
        recipe, overrides = words(name)
        command = [sys.executable, "-m", "jaxvid.main", "--config", recipe]
        command += ["--workdir", str(workdir), f"--config.run.seed={seed}"]
        command += [f"--config.{override}" for override in overrides]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
        report = json.loads((workdir / "eval" / "val.json").read_text())
        finished.write_text(json.dumps({"seconds": seconds, "top1": report["metrics"]["top1"]}))
    told = json.loads(finished.read_text())
    return told["seconds"], told["top1"]


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--workdir", type=Path, default=Path("runs/learns"))
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = p.parse_args()
    rows, missed = [], []
    for name in args.names or classifiers():
        runs = [train(name, seed, args.workdir) for seed in args.seeds]
        blind = name in ORDER_BLIND
        for _, top1 in runs:
            if top1 > BLIND_AT_MOST if blind else top1 < TEMPORAL_AT_LEAST:
                missed.append(f"{name}: {top1:.3f}")
        bound = f"< {BLIND_AT_MOST}" if blind else f"> {TEMPORAL_AT_LEAST}"
        times = " ".join(f"{seconds:.0f}" for seconds, _ in runs)
        found = " ".join(f"{top1:.3f}" for _, top1 in runs)
        rows.append([name, f"{parameters(name):,}", times, found, bound])
    print(format_table(rows, ["model", "parameters", "seconds", "top-1", "asked"]))
    if missed:
        print("missed:", "; ".join(missed))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
