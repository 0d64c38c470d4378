import json
import logging

import pytest

from jaxvid.train.clock import Clock
from jaxvid.train.writers import MetricsWriter, Progress


def test_clock_by_hand():
    time = [0.0]
    clock = Clock(now=lambda: time[0])
    time[0] = 100.0  # compilation
    clock.restart()
    for _ in range(4):
        time[0] += 1.0
        clock.waited(0.25)
        clock.step()
    clock.pause()
    time[0] += 50.0
    clock.resume()
    window = clock.tick(batch_size=8)
    assert window == pytest.approx(
        {"steps_per_second": 1.0, "clips_per_second": 8.0, "data_wait_share": 0.25}
    )
    assert clock.tick(batch_size=8) == {}
    assert clock.elapsed_seconds() == 154.0


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_lines_never_hold_nan(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, "train", {"loss": float("nan"), "top1": 0.5})
    writer.close()
    assert lines(tmp_path) == [{"step": 1, "split": "train", "loss": None, "top1": 0.5}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_lines_after_the_checkpoint_and_torn_lines_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "spl')
    writer.drop_after(2)
    writer.write(3, "train", {"loss": 2.0})
    assert [(x["step"], x["loss"]) for x in lines(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_other_hosts_write_nothing(tmp_path):
    writer = MetricsWriter(tmp_path, enabled=False)
    writer.write(1, "train", {"loss": 1.0})
    writer.drop_after(0)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_progress_is_lines_with_the_time_left(caplog):
    progress = Progress(total=100, start=0, enabled=True)
    with caplog.at_level(logging.INFO, logger="jaxvid"):
        progress.numbers(40, {"loss": 0.5, "steps/s": 0.5})
    progress.close()
    assert "train 40/100: loss 0.5, steps/s 0.5, 2:00 left" in caplog.text
