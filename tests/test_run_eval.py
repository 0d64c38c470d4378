"""What surrounds a measurement: tests/test_main_job.py runs whole ones."""

import types

import pytest

from jaxvid import config, run_eval
from jaxvid.core.errors import CheckpointError
from jaxvid.core.record import DatasetIndex, VideoRecord

INDEX = DatasetIndex((VideoRecord("a.mp4", "a", (0,)),), ("Fight", "NonFight"))
SETTING = types.SimpleNamespace(
    train_index=INDEX, val_index=INDEX, task=types.SimpleNamespace(kind="classify")
)


def test_a_folder_that_cannot_be_written_loses_no_result(monkeypatch, tmp_path, capsys):
    def fails(*_, **__):
        raise OSError("read-only")

    monkeypatch.setattr(run_eval.report, "write_evaluation", fails)
    measured = {"loss": 0.125}, None
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
