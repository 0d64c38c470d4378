"""What surrounds a measurement: tests/test_main_job.py runs whole ones."""

import types

import numpy as np
import pytest

from jaxvid import config, run_eval
from jaxvid.core.errors import CheckpointError, DataError, NonFiniteLossError
from jaxvid.core.record import DatasetIndex, VideoRecord

INDEX = DatasetIndex((VideoRecord("a.mp4", "a", (0,)),), ("Fight", "NonFight"))
SETTING = types.SimpleNamespace(
    train_index=INDEX, val_index=INDEX, task=types.SimpleNamespace(kind="classify")
)


def test_a_folder_that_cannot_be_written_loses_no_result(monkeypatch, tmp_path, capsys):
    def fails(*_, **__):
        raise OSError("read-only")

    monkeypatch.setattr(run_eval.report, "write_evaluation", fails)
    measured = {"loss": 0.125, "clips": 1}, None
    with pytest.raises(OSError, match="read-only"):
        run_eval.write_report(config.default(), SETTING, tmp_path, measured, 7, "here")
    assert "0.125" in capsys.readouterr().out


def test_hosts_agree_and_sigterm_ends_before_weights_are_read(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(run_eval, "make_setting", lambda c: SETTING)
    monkeypatch.setattr(run_eval, "let_sigterm_end", lambda: done.append("SIGTERM"))
    monkeypatch.setattr(run_eval, "agree", lambda setting, difference: done.append(setting))
    with pytest.raises(CheckpointError, match="has no config.json"):
        run_eval.evaluate(config.default(), tmp_path)
    sigterm, shared = done
    assert sigterm == "SIGTERM"
    assert shared["train records"] == shared["validation records"] and "root" not in shared["data"]
    assert shared["optim"] and shared["versions"]["jax"]


def masked_measure(monkeypatch, loss, weight, *, views=(2, 3)):
    """What `measure` makes of a masked evaluation whose losses add up to (loss, weight)."""
    task = types.SimpleNamespace(kind="masked", evaluate_step=len)
    setting = types.SimpleNamespace(val_index=INDEX, task=task, mesh=None, to_device=None)
    monkeypatch.setattr(run_eval.build_data, "evaluation_data", lambda *_, **__: ())
    monkeypatch.setattr(run_eval, "jitted", lambda step, mesh: step)
    monkeypatch.setattr(run_eval.runner, "collect_sums", lambda *_, **__: {"loss": (loss, weight)})
    return run_eval.measure(config.default(), setting, views)({})


def test_masked_evaluation_counts_the_clips_that_could_be_decoded(monkeypatch):
    metrics, rows = masked_measure(monkeypatch, 15.0, 5 * 6.0)
    assert metrics == {"loss": 0.5, "clips": 5} and rows is None
    with pytest.raises(DataError, match="none of 1 clips could be decoded"):
        masked_measure(monkeypatch, 0.0, 0.0)
    with pytest.raises(NonFiniteLossError, match="summed losses of 1 validation clips are not fin"):
        masked_measure(monkeypatch, float("nan"), 6.0)


def test_no_picture_is_drawn_of_clips_that_could_not_be_decoded(monkeypatch, tmp_path):
    none = np.zeros((0, 2, 4, 4, 3), np.float32)
    setting = types.SimpleNamespace(
        val_index=INDEX, mesh=None, to_device=None, task=types.SimpleNamespace(draw_step=len)
    )
    monkeypatch.setattr(run_eval.build_data, "evaluation_data", lambda *_, **__: ())
    monkeypatch.setattr(run_eval, "jitted", lambda step, mesh: step)
    monkeypatch.setattr(run_eval.reconstruct, "collect", lambda *_: (none, none, none))
    run_eval._drawer(config.default(), setting, tmp_path)(3, {})
    assert not list(tmp_path.iterdir())
