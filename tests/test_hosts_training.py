"""Models whose layers are loops, trained by several CPU processes, against one process of as many devices.

XLA's CPU backend lets what follows a loop begin before the loop ends: sums over devices in a loop and after
it meet in another order in every process, and gloo ends the run ("collective mismatch") or waits for good.
"""

import json
import socket
import sys

import numpy as np
import pytest
from jobs import finish, losses, main_process, make_data, make_environment, start

DEVICES, STEPS = 4, 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def begin(cache):
    """begin(count, run): run(environment, coordinator, number) for every process, all together four
    devices; waits for them. What is left running when a test fails is killed."""
    started = []

    def begin(count, run):
        environment = make_environment(cache, devices=DEVICES // count)
        with socket.socket() as free:
            free.bind(("", 0))
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        started.extend(run(environment, coordinator, number) for number in range(count))
        for code, stderr in [finish(process) for process in started[-count:]]:
            assert code == 0, stderr[-3000:]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_layers_that_are_loops(begin, tmp_path):
    def train(count):
        result = tmp_path / f"{count}.json"

        def run(environment, coordinator, number):
            words = [sys.executable, "tests/layers_job.py", str(result)]
            job = [coordinator, str(count), str(number)] if count > 1 else []
            return start(words + job, environment)

        begin(count, run)
        return json.loads(result.read_text())

    expected = train(1)
    assert expected[0] - expected[-1] > 0.01, "nothing is learned"
    np.testing.assert_allclose(train(2), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("model", ["r2plus1d", "cnn_lstm", "cnn_mamba", "x3d"])
def test_models_train_as_in_one_process(begin, data, tmp_path, model, count):
    words = ("--config", f"configs/{model}_rwf.py:test", f"--config.run.steps={STEPS}")
    words += ("--config.data.batch_size=8", "--config.eval.final_clips=1")
    words += ("--config.eval.final_crops=1",)

    def train(count):
        workdir = tmp_path / f"{count} processes"

        def run(environment, coordinator, number):
            job = (f"--coordinator={coordinator}", f"--num_processes={count}")
            job = (*job, f"--process_id={number}") if count > 1 else ()
            return main_process(data, workdir, environment, *words, *job)

        begin(count, run)
        return losses(workdir)

    expected, got = train(1), train(count)
    assert sorted(got) == sorted(expected) == list(range(1, STEPS + 1))
    for step, loss in expected.items():
        assert got[step] == pytest.approx(loss, abs=1e-5), step
