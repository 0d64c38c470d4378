"""Clips a second of a recipe's pipeline, where their time goes, and whether the model has to wait."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvid import build, build_data, config
from jaxvid.cli._data_arguments import usable_cores
from jaxvid.core.batch import VIDEO
from jaxvid.data import bench
from jaxvid.run_eval import make_setting
from jaxvid.sharding.hosts import to_global
from jaxvid.sharding.mesh import replicated
from jaxvid.sharding.rules import TRANSFORMER_RULES
from jaxvid.train import state as train_state

EXAMPLES = """examples:
  jaxvid data bench configs/videomae_rwf.py --config.data.root=data/rwf2000
  jaxvid data bench configs/videomae_rwf.py --config.data.store=stores/rwf2000 --needs 300
  jaxvid data bench configs/quickstart.py --seconds 20 --json

Without --needs some steps of the model are timed on this machine's devices. On a CPU they take the same
cores that decode, so both numbers are better than what they reach together.

exit code: 0, 2 if something could not be read
"""
_WARM_STEPS, _LEAST_STEPS = 2, 3


def run(argv: Sequence[str]) -> int:
    """`jaxvid data bench FILE[:ARG] [section.field=value …]` -> exit code; overrides may keep main's
    `--config.`."""
    p = _parser()
    args, rest = p.parse_known_args(list(argv))
    overrides = [word.removeprefix("--config.") for word in rest]
    strange = [word for word in overrides if word.startswith("-") or "=" not in word]
    if strange:
        p.error(
            f"unknown argument {strange[0]!r}; fields of the config are --config.section.field=value"
        )
    try:
        c = config.load(args.recipe, overrides)
        report = measure(c, seconds=args.seconds, needs=args.needs)
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:  # also DecodeError
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="jaxvid data bench",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("recipe", metavar="FILE[:ARG]")
    p.add_argument(
        "--needs", type=float, metavar="CLIPS", help="clips/s the model takes; default: timed here"
    )
    p.add_argument(
        "--seconds", type=float, default=10.0, help="for each of the measurements (default 10)"
    )
    p.add_argument("--json", action="store_true", help="one object on stdout")
    return p


def measure(c: ConfigDict, *, seconds: float, needs: float | None) -> dict[str, Any]:
    """All that is printed, as plain values. Raises ConfigError, DataError, DecodeError."""
    mesh = build.mesh(c)
    index = build_data.index(c, c.data.train_split)
    source = build_data.training_source(c, index)

    def transfer(batch):
        jax.block_until_ready(to_global(batch, mesh))

    with build_data.training_data(c, index, mesh) as batches:
        whole = bench.throughput(batches, seconds)
    parts = bench.stages(
        source, batch_size=c.data.batch_size, seconds=seconds, transfer=transfer, seed=c.run.seed
    )
    gives = whole.clips_per_second
    timed = needs is None
    needs = model_rate(c, seconds) if timed else needs
    return {
        "clips_per_second": gives,
        "clips": whole.clips,
        "skipped": whole.skipped,
        "seconds": whole.seconds,
        "threads": c.data.threads or usable_cores(),
        "workers": c.data.workers,
        "from": c.data.store or str(build_data.root(c)),
        "megabytes_read_per_second": parts.bytes_read * gives / 1e6,
        "megabytes_given_per_second": whole.bytes / whole.seconds / 1e6,
        "milliseconds_a_clip": {name: 1e3 * value for name, value in parts.seconds.items()},
        "clips_timed": parts.clips,
        "needs": needs,
        "needs_timed_on": jax.devices()[0].device_kind if timed else None,
        "waits": "nobody" if not needs else "data" if gives >= needs else "model",
        "verdict": bench.verdict(gives, needs) if needs else "no model to compare with",
        "advice": bench.advice(parts, prepared=bool(c.data.store)) if gives < needs else "",
    }


def model_rate(c: ConfigDict, seconds: float) -> float:
    """Clips a second that training takes on this machine's devices, the same batch again and again."""
    setting = make_setting(c)
    task, mesh = setting.task, setting.mesh
    tx, schedule = build.optimiser(c, task.model, 1000, 0)
    init = train_state.make_init(task.init, tx, ema=c.optim.ema_decay > 0)
    abstract = train_state.abstract(init, mesh, TRANSFORMER_RULES)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    state = train_state.create(init, c.run.seed, shardings)
    step = jax.jit(
        build.train_step(c, task, tx, schedule, mesh),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
    with build_data.training_data(c, setting.train_index, mesh) as batches:
        batch = setting.to_device(next(batches))
    for _ in range(_WARM_STEPS):  # the first one compiles
        state, sums = step(state, batch)
    jax.block_until_ready((state, sums))
    steps, began = 0, time.perf_counter()
    while steps < _LEAST_STEPS or time.perf_counter() - began < seconds:
        state, sums = step(state, batch)
        jax.block_until_ready(sums)
        steps += 1
    return steps * c.data.batch_size / (time.perf_counter() - began)


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    parts = report["milliseconds_a_clip"]
    total = sum(parts.values())
    threads = report["threads"]
    how = f"{threads} thread{'s' * (threads != 1)}" + (
        f" in each of {report['workers']} processes" if report["workers"] else ""
    )
    lines = [
        (
            f"{report['from']}: {report['clips_per_second']:.1f} clips/s with {how} "
            f"({report['clips']} clips in {report['seconds']:.1f} s, {report['skipped']} skipped)"
        ),
        (
            f"  {report['megabytes_read_per_second']:.1f} MB/s read, "
            f"{report['megabytes_given_per_second']:.1f} MB/s given as {VIDEO} and labels"
        ),
        "",
        f"one thread, {report['clips_timed']} clips: {total:.2f} ms a clip",
    ]
    for name, value in parts.items():
        lines.append(f"  {name:<9} {value:8.2f} ms {value / total:6.1%}  {bench.STAGES[name]}")
    if report["needs_timed_on"]:
        lines += [
            "",
            f"a training step on {report['needs_timed_on']}: {report['needs']:.1f} clips/s",
        ]
    return "\n".join([*lines, "", *filter(None, (report["verdict"], report["advice"]))])
