"""What a workdir tells of its preprocessing where flow came from a store, and of its classes."""

import contextlib
import json

import pytest

from jaxvid import config, workdir_weights
from jaxvid.data.store_format import Settings


class NoWeights(contextlib.nullcontext):
    def __init__(self, *_, **__):
        super().__init__(self)

    def which(self, step):
        return 1

    def restore_weights(self, step):
        return {}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The preprocessing of a workdir that was trained with this flow, from the store of that name."""
    monkeypatch.setattr(workdir_weights, "Checkpoints", NoWeights)

    def read(flow, store="store"):
        c = config.default()
        c.model.name, c.model.variant = "two_stream", "test"
        c.data.flow, c.data.store = flow, str(tmp_path / store)
        c.data.decode_short_side = 100
        (tmp_path / "config.json").write_text(json.dumps(config.plain(c)))
        (tmp_path / "classes.json").write_text('{"0": "a", "1": "b"}')
        return workdir_weights.read(tmp_path).info["preprocessing"]

    return read


def test_flow_of_a_store_is_told_by_its_method_and_size(told, tmp_path):
    (tmp_path / "store").mkdir()
    Settings("folder", "", 40, 95, "pyav", flow="tvl1").write(tmp_path / "store", {})
    found = told("stored")
    assert (found["flow"], found["flow_to_next"]) == ("tvl1", True)
    assert found["decode_short_side"] == 40, "the store's counts"
    of_clips = told("dis")
    assert of_clips["flow"] == "dis" and "flow_to_next" not in of_clips
    assert of_clips["decode_short_side"] == 100


def test_a_store_that_is_gone_leaves_the_method_open(told):
    found = told("stored", store="gone")
    assert found["flow"] == "stored" and found["decode_short_side"] == 100


@pytest.mark.parametrize("texts, rows", [(None, 2), (((510, 0, 511), (510, 1, 511)), 0)])
def test_classes_that_are_texts_have_no_head(tmp_path, monkeypatch, texts, rows):
    monkeypatch.setattr(workdir_weights, "Checkpoints", NoWeights)
    c = config.default()
    c.model.name, c.model.variant = "clip_pooling", "test"
    if texts:
        c.model.overrides.class_texts = texts
    (tmp_path / "config.json").write_text(json.dumps(config.plain(c)))
    (tmp_path / "classes.json").write_text('{"0": "a", "1": "b"}')
    found = workdir_weights.read(tmp_path)
    assert found.arguments["num_classes"] == rows and found.info["class_names"] == ["a", "b"]
    assert found.arguments.get("class_texts") == texts
