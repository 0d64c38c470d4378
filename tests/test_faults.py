"""Faults while a run goes: kills, a full disk, a folder that became read-only, a truncated checkpoint."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest
from jobs import (
    STEPS,
    checkpoints,
    finish,
    losses,
    main_process,
    make_data,
    make_environment,
)

SAVES = [3, 6, 9, 12]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("cache"), devices=2)


@pytest.fixture(scope="module")
def undisturbed(data, environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    process = main_process(data, workdir, environment, "--config.checkpoint.keep_last=9")
    code, stderr = finish(process)
    assert code == 0, stderr[-3000:]
    assert checkpoints(workdir) == SAVES
    return workdir


@pytest.fixture
def half(undisturbed, tmp_path):
    """The workdir of a run that was killed after step 9."""
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    shutil.rmtree(workdir / "checkpoints" / "12")
    return workdir


def same(workdir, undisturbed):
    return losses(workdir) == losses(undisturbed) and losses(workdir, "val") == losses(
        undisturbed, "val"
    )


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_a_truncated_newest_checkpoint_loses_nothing_older(data, environment, undisturbed, half):
    victim = largest_file(half / "checkpoints" / "9")
    os.truncate(victim, victim.stat().st_size // 2)
    code, stderr = finish(main_process(data, half, environment))
    if code:  # it stops with a clear error, and what that says works
        assert "Traceback" not in stderr and str(half / "checkpoints" / "9") in stderr, stderr
        assert "damaged" in stderr and "[3, 6]" in stderr, stderr[-3000:]
        assert checkpoints(half) == [3, 6, 9]
        shutil.rmtree(half / "checkpoints" / "9")
        code, stderr = finish(main_process(data, half, environment))
    assert code == 0, stderr[-3000:]
    assert "resumed from the checkpoint of step 6" in stderr
    assert same(half, undisturbed)


def test_a_full_disk_ends_with_a_clear_error_and_room_lets_it_go_on(
    data, environment, undisturbed, half
):
    def no_large_files():  # stands for a disk that fills up: larger files cannot be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))

    no_cache = {k: v for k, v in environment.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    no_cache["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    code, stderr = finish(main_process(data, half, no_cache, preexec_fn=no_large_files))
    # Orbax's threads print tracebacks of their own, before or after it: the line of jaxvid counts.
    said = stderr.rpartition("\nerror: ")[2].partition("\n")[0]
    assert code == 1 and "could not be written" in said, stderr[-3000:]
    assert "[3, 6, 9] are untouched" in said, said
    assert checkpoints(half) == [3, 6, 9]
    code, stderr = finish(main_process(data, half, environment))
    assert code == 0 and "resumed from the checkpoint of step 9" in stderr, stderr[-3000:]
    assert same(half, undisturbed)


def read_only(workdir) -> tuple[str, ...]:
    """What starts a program for which, root or not, this folder is mounted read-only."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(workdir))
    if shutil.which("unshare") is None or subprocess.call([*prefix, "true"]):
        pytest.skip("this system lets nobody mount a folder read-only (unshare)")
    return prefix


def test_a_workdir_that_became_read_only_is_said_and_left_as_it_is(data, environment, half):
    before = {p: p.stat().st_mtime_ns for p in half.rglob("*")}
    code, stderr = finish(main_process(data, half, environment, prefix=read_only(half)))
    assert code == 1 and "Traceback" not in stderr, stderr[-3000:]
    assert f"--workdir {half} cannot be written (Read-only file system)" in stderr, stderr[-3000:]
    assert {p: p.stat().st_mtime_ns for p in half.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_twenty_times_at_random_moments_it_ends_with_the_same_losses(
    data, environment, undisturbed, tmp_path
):
    workdir, rng = tmp_path / "run", random.Random(0)
    killed = 0
    while killed < 20:
        process = main_process(data, workdir, environment, "--config.checkpoint.keep_last=9")
        if killed % 4:  # in training, evaluation, saving
            wait_for_words(workdir / "log.txt", "the first one compiles", process)
            time.sleep(3 * rng.random())
        else:  # while it starts and restores
            time.sleep(8 * rng.random())
        if process.poll() is None:
            process.kill()
            killed += 1
        code, stderr = finish(process)
        if code == 0:  # it came to its end: some of it is taken away
            for step in checkpoints(workdir)[-rng.randint(1, 3) :]:
                shutil.rmtree(workdir / "checkpoints" / str(step))
        else:
            assert code == -signal.SIGKILL, stderr[-3000:]
    code, stderr = finish(main_process(data, workdir, environment))
    assert code == 0, stderr[-3000:]
    assert sorted(losses(workdir)) == list(range(1, STEPS + 1))
    assert same(workdir, undisturbed)  # bit for bit


def wait_for_words(log, words, process):
    """Until the log, to which every start appends, holds the words once more; or the run has ended."""

    def count():
        return log.read_text().count(words) if log.exists() else 0

    before = count()
    while count() == before and process.poll() is None:
        time.sleep(0.02)
