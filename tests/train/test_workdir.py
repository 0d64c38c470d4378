import errno
import json
import logging

import pytest

from jaxvid.config import difference
from jaxvid.core import appending
from jaxvid.core.errors import CheckpointError, ConfigError
from jaxvid.train import workdir as folder

CONFIG = {"run": {"seed": 0, "steps": 5}, "optim": {"learning_rate": 0.1}, "eval": {"clips": 1}}


CLASSES = ("NonFight", "Fight")


def changed(section, field, value):
    return {**CONFIG, section: {**CONFIG[section], field: value}}


def open_(workdir, config=CONFIG, classes=CLASSES, **task):
    folder.open_for_training(workdir, folder.Description(config, classes, **task), difference)


def test_a_new_workdir_gets_config_and_environment(tmp_path):
    open_(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == CONFIG
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["jax"] and environment["devices"]


def test_run_length_and_evaluation_may_change_the_recipe_may_not(tmp_path):
    open_(tmp_path)
    open_(tmp_path, changed("optim", "learning_rate", 0.3))
    open_(tmp_path)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    open_(tmp_path, changed("run", "steps", 9))
    open_(tmp_path, changed("eval", "clips", 5))
    for where in ("root", "store"):  # the same clips from another place
        open_(tmp_path, CONFIG | {"data": {where: "there"}})
    with pytest.raises(CheckpointError, match="belongs to a run with another recipe") as error:
        open_(tmp_path, changed("optim", "learning_rate", 0.2))
    assert "optim.learning_rate: 0.1 -> 0.2" in str(error.value)
    with pytest.raises(CheckpointError, match="run.seed: 0 -> 1"):
        open_(tmp_path, changed("run", "seed", 1))


def test_checkpoints_whose_config_is_gone_or_cut_are_not_trained_on(tmp_path):
    open_(tmp_path)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"run": {"se')
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON .* back from a copy"):
        open_(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"holds a list, expected a JSON object"):
        open_(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="has no config.json"):
        open_(tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_full_disk_is_told_from_a_folder_of_others(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "write_json", full)
    with pytest.raises(ConfigError, match="No space left on device.; make room, or choose another"):
        open_(tmp_path)


def test_a_folder_without_config_is_no_workdir(tmp_path):
    with pytest.raises(CheckpointError, match="has no config.json"):
        folder.refuse_another_recipe(tmp_path, CONFIG, difference)


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        open_(tmp_path / "file" / "run")


def test_classes_of_another_name_or_order_are_refused_and_nothing_is_written(tmp_path):
    open_(tmp_path)
    assert json.loads((tmp_path / "classes.json").read_text()) == {"0": "NonFight", "1": "Fight"}
    folder.refuse_other_classes(tmp_path, CLASSES)
    folder.refuse_other_classes(tmp_path / "elsewhere", CLASSES)  # a run that said nothing of them
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    before = {p: p.read_bytes() for p in tmp_path.glob("*.json")}
    with pytest.raises(CheckpointError, match="class 0: 'NonFight' there, 'Fight' here"):
        open_(tmp_path, changed("run", "steps", 9), CLASSES[::-1])
    with pytest.raises(
        CheckpointError, match="2 classes and the data have 3; .* class 2: 'none' th"
    ):
        folder.refuse_other_classes(tmp_path, (*CLASSES, "Dance"))
    open_(tmp_path, changed("run", "steps", 9))  # may go on; it is written when it does
    assert {p: p.read_bytes() for p in tmp_path.glob("*.json")} == before


def test_what_a_prediction_has_to_know(tmp_path):
    open_(tmp_path, kind="multihead", heads={"verb": 2, "noun": 3})
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
        def glob(self, pattern):
            raise RuntimeError("no credentials\nand a long story")

    with pytest.raises(ConfigError, match=r"cannot be written \(.*RuntimeError: no credentials\);"):
        open_(Unreachable(tmp_path / "run"))
