import json
import logging

import pytest

from jaxvid.config import difference
from jaxvid.core import appending
from jaxvid.core.errors import CheckpointError, ConfigError
from jaxvid.train import workdir as folder

CONFIG = {"run": {"seed": 0, "steps": 5}, "optim": {"learning_rate": 0.1}, "eval": {"clips": 1}}


def changed(section, field, value):
    return {**CONFIG, section: {**CONFIG[section], field: value}}


def test_a_new_workdir_gets_config_and_environment(tmp_path):
    folder.open_for_training(tmp_path / "run", CONFIG, difference)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == CONFIG
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["jax"] and environment["devices"]


def test_run_length_and_evaluation_may_change_the_recipe_may_not(tmp_path):
    folder.open_for_training(tmp_path, CONFIG, difference)
    folder.open_for_training(tmp_path, changed("optim", "learning_rate", 0.3), difference)
    folder.open_for_training(tmp_path, CONFIG, difference)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    folder.open_for_training(tmp_path, changed("run", "steps", 9), difference)
    folder.open_for_training(tmp_path, changed("eval", "clips", 5), difference)
    for where in ("root", "store"):  # the same clips from another place
        folder.open_for_training(tmp_path, CONFIG | {"data": {where: "there"}}, difference)
    with pytest.raises(CheckpointError, match="belongs to a run with another recipe") as error:
        folder.open_for_training(tmp_path, changed("optim", "learning_rate", 0.2), difference)
    assert "optim.learning_rate: 0.1 -> 0.2" in str(error.value)
    with pytest.raises(CheckpointError, match="run.seed: 0 -> 1"):
        folder.open_for_training(tmp_path, changed("run", "seed", 1), difference)


def test_a_folder_without_config_is_no_workdir(tmp_path):
    with pytest.raises(CheckpointError, match="has no config.json"):
        folder.refuse_another_recipe(tmp_path, CONFIG, difference)


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        folder.open_for_training(tmp_path / "file" / "run", CONFIG, difference)


def test_classes(tmp_path):
    folder.write_classes(tmp_path, ("NonFight", "Fight"))
    assert json.loads((tmp_path / "classes.json").read_text()) == {"0": "NonFight", "1": "Fight"}


def test_what_a_prediction_has_to_know(tmp_path):
    folder.write_task(tmp_path, "multihead", {"verb": 2, "noun": 3}, 0)
    told = json.loads((tmp_path / "task.json").read_text())
    assert told == {"kind": "multihead", "heads": {"verb": 2, "noun": 3}, "feature_size": 0}
    assert list(told["heads"]) == ["verb", "noun"]  # in the order of the classes


def test_the_log_of_a_bucket_is_there_once_a_warning_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(appending, "is_remote", lambda path: True)
    (tmp_path / "log.txt").write_text("of the first start\n")
    log = logging.getLogger("jaxvid")
    kept = log.propagate, log.level
    try:
        folder.start_logging(tmp_path, main=True)
        log.info("quiet")
        assert (tmp_path / "log.txt").read_text() == "of the first start\n"
        log.warning("aloud")
        assert "quiet" in (tmp_path / "log.txt").read_text()
        log.info("last words")
        folder.start_logging(None, main=True)  # closes it
        first, quiet, aloud, last = (tmp_path / "log.txt").read_text().splitlines()
        assert first == "of the first start" and aloud.endswith("aloud")
        assert quiet.endswith("quiet") and last.endswith("last words")
    finally:
        for handler in list(log.handlers):
            log.removeHandler(handler)
        log.propagate = kept[0]
        log.setLevel(kept[1])


def test_last_words_that_cannot_be_written_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(appending, "is_remote", lambda path: True)
    log = logging.getLogger("jaxvid")
    kept = log.propagate, log.level
    try:
        folder.start_logging(tmp_path / "gone", main=True)
        log.info("last words")
        (tmp_path / "gone").rmdir()
        (tmp_path / "gone").write_text("a file")
        folder.start_logging(None, main=True)
        assert "the last lines of the log are not written: [Errno" in capsys.readouterr().err
    finally:
        for handler in list(log.handlers):
            log.removeHandler(handler)
        log.propagate = kept[0]
        log.setLevel(kept[1])


def test_a_bucket_that_cannot_be_reached(tmp_path, monkeypatch):
    class Unreachable(type(tmp_path)):
        def exists(self):
            raise RuntimeError("no credentials\nand a long story")

    with pytest.raises(ConfigError, match=r"cannot be written \(.*RuntimeError: no credentials\);"):
        folder.open_for_training(Unreachable(tmp_path / "run"), CONFIG, difference)
