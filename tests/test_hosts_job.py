"""Hosts that go: the others end soon and say why. Two processes of two CPU devices stand for hosts."""

import signal
import socket
import time

import pytest
from jobs import (
    checkpoints,
    finish,
    losses,
    main_process,
    make_data,
    make_environment,
    wait_for_checkpoint,
    wait_for_step,
)

from jaxvid.sharding.hosts import HEARTBEAT_SECONDS

QUICK_SECONDS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def begin(data, cache, tmp_path):
    """Starts process `number` of `count`, `devices` each; what a test leaves running is killed."""
    started = []
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]

    def begin(number, *more, count=2, devices=2, root=data, workdir=tmp_path / "run"):
        process = main_process(
            *(root, workdir, make_environment(cache, devices=devices)),
            *(f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"),
            *(f"--process_id={number}", *more),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "victim", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["another host", "the coordinator"]
)
def test_a_killed_host_ends_the_other_with_a_message_and_nothing_is_lost(
    begin, data, cache, tmp_path, victim
):
    endless = "--config.run.steps=100000"
    processes = [begin(0, endless), begin(1, endless)]
    saved = wait_for_checkpoint(tmp_path / "run", processes[0])
    processes[victim].kill()
    began = time.monotonic()
    code, stderr = finish(processes[1 - victim], timeout=HEARTBEAT_SECONDS + QUICK_SECONDS)
    assert code != 0 and time.monotonic() - began < HEARTBEAT_SECONDS + QUICK_SECONDS
    assert f"host {1 - victim} of 2" in stderr or "JAX distributed service" in stderr, stderr[
        -3000:
    ]
    assert max(checkpoints(tmp_path / "run"), default=0) >= saved, "what was saved before is gone"


def test_the_reason_of_one_host_reaches_the_others(begin, tmp_path):
    other = begin(0)
    broken = begin(1, root=tmp_path / "not mounted here")
    code, stderr = finish(broken, timeout=120)
    assert code == 1 and "not mounted here" in stderr
    code, stderr = finish(other, timeout=QUICK_SECONDS)
    assert code == 1, stderr[-3000:]
    assert "error: host 1 of 2 (" in stderr and "DataError" in stderr, stderr[-3000:]
    assert "not mounted here" in stderr and "goes on from the last checkpoint" in stderr


def test_hosts_that_were_started_differently_do_not_train(begin):
    processes = [begin(0), begin(1, "--config.optim.learning_rate=0.7")]
    for process in processes:
        code, stderr = finish(process, timeout=120)
        assert code == 1, stderr[-3000:]
        assert "host 1 of 2 (" in stderr and "was started otherwise than host 0" in stderr
        assert "optim.learning_rate: 0.001 -> 0.7" in stderr, stderr[-3000:]


@pytest.mark.slow
def test_a_host_that_hangs_ends_the_other_within_the_deadline(begin, tmp_path):
    endless = "--config.run.steps=100000"
    processes = [begin(0, endless), begin(1, endless)]
    wait_for_step(tmp_path / "run", 2, processes[0])
    processes[1].send_signal(signal.SIGSTOP)
    code, stderr = finish(processes[0], timeout=HEARTBEAT_SECONDS + 2 * QUICK_SECONDS)
    assert code != 0 and "heartbeat" in stderr, stderr[-3000:]


@pytest.mark.slow
def test_a_checkpoint_of_four_is_restored_by_two_and_by_one(begin, data, cache, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    constant = "--config.optim.schedule=constant"  # whose steps do not know how long the run is
    environment = make_environment(cache, devices=4)
    code, stderr = finish(main_process(data, whole, environment, constant))
    assert code == 0, stderr[-3000:]
    for count, steps in ((4, 3), (2, 7), (1, 12)):
        options = {"count": count, "devices": 4 // count}
        processes = [
            begin(i, constant, f"--config.run.steps={steps}", **options) for i in range(count)
        ]
        for code, stderr in [finish(p) for p in processes]:
            assert code == 0, stderr[-3000:]
    assert "resumed from the checkpoint of step 7" in stderr
    assert sorted(losses(run)) == sorted(losses(whole))
    for step, loss in losses(whole).items():
        assert losses(run)[step] == pytest.approx(loss, abs=1e-5), step
