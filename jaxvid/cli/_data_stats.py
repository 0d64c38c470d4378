"""Mean and deviation of a dataset's pixels, the balance of its classes, a picture of training
batches."""

import argparse
import dataclasses
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxvid import build, build_data, config
from jaxvid.cli import _data_arguments as arguments
from jaxvid.core import lookup
from jaxvid.core.batch import MASK, ROW, VIDEO
from jaxvid.core.errors import ConfigError
from jaxvid.core.files import write_atomically
from jaxvid.core.record import DatasetIndex
from jaxvid.data.contact_sheet import contact_sheet
from jaxvid.data.label_counts import balance, class_names_of_heads, label_counts
from jaxvid.data.pixel_statistics import SHORT_SIDE, PixelStatistics, pixel_statistics
from jaxvid.data.source import OpenClip
from jaxvid.ops.pixels import STATISTICS, denormalise

EXAMPLES = """examples:
  jaxvid data stats data/rwf2000 --sheet batch.png
  jaxvid data stats --config configs/videomae_rwf.py --config.data.root=DIR

The picture shows what a model gets from a recipe: after decoding, sampling, crops, flips, colours, erasing
and mixing. Without a recipe it is the default one, a random resized crop and flips of 16 × 224² frames.

exit code: 0, 2 if something could not be read
"""
PLAIN_MODEL = ("videomae", "test")  # takes any clip that patches of 16 fit, and is never run here


def run(argv: Sequence[str]) -> int:
    """`jaxvid data stats ROOT|--config FILE …` -> exit code."""
    args, overrides = arguments.parse(_parser(), argv)
    try:
        report = _report(args, arguments.choose(args, overrides))
    except (ValueError, OSError, TypeError, RuntimeError) as error:  # RuntimeError: DecodeError
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    p = arguments.parser("stats", __doc__, EXAMPLES)
    p.add_argument("--split", metavar="NAME", help="default: the one that trains")
    p.add_argument(
        "--clips",
        type=arguments.positive,
        default=256,
        help="drawn for mean and deviation (default 256)",
    )
    p.add_argument("--seed", type=int, default=0, help="of what is drawn and of the augmentation")
    p.add_argument(
        "--sheet", type=Path, metavar="PNG", default="contact_sheet.png", help="the picture's file"
    )
    p.add_argument(
        "--rows",
        type=arguments.positive,
        default=8,
        help="clips in the picture, of one batch (default 8)",
    )
    p.add_argument("--json", action="store_true", help="one object on stdout")
    return p


def _report(args: argparse.Namespace, chosen: arguments.Chosen) -> dict[str, Any]:
    module = lookup.module("dataset", chosen.dataset)
    split = args.split or (chosen.splits or module.SPLITS)[0]
    if hasattr(module, "read_features"):
        raise ConfigError(
            f"dataset {chosen.dataset!r} is made of features: it has no pixels to measure or to show. What its "
            "shards hold says jaxvid data check"
        )
    c = chosen.config or _plain_recipe(chosen)
    c.data.options.update(chosen.options)
    index = build_data.index(c, split)
    pixels = pixel_statistics(
        index,
        clips=args.clips,
        seed=args.seed,
        open_clip=_opener(c, index),
        deadline_seconds=c.data.deadline_seconds,
        threads=c.data.threads or arguments.usable_cores(),
        show=sys.stderr.isatty() or not args.json,
    )
    _write_sheet(args.sheet, c, index, rows=args.rows, seed=args.seed)
    classes = label_counts(index)
    return {
        "dataset": chosen.dataset,
        "detected": chosen.detected,
        "root": c.data.store or str(chosen.root),
        "split": split,
        "clips": len(index),
        "pixels": dataclasses.asdict(pixels) | {"nearest": nearest_statistics(pixels)},
        "classes": classes if index.heads else classes[""],
        "balance": {head: balance(counts) for head, counts in classes.items()}
        if index.heads
        else balance(classes[""]),
        "sheet": str(args.sheet),
    }


def _opener(c: ConfigDict, index: DatasetIndex) -> OpenClip:
    """What opens the videos as training does; files in the usual size."""
    c = c.copy_and_resolve_references()
    if not c.data.store:
        c.data.decode_short_side = SHORT_SIDE
    return build_data.opener(c, index)


def nearest_statistics(pixels: PixelStatistics) -> str:
    """The named mean and deviation of ops/pixels.py that lies nearest."""

    def distance(name: str) -> float:
        named = STATISTICS[name]
        return math.dist((*named.mean, *named.std), (*pixels.mean, *pixels.std))

    return min(STATISTICS, key=distance)


# --- the picture ---------------------------------------------------------------------------------------


def _plain_recipe(chosen: arguments.Chosen) -> ConfigDict:
    c = config.default()
    c.data.dataset, c.data.root = chosen.dataset, str(chosen.root)
    c.model.name, c.model.variant = PLAIN_MODEL
    c.data.on_error = "skip"  # the report counts and names them
    return c


