"""Models from scratch on real fights: one table of accuracy over seeds, and clips a second.

    python benchmarks/fights.py DIR [NAME …] [--seeds 0 1 2] [--epochs 8] [--frames 8] [--size 96]

DIR is in RWF-2000's layout. Each model is trained by configs/NAME_rwf.py on so many frames of so many pixels,
in a process of its own; a finished one is not trained again. Accuracy is that of the whole validation split, one
view a clip. Training's clips/s are the median of the log, data included; evaluation's are of a second
round over the validation split, data included, the first having compiled.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax

from jaxvid import config, run_eval
from jaxvid.evaluate.report import format_table

NAMES = ("x3d", "r2plus1d", "s3d", "cnn_lstm", "cnn_mamba")


def words(args, name):
    """(recipe, overrides)"""
    crop = {"name": "random_resized_crop", "size": args.size, "scale": (0.4, 1.0)}
    return f"configs/{name}_rwf.py", [
        f"data.root={args.root}",
        f"data.num_frames={args.frames}",
        f"data.size={args.size}",
        f"data.decode_short_side={args.size * 8 // 7}",
        f"data.train_transforms=({crop},)",
        f"data.batch_size={args.batch_size}",
        f"run.epochs={float(args.epochs)}",
        "run.log_every_steps=5",
        "optim.warmup_epochs=1.0",
        f"eval.every_epochs={float(args.epochs)}",
        "eval.final_clips=1",
        "eval.final_crops=1",
    ]


def train(args, name, seed):
    """(validation top-1, clips/s in training)"""
    workdir = args.workdir / f"{name}_{seed}"
    finished = workdir / "fights.json"
    if not finished.is_file():
        recipe, overrides = words(args, name)
        command = [sys.executable, "-m", "jaxvid.main", "--config", recipe]
        command += ["--workdir", str(workdir), f"--config.run.seed={seed}"]
        subprocess.run([*command, *(f"--config.{o}" for o in overrides)], check=True)
        report = json.loads((workdir / "eval" / "val.json").read_text())
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        rates = [row.get("clips_per_second") for row in map(json.loads, lines)]
        rate = statistics.median(rate for rate in rates if rate)
        finished.write_text(json.dumps({"top1": report["metrics"]["top1"], "rate": rate}))
    told = json.loads(finished.read_text())
    return told["top1"], told["rate"]


def evaluation_rate(args, name):
    """Clips/s, of weights that know nothing."""
    c = config.load(*words(args, name))
    setting = run_eval.make_setting(c)
    variables = {"batch_stats": {}, **jax.jit(setting.task.init)(jax.random.key(0))}
    evaluate = run_eval.measure(c, setting, run_eval.scheduled_views(c))
    evaluate(variables)
    began = time.perf_counter()
    evaluate(variables)
    return len(setting.val_index) / (time.perf_counter() - began)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("root", type=Path, metavar="DIR")
    p.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--frames", type=int, default=8)
    p.add_argument("--size", type=int, default=96)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--workdir", type=Path, default=Path("runs/fights"))
    args = p.parse_args()
    rows = []
    for name in args.names:
        top1, rates = zip(*(train(args, name, seed) for seed in args.seeds), strict=True)
        spread = f" ± {statistics.stdev(top1):.3f}" if len(top1) > 1 else ""
        rows.append(
            [
                name,
                f"{statistics.mean(top1):.3f}{spread}",
                " ".join(f"{x:.3f}" for x in top1),
                f"{statistics.median(rates):.1f}",
                f"{evaluation_rate(args, name):.1f}",
            ]
        )
    print(f"{args.frames} × {args.size}², {args.epochs} epochs, seeds {args.seeds}")
    print(format_table(rows, ["model", "top-1", "of each seed", "train clips/s", "eval clips/s"]))


if __name__ == "__main__":
    main()
