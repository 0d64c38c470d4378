"""The main job as a user runs it: files in, training, a killed run, evaluation of a restored checkpoint."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
RECIPE = "configs/videomae_rwf.py:test"
STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    """RWF-2000's layout with 12 + 6 tiny clips: fights are bright, the rest is dark."""
    root = tmp_path_factory.mktemp("rwf")
    rng = np.random.default_rng(0)
    for split, clips in (("train", 6), ("val", 3)):
        for number in range(clips):
            for name, low in (("Fight", 120), ("NonFight", 20)):
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                frames = rng.integers(low, low + 100, (8, 36, 40, 3))
                write_video(folder / f"clip {number}.mp4", frames)
    return root


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def command(data, workdir, *more):
    return [
        *(sys.executable, "-m", "jaxvid.main", "--config", RECIPE, "--workdir", str(workdir)),
        *(f"--config.data.root={data}", f"--config.run.steps={STEPS}"),
        *("--config.run.log_every_steps=1", "--config.eval.every_steps=6"),
        *("--config.checkpoint.every_steps=3", "--config.run.tensorboard=false"),
        "--config.optim.warmup_steps=2",
        *more,
    ]


def run(data, workdir, environment, *more):
    return subprocess.run(
        command(data, workdir, *more),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def lines(workdir, split="train"):
    text = (workdir / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if row["split"] == split]


def losses(workdir, split="train"):
    return {row["step"]: row["loss"] for row in lines(workdir, split)}


@pytest.fixture(scope="module")
def finished(data, environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("work") / "run"
    done = run(data, workdir, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir, done


def test_the_workdir_is_what_the_design_says(finished):
    workdir, done = finished
    assert json.loads((workdir / "classes.json").read_text()) == {"0": "NonFight", "1": "Fight"}
    assert json.loads((workdir / "config.json").read_text())["run"]["steps"] == STEPS
    result = json.loads((workdir / "eval" / "val.json").read_text())
    assert {"split", "n", "step", "checkpoint", "protocol", "metrics"} <= set(result)
    assert (result["split"], result["n"], result["step"]) == ("val", 6, STEPS)
    assert 0.0 <= result["metrics"]["top1"] <= 1.0 and "roc_auc" in result["metrics"]
    with (workdir / "eval" / "val_predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    for picture in ("eval/val_confusion.png", "learning_curves.png"):
        assert (workdir / picture).read_bytes()[:4] == b"\x89PNG"
    assert sorted(losses(workdir)) == list(range(1, STEPS + 1))
    assert sorted(losses(workdir, "val")) == [6, 12]
    assert (
        "attention, where it has no bias: cpu" in done.stderr and "What to try next" in done.stderr
    )
    assert "--mode eval" in done.stderr


def test_training_learns_to_tell_bright_from_dark(finished):
    workdir, _ = finished
    first, last = losses(workdir)[1], losses(workdir)[STEPS]
    assert last < first


@pytest.mark.parametrize("which", ["last", "best", "9"])
def test_eval_restores_a_checkpoint(finished, data, environment, which):
    workdir, _ = finished
    before = json.loads((workdir / "eval" / "val.json").read_text())
    scheduled = {row["step"]: row["loss"] for row in lines(workdir, "val")}
    done = run(data, workdir, environment, "--mode", "eval", f"--config.eval.checkpoint={which}")
    assert done.returncode == 0, done.stderr[-3000:]
    after = json.loads((workdir / "eval" / "val.json").read_text())
    assert after["n"] == 6
    if which == "9":  # between two evaluations
        assert after["step"] == 9
    else:
        assert after["metrics"]["loss"] == pytest.approx(scheduled[after["step"]], abs=1e-6)
    if which == "last":
        assert after["metrics"] == before["metrics"]
    assert "top1" in done.stdout


def test_eval_on_another_mesh_counts_every_clip_once(finished, data, environment):
    workdir, _ = finished
    done = run(
        *(data, workdir, environment, "--mode", "eval", "--config.mesh.fsdp=2"),
        *("--config.mesh.tensor=2", "--config.eval.batch_size=4"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((workdir / "eval" / "val.json").read_text())
    assert result["n"] == 6
    assert result["metrics"]["loss"] == pytest.approx(losses(workdir, "val")[STEPS], abs=1e-5)


def test_killed_at_any_step_it_ends_with_the_same_losses(finished, data, environment, tmp_path):
    undisturbed, _ = finished
    workdir = tmp_path / "killed"
    for seen in (2, 5, 8):
        process = subprocess.Popen(
            command(data, workdir), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for_step(workdir, seen, process)
        finally:
            process.kill()  # SIGKILL
            process.wait()
    done = run(data, workdir, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed from the checkpoint of step" in done.stderr
    assert losses(workdir) == losses(undisturbed)  # bit for bit
    assert losses(workdir, "val") == losses(undisturbed, "val")


def test_a_run_goes_on_on_another_mesh(finished, data, environment, tmp_path):
    workdir = tmp_path / "other mesh"
    shutil.copytree(finished[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    done = run(data, workdir, environment, "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed from the checkpoint of step 9" in done.stderr
    for step, loss in losses(finished[0]).items():
        assert losses(workdir)[step] == pytest.approx(loss, abs=1e-5), step


def test_sigterm_saves_says_how_to_go_on_and_exits_with_0(data, environment, tmp_path, finished):
    workdir = tmp_path / "terminated"
    process = subprocess.Popen(
        command(data, workdir),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for_step(workdir, 1, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr[-3000:]
    assert "SIGTERM: everything is saved. To go on" in stderr and f"--workdir {workdir}" in stderr
    stopped = max(losses(workdir))
    assert stopped < STEPS
    done = run(data, workdir, environment)
    assert done.returncode == 0
    assert losses(workdir) == losses(finished[0])


def test_another_recipe_in_the_same_workdir_is_refused(finished, data, environment):
    done = run(data, finished[0], environment, "--config.optim.learning_rate=0.5")
    assert done.returncode == 1
    assert "belongs to a run with another recipe" in done.stderr
    assert "optim.learning_rate: 0.001 -> 0.5" in done.stderr


def test_data_of_other_classes_are_not_evaluated(finished, data, environment, tmp_path):
    """Sorted, these names stand in the other order."""
    names = {"Fight": "b", "NonFight": "a"}
    for split in ("train", "val"):
        for name, other in names.items():
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / other).symlink_to(data / split / name)
    words = ("--config.data.dataset=folder", f"--config.data.root={tmp_path}")
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    told = json.loads((workdir / "config.json").read_text())
    told["data"]["dataset"] = "folder"
    (workdir / "config.json").write_text(json.dumps(told))
    done = run(tmp_path, workdir, environment, *words, "--mode", "eval")
    assert done.returncode == 1
    assert "2 classes and the data have 2; the first that differs is class 0:" in done.stderr


@pytest.mark.slow
def test_two_processes_of_two_devices_equal_one_of_four(finished, data, environment, tmp_path):
    workdir = tmp_path / "two"
    port = 20000 + os.getpid() % 20000
    two = {**environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [
        subprocess.Popen(
            command(
                *(data, workdir, f"--coordinator=127.0.0.1:{port}"),
                *("--num_processes=2", f"--process_id={number}"),
            ),
            cwd=ROOT,
            env=two,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [p.communicate(timeout=400)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs[0][-2000:] + outputs[1][-2000:]
    one, two_losses = losses(finished[0]), losses(workdir)
    assert sorted(two_losses) == sorted(one)
    for step, loss in one.items():
        assert two_losses[step] == pytest.approx(loss, abs=1e-5), step
    result = json.loads((workdir / "eval" / "val.json").read_text())
    assert result["n"] == 6


def test_without_data_the_recipe_says_how_to_get_it(environment, tmp_path):
    done = run(tmp_path / "nothing here", tmp_path / "w", environment)
    assert done.returncode == 1
    for words in ("nothing here", "15687512", "configs/quickstart.py"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "w").exists()


def _wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be stopped"
        path = workdir / "metrics.jsonl"
        if path.exists() and path.read_text().count('"train"') >= step:
            return
        time.sleep(0.01)
    raise TimeoutError(f"step {step} was not reached")