def _write_sheet(path: Path, c: ConfigDict, index: DatasetIndex, *, rows: int, seed: int) -> None:
    batch, clips, targets = training_clips(c, index, rows=rows, seed=seed)
    views = len(clips) // len(batch[ROW])
    titles = []
    for number in range(len(clips)):
        row = number // views
        record = index.records[int(batch[ROW][row])]
        labels = in_words(index, record.labels, None if targets is None else targets[number])
        titles.append(f"{labels}   {record.id}" if batch[MASK][row] else f"skipped: {record.id}")
    picture = io.BytesIO()
    Image.fromarray(contact_sheet(clips[:rows], titles[:rows])).save(picture, "png")
    write_atomically(path, picture.getvalue())


def training_clips(
    c: ConfigDict, index: DatasetIndex, *, rows: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """(a batch of at least `rows` clips, its clips as the model gets them but with pixels uint8
    (N, T, H, W, 3), soft labels (N, K) where the recipe makes them). Raises ConfigError for data that
    are no pictures."""
    c = c.copy_and_resolve_references()
    devices = jax.device_count()
    c.run.seed, c.data.workers, c.optim.accumulate_steps = seed, 0, 1
    c.data.batch_size = c.eval.batch_size = math.ceil(rows / devices) * devices
    with build_data.training_data(c, index, build.mesh(c)) as batches:
        batch = next(batches)
    if VIDEO not in batch:
        raise ConfigError(
            f"dataset {c.data.dataset!r} gives {', '.join(sorted(batch))} and no pictures: there is "
            "nothing to show"
        )
    task = build.task_of(c, index)
    inputs, targets = jax.jit(task.prepare)(jax.random.key(seed), batch)
    video = denormalise(inputs[VIDEO].astype(np.float32), c.data.statistics)
    pixels = np.asarray((video * 255).round().clip(0, 255)).astype(np.uint8)
    return batch, pixels, _unsmoothed(targets, c.objective.label_smoothing)


def _unsmoothed(targets: dict, smoothing: float) -> np.ndarray | None:
    """Soft labels with what is the same for every class taken out, so that mixing is what remains."""
    if "target" not in targets:
        return None
    soft = np.asarray(targets["target"], np.float32)
    return (soft - smoothing / soft.shape[-1]) / (1 - smoothing)


def in_words(index: DatasetIndex, labels: Sequence[int], soft: np.ndarray | None) -> str:
    """Names of labels; of a mixed clip those that its soft label weighs, with their shares."""
    heads = class_names_of_heads(index)
    if index.heads:
        named = zip(heads.items(), labels, strict=False)
        return ", ".join(f"{head} {names[label]}" for (head, names), label in named)
    names = heads[""]
    if soft is not None and not index.multilabel and soft.shape == (len(names),):
        mixed = [f"{names[i]} {soft[i]:.0%}" for i in np.argsort(-soft)[:2] if soft[i] > 5e-3]
        if len(mixed) > 1:
            return " + ".join(mixed)
    return ", ".join(names[label] for label in labels) or "no label"


# --- as text -----------------------------------------------------------------------------------------


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    how = ", found out by its files" if report["detected"] else ""
    pixels = report["pixels"]
    named = STATISTICS[pixels["nearest"]]
    lines = [
        f"{report['root']}: dataset {report['dataset']}{how}, {report['split']}: {report['clips']} clips",
        "",
        f"pixels of {pixels['clips']} clips, R G B in [0, 1]",
        f"  mean  {_three(pixels['mean'])}",
        f"  std   {_three(pixels['std'])}",
        f"  nearest of the named ones (data.statistics): {pixels['nearest']}",
        f"        {_three(named.mean)}, std {_three(named.std)}",
    ]
    lines += [f"  could not be read: {error}" for error in pixels["failed"][:5]]
    heads = isinstance(next(iter(report["classes"].values()), 0), dict)
    for head, counts in (report["classes"] if heads else {"": report["classes"]}).items():
        lines += [
            "",
            *_balance_lines(head, counts, report["balance"][head] if heads else report["balance"]),
        ]
    return "\n".join([*lines, "", f"a batch of training: {report['sheet']}"])


def _three(values: Sequence[float]) -> str:
    return " ".join(f"{v:.4f}" for v in values)


def _balance_lines(head: str, counts: dict[str, int], told: dict[str, float]) -> list[str]:
    lines = [
        f"{head or 'classes'}: {told['classes']}, {told['empty']} of them without a clip",
        f"  largest to smallest {told['ratio']:.3g}; the largest has {told['largest_share']:.1%} of the labels",
    ]
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ordered if len(ordered) <= 20 else [*ordered[:5], ("…", None), *ordered[-5:]]
    most = max(counts.values(), default=0) or 1
    width = max((len(name) for name, _ in shown), default=0)
    for name, n in shown:
        bar = "" if n is None else f"{n:>8} {'▇' * math.ceil(30 * n / most)}"
        lines.append(f"  {name:<{width}} {bar}".rstrip())
    return lines
