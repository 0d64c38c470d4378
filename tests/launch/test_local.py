"""launch/local.sh as a user runs it: two processes of two devices."""

import json
import signal

import pytest
from jobs import (
    ROOT,
    STEPS,
    arguments,
    checkpoints,
    finish,
    losses,
    main_process,
    make_data,
    make_environment,
    start,
    wait_for_step,
)

SCRIPT = str(ROOT / "launch" / "local.sh")


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def one(data, cache, tmp_path_factory):
    """The workdir of one process with four devices, undisturbed."""
    workdir = tmp_path_factory.mktemp("one")
    code, stderr = finish(main_process(data, workdir, make_environment(cache, devices=4)))
    assert code == 0, stderr[-3000:]
    return workdir


def result(workdir):
    return json.loads((workdir / "eval" / "val.json").read_text())


def assert_same_run(workdir, one):
    for split in ("train", "val"):
        assert sorted(losses(workdir, split)) == sorted(losses(one, split))
        for step, loss in losses(one, split).items():
            assert losses(workdir, split)[step] == pytest.approx(loss, abs=1e-5), (split, step)
    assert result(workdir)["n"] == result(one)["n"] == 6
    assert result(workdir)["metrics"]["loss"] == pytest.approx(
        result(one)["metrics"]["loss"], abs=1e-5
    )


def test_sigterm_to_one_process_saves_on_both_and_one_process_goes_on(data, cache, one, tmp_path):
    two = make_environment(cache, devices=2, PROCESSES="2")
    words = [SCRIPT, *arguments(data, tmp_path, "--stopped_code=143")]
    process = start(words, two, start_new_session=True)
    wait_for_step(tmp_path, 1, process)
    process.send_signal(signal.SIGTERM)
    code, stderr = finish(process)
    assert code == 143, stderr[-3000:]
    # Each of the two says so, and they have agreed on the step.
    assert stderr.count("SIGTERM: everything is saved. To go on from here:") == 2, stderr[-3000:]
    stopped = checkpoints(tmp_path)[-1]
    assert stopped < STEPS and max(losses(tmp_path)) == stopped
    # What two processes saved, one goes on with, iterator included.
    code, stderr = finish(main_process(data, tmp_path, make_environment(cache, devices=4)))
    assert code == 0, stderr[-3000:]
    assert f"resumed from the checkpoint of step {stopped}" in stderr
    assert_same_run(tmp_path, one)


@pytest.mark.slow
def test_two_processes_end_as_one_does_and_evaluate_each_clip_once(data, cache, one, tmp_path):
    two = make_environment(cache, devices=2, PROCESSES="2")
    code, stderr = finish(start([SCRIPT, *arguments(data, tmp_path)], two))
    assert code == 0, stderr[-3000:]
    assert_same_run(tmp_path, one)
    assert (tmp_path / "log.txt").read_text().count("first step after") == 1  # one host writes


def test_an_error_of_the_config_ends_all_processes_with_its_code(data, cache, tmp_path):
    two = make_environment(cache, devices=2, PROCESSES="2")
    words = [SCRIPT, *arguments(data, tmp_path, "--config.optim.learning_rat=1")]
    code, stderr = finish(start(words, two), timeout=120)
    assert code == 1 and "Did you mean 'learning_rate'" in stderr and "Traceback" not in stderr
