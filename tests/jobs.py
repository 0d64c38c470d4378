"""Runs of the whole program on tiny clips, as a user starts them: for tests of several hosts and faults."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RECIPE = "configs/videomae_rwf.py:test"
STEPS = 12


def make_data(root: Path, write_video) -> Path:
    """RWF-2000's layout with 12 + 6 clips: fights are bright, the rest is dark."""
    rng = np.random.default_rng(0)
    for split, clips in (("train", 6), ("val", 3)):
        for number in range(clips):
            for name, low in (("Fight", 120), ("NonFight", 20)):
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                frames = rng.integers(low, low + 100, (8, 36, 40, 3))
                write_video(folder / f"clip {number}.mp4", frames)
    return root


def make_environment(cache: Path, *, devices: int, **more: str) -> dict[str, str]:
    """`devices` CPU devices a process; compiled programs are shared by the runs of a test file."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # what runs for seconds is made in less
        "PYTHON": sys.executable,
        **more,
    }


def arguments(data: Path, workdir: Path, *more: str, steps: int = STEPS) -> list[str]:
    """Of jaxvid.main: every step logged, evaluation every 6 steps, a checkpoint every 3."""
    return [
        *("--config", RECIPE, "--workdir", str(workdir)),
        *(f"--config.data.root={data}", f"--config.run.steps={steps}"),
        *("--config.run.log_every_steps=1", "--config.eval.every_steps=6"),
        *("--config.checkpoint.every_steps=3", "--config.run.tensorboard=false"),
        *("--config.optim.warmup_steps=2", "--config.data.threads=2"),
        *more,
    ]


def start(words: list[str], environment: dict[str, str], **options) -> subprocess.Popen:
    """A program in the checkout, its stderr readable."""
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, **options
    )


def main_process(
    data, workdir, environment, *more, prefix: tuple[str, ...] = (), **options
) -> subprocess.Popen:
    """`python -m jaxvid.main …`, started by `prefix`."""
    words = [*prefix, sys.executable, "-m", "jaxvid.main", *arguments(data, workdir, *more)]
    return start(words, environment, **options)


def finish(process: subprocess.Popen, timeout: float = 400) -> tuple[int, str]:
    """(exit code, stderr); a process that outlasts `timeout` seconds is killed and fails the test."""
    try:
        _, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, stderr = process.communicate()
        raise AssertionError(f"still running after {timeout} s:\n{stderr[-3000:]}") from None
    return process.returncode, stderr


def losses(workdir: Path, split: str = "train") -> dict[int, float]:
    """{step: loss}"""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["split"] == split}


def checkpoints(workdir: Path) -> list[int]:
    """The steps that lie there under their final names."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Until the run has written so many steps."""
    path = workdir / "metrics.jsonl"
    _wait(
        lambda: path.exists() and path.read_text().count('"train"') >= step,
        *(process, f"step {step} was not reached"),
    )


def wait_for_checkpoint(workdir: Path, process: subprocess.Popen) -> int:
    """Until a checkpoint lies there under its final name (it is written behind the steps): its step."""
    folder = workdir / "checkpoints"
    _wait(
        lambda: folder.exists() and checkpoints(workdir),
        *(process, "no checkpoint was written"),
    )
    return checkpoints(workdir)[0]


def _wait(holds, process: subprocess.Popen, failure: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the run ended too early: {process.communicate()[1][-3000:]}")
        if holds():
            return
        time.sleep(0.01)
    raise TimeoutError(failure)
