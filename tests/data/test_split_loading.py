import logging
import sys
import types

import pytest

from jaxvid.core.errors import DataError, UnknownNameError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.split_loading import load_splits

ONE = DatasetIndex((VideoRecord("/a.mp4", "a", (0,)),), ("run",))


@pytest.fixture
def reader(monkeypatch):
    """Installs a load() as the user's own reader `own.reader`, whose SPLITS are train, val, test."""

    def install(load, splits=("train", "val", "test")):
        module = types.ModuleType("own.reader")
        module.SPLITS, module.load = splits, load
        monkeypatch.setitem(sys.modules, "own", types.ModuleType("own"))
        monkeypatch.setitem(sys.modules, "own.reader", module)

    return install


def test_the_first_two_splits_are_needed_and_others_may_be_absent(reader):
    def load(root, split, *, max_missing=0.0):
        if split != "train":
            raise DataError(f"no {split}.csv")
        return ONE

    reader(load)
    indices, findings = load_splits("own.reader", "/data")
    assert list(indices) == ["train"]
    assert [(f.level, f.kind, f.message) for f in findings] == [
        ("error", "split", "val: no val.csv"),
        ("warning", "split", "test: not there: no test.csv"),
    ]
    _, findings = load_splits("own.reader", "/data", splits=("train", "test"))
    assert [(f.level, f.message) for f in findings] == [("error", "test: no test.csv")]


def test_with_files_missing_the_rest_is_read_all_the_same(reader):
    def load(root, split, *, fold=1, max_missing=0.0):
        assert fold == 2
        if max_missing < 0.5:
            raise DataError("1 of 2 files do not exist")
        logging.getLogger("jaxvid.data").warning("own: dropped %d", 1)
        return ONE

    reader(load, ("train",))
    indices, findings = load_splits("own.reader", "/data", options={"fold": 2})
    assert indices == {"train": ONE}
    assert [(f.level, f.kind, f.message) for f in findings] == [
        ("error", "missing", "train: 1 of 2 files do not exist"),
        ("warning", "reader", "train: own: dropped 1"),
    ]


def test_a_reader_without_max_missing(reader):
    def load(root, split):
        raise DataError("broken")

    reader(load, ("train",))
    _, findings = load_splits("own.reader", "/data")
    assert [f.message for f in findings] == ["train: broken"]


def test_an_unknown_split(tmp_path):
    with pytest.raises(UnknownNameError, match="split of rwf2000 'vall'. Did you mean 'val'"):
        load_splits("rwf2000", tmp_path, splits=("vall",))


def test_load_knows_more_splits_than_are_listed(reader):
    """UCF101 takes "val" for its test list, and prepared sets have splits of their own."""

    def load(root, split):
        if split not in ("train", "dev"):
            raise unknown("split of /data/set", split, ("train", "dev"))
        return ONE

    reader(load)
    indices, findings = load_splits("own.reader", "/data", splits=("train", "dev"))
    assert list(indices) == ["train", "dev"] and not findings
    indices, findings = load_splits("own.reader", "/data")
    assert list(indices) == ["train"]
    assert [(f.level, f.kind, f.message) for f in findings] == [
        (
            "warning",
            "split",
            f"{split}: not there: unknown split of /data/set {split!r}. Known: dev, train.",
        )
        for split in ("val", "test")
    ]
    with pytest.raises(UnknownNameError, match="unknown split of /data/set 'test'. Known: dev"):
        load_splits("own.reader", "/data", splits=("train", "test"))


def test_a_set_without_its_training_split_is_an_error(reader):
    def load(root, split):
        if split == "train":
            raise unknown("split of /data/set", split, ("dev",))
        return ONE

    reader(load, ("train", "dev"))
    _, findings = load_splits("own.reader", "/data")
    assert [(f.level, f.message) for f in findings] == [
        ("error", "train: unknown split of /data/set 'train'. Known: dev.")
    ]


def test_an_unknown_option_is_no_split_that_is_absent(reader):
    def load(root, split, *, fold=1):
        raise unknown("fold of the set", fold, (1, 2))

    reader(load)
    with pytest.raises(UnknownNameError, match="unknown fold of the set 3. Known: 1, 2"):
        load_splits("own.reader", "/data", options={"fold": 3})


def test_the_logger_is_as_it_was(reader, caplog):
    reader(lambda root, split: ONE, ("train",))
    logger = logging.getLogger("jaxvid.data")
    before = list(logger.handlers), logger.propagate
    load_splits("own.reader", "/data")
    assert (list(logger.handlers), logger.propagate) == before
