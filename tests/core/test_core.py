import pickle

import numpy as np
import pytest

from jaxvid.core import lookup, tree
from jaxvid.core.batch import check_batch
from jaxvid.core.errors import BatchError, DecodeError, UnknownNameError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord


def batch(**changes):
    good = {
        "video": np.zeros((2, 1, 4, 8, 8, 3), np.uint8),
        "label": np.zeros((2, 1), np.int32),
        "mask": np.ones(2, bool),
        "row": np.arange(2, dtype=np.int32),
    }
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


def test_a_good_batch_passes_unchanged():
    good = batch()
    assert check_batch(good) is good


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"label": None}, "'label' is missing"),
        ({"mask": None}, "'mask' is missing"),
        ({"video": None}, "none of 'video', 'audio', 'flow', 'features'"),
        ({"video": np.zeros((2, 1, 4, 8, 8, 3), np.float32)}, "'video' is float32"),
        ({"video": np.zeros((2, 4, 8, 8, 3), np.uint8)}, "expected uint8 with 6 axes"),
        ({"video": np.zeros((2, 1, 4, 8, 8, 1), np.uint8)}, "1 channels, expected 3"),
        ({"flow": np.zeros((2, 1, 4, 8, 8, 3), np.float32)}, "'flow' has 3 channels, expected 2"),
        ({"row": np.zeros(3, np.int32)}, "first axes differ"),
        ({"vidoe": np.zeros(2)}, "'vidoe' is not a name of the batch"),
    ],
)
def test_a_broken_batch_is_refused(changes, words):
    with pytest.raises(BatchError, match="breaks its contract") as error:
        check_batch(batch(**changes))
    assert words in str(error.value)


def test_all_breaches_are_listed_at_once():
    with pytest.raises(BatchError) as error:
        check_batch(batch(mask=None, row=None))
    assert "'mask' is missing" in str(error.value) and "'row' is missing" in str(error.value)


def test_heads_may_stand_for_label():
    heads = {"label_verb": np.zeros((2, 1), np.int32), "label_noun": np.zeros((2, 1), np.int32)}
    check_batch(batch(label=None, **heads))


def test_decode_error_says_file_and_survives_pickling():
    error = pickle.loads(pickle.dumps(DecodeError("a b.mp4", 7, "pyav", "cut short")))
    assert str(error) == "a b.mp4: cannot be decoded at frame 7 by pyav: cut short"
    assert error.frame == 7


def test_unknown_names_the_nearest():
    message = str(unknown("model", "videome", ["videomae", "vivit"]))
    assert "unknown model 'videome'. Did you mean 'videomae'?" in message and "vivit" in message


def test_lookup_lists_files_and_refuses_others():
    assert "classify" in lookup.names("objective")
    with pytest.raises(UnknownNameError, match="Did you mean 'classify'"):
        lookup.module("objective", "clasify")
    with pytest.raises(UnknownNameError, match="no module 'no_such'"):
        lookup.module("model", "no_such.thing")


def test_lookup_takes_a_users_own_module(tmp_path, monkeypatch):
    package = tmp_path / "models_of_a_user"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text("VARIANTS = {'S': {}}\n")
    (package / "broken.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lookup.module("model", "models_of_a_user.net").VARIANTS == {"S": {}}
    with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):
        lookup.module("model", "models_of_a_user.broken")


def test_variant_is_a_copy():
    table = {"S": {"depth": 2}}
    lookup.variant("net", table, "S")["depth"] = 3
    assert table == {"S": {"depth": 2}}
    with pytest.raises(UnknownNameError, match="no variant 's'.*Known: S"):
        lookup.variant("net", table, "s")


def test_records_check_themselves():
    with pytest.raises(ValueError, match="a.mp4: the segment"):
        VideoRecord("a.mp4", "a", (0,), 2.0, 2.0)
    with pytest.raises(ValueError, match="expected >= 0"):
        VideoRecord("a.mp4", "a", (0,), -1.0)
    with pytest.raises(ValueError, match="labels outside 0..1"):
        DatasetIndex((VideoRecord("a.mp4", "a", (2,)),), ("x", "y"))


def test_tree_round_trip():
    nested = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert tree.flatten(nested) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert tree.unflatten(tree.flatten(nested)) == nested
    assert tree.map_with_path(lambda p, x: f"{p}={x}", nested)["a"]["c"]["d"] == "a/c/d=2"
