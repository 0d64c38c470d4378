"""The records of a split come out of a store as they went in, or an error says why not."""

import json
import logging
import os

import numpy as np
import pytest

from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_index
from jaxvid.data.fingerprint import fingerprint
from jaxvid.data.store_format import Settings, key_of

NAMES = ("run", "jump, high", "sït")
CHOSEN = {"fold": 1, "annotations": "a.csv"}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "a store"
    folder.mkdir()
    Settings("table", str(tmp_path / "set"), 40, 90, "pyav").write(folder, {})
    return folder


def index_below(root, **kind):
    """Times, labels and extras of every sort, names that are awkward."""
    extra = {"box": (0.1, 0.25, 0.5, 1 / 3), "actions": ((2, 0.0, 7.5),), "weight": np.float32(0.5)}
    records = (
        VideoRecord(f"{root}/b, #2/ü\u2028.mp4", "b#2", (2,), 0.1, 1e9 / 7, extra),
        VideoRecord(f"{root}/a.mp4", "a 1", (np.int64(0),)),
        VideoRecord(f"{root}/a.mp4", "a 2", (), 3),
        VideoRecord("/elsewhere/c.mp4", "name \udcff of no encoding", (1,)),
    )
    return DatasetIndex(records, NAMES, **kind)


def write(folder, index, root, split="train", chosen=CHOSEN):
    return store_index.write(folder, index, split=split, chosen=chosen, root=root)


def read(folder, root="there", split="train", chosen=CHOSEN, dataset="table"):
    return store_index.read(folder, dataset=dataset, split=split, chosen=chosen, root=root)


@pytest.mark.parametrize("kind", [{}, {"multilabel": True}, {"heads": {"verb": 2, "noun": 1}}])
def test_what_is_read_is_what_was_written(folder, tmp_path, kind):
    given = index_below(tmp_path / "set", **kind)
    write(folder, given, tmp_path / "set")
    here, elsewhere = read(folder, tmp_path / "set"), read(folder, tmp_path / "other")
    for a, b, c in zip(given.records, here.records, elsewhere.records, strict=True):
        assert a == b and type(a.start_seconds) is type(b.start_seconds)
        assert c.path == b.path.replace(f"{tmp_path}/set/", f"{tmp_path}/other/")
        assert key_of(c.path, tmp_path / "other") == key_of(a.path, tmp_path / "set")
    assert here.class_names == NAMES and here.heads == given.heads
    assert here.multilabel == given.multilabel and list(here.heads) == list(given.heads)


def test_checkpoints_go_on_from_either():
    labelled = DatasetIndex((VideoRecord("a", "a", (0,), 1.5), VideoRecord("b", "b", (1,))), NAMES)
    # As checkpoints of earlier versions have it.
    assert fingerprint(labelled) == "2 clips, f209b1ce238ee9cd"
    numpy_labels = DatasetIndex(
        (VideoRecord("a", "a", (np.int64(0),), 1.5), VideoRecord("b", "b", (np.int32(1),))), NAMES
    )
    assert fingerprint(numpy_labels) == fingerprint(labelled)
    turned = DatasetIndex(labelled.records[::-1], NAMES)
    other = DatasetIndex((labelled.records[0], VideoRecord("b", "b", (2,))), NAMES)
    assert len({fingerprint(i) for i in (labelled, turned, other)}) == 3


def test_the_fingerprint_is_the_same_from_the_store(folder, tmp_path):
    given = index_below(tmp_path / "set")
    write(folder, given, tmp_path / "set")
    assert fingerprint(read(folder)) == fingerprint(given)


def test_one_store_serves_several_choices(folder):
    short = DatasetIndex((VideoRecord("there/a.mp4", "a", (0,)),), NAMES)
    write(folder, index_below("there"), "there")
    write(folder, short, "there", chosen={"fold": 2})
    write(folder, short, "there", split="val: 10%/b")
    assert len(read(folder)) == 4 and len(read(folder, chosen={"fold": 2})) == 1
    assert len(read(folder, split="val: 10%/b")) == 1
    write(folder, short, "there")
    assert len(read(folder)) == 1 and len(list(folder.glob("index/*"))) == 3


def load(root, split, *, annotations=None, videos=None, max_missing=0.0, fold=1, names=("a",)):
    raise NotImplementedError


def test_choices_are_what_changes_the_records():
    plain = store_index.choices(load, {})
    same = {"fold": 1, "names": ["a"], "annotations": None, "videos": "v", "max_missing": 0.5}
    assert plain == store_index.choices(load, same) == {}
    assert store_index.choices(load, {"fold": 2, "more": ("b",)}) == {"fold": 2, "more": ["b"]}
    assert plain != store_index.choices(load, {"fold": 2})
    chosen = store_index.choices(load, {"annotations": "here/a.csv"})
    assert chosen == {"annotations": os.path.abspath("here/a.csv")}


def annotated(path):
    return store_index.choices(load, {"annotations": path})


def one(name):
    return DatasetIndex((VideoRecord(f"there/{name}.mp4", name, (0,)),), NAMES)


def found(folder, path):
    return read(folder, chosen=annotated(path)).records[0].id


def test_annotations_of_one_name_are_kept_apart(folder, caplog):
    for fold in ("1", "2", "3"):
        write(folder, one(fold), "there", chosen=annotated(f"/a/fold{fold}/{{split}}.csv"))
    for base in ("/a", "/on/another/machine", "relative"):
        assert [found(folder, f"{base}/fold{n}/{{split}}.csv") for n in (1, 2, 3)] == [
            "1",
            "2",
            "3",
        ]
    assert not caplog.records
    write(folder, one("new"), "there", chosen=annotated("/a/fold2/{split}.csv"))
    assert [found(folder, f"/a/fold{n}/{{split}}.csv") for n in (1, 2, 3)] == ["1", "new", "3"]
    assert store_index.holds(folder, "train", annotated("/b/{split}.csv"))
    with pytest.raises(DataError, match="prepared from several annotations of this name") as error:
        found(folder, "/a/{split}.csv")
    assert "/a/fold1/{split}.csv, /a/fold2/{split}.csv, /a/fold3/" in str(error.value)
    assert "asked for is /a/{split}.csv. Name them with the last folders" in str(error.value)
    with pytest.raises(DataError, match="several annotations of this name"):
        found(folder, "/a/fold9/{split}.csv")


def test_the_log_says_when_only_the_name_of_annotations_is_the_same(folder, caplog):
    write(folder, one("1"), "there", chosen=annotated("/a/fold1/x.csv"))
    assert found(folder, "/b/fold1/x.csv") == "1" and not caplog.records
    assert found(folder, "/a/fold2/x.csv") == "1"
    assert "come from the annotations /a/fold1/x.csv; asked for is /a/fold2/x.csv" in caplog.text


def test_annotations_that_say_the_same_need_no_choice(folder):
    for base in ("/a/b", "/c/d"):
        write(folder, one("1"), "there", chosen=annotated(f"{base}/x.csv"))
    assert found(folder, "/e/f/x.csv") == "1"


def test_the_log_is_of_the_annotations_asked_for(folder, caplog):
    common = {"split": "train", "root": "there"}
    for fold in ("1", "2"):
        write(folder, one(fold), "there", chosen=annotated(f"/a/fold{fold}/x.csv"))
    for fold in ("1", "2"):
        chosen = annotated(f"/a/fold{fold}/x.csv")
        store_index.warn_if_changed(folder, one(fold), chosen=chosen, **common)
    assert not caplog.records


def of_an_older_jaxvid(path):
    """Without a word of where the annotations were, under the name that it gave."""
    facts, rest = path.read_text().split("\n", 1)
    told = {name: value for name, value in json.loads(facts).items() if name != "annotations"}
    assert told["options"] == {"annotations": "x.csv"}
    assert path.name == "train-f8ca8c33.jsonl"
    path.write_text(json.dumps(told) + "\n" + rest)


def test_records_of_an_older_jaxvid_are_read_and_taken_over(folder, caplog):
    of_an_older_jaxvid(write(folder, one("old"), "there", chosen=annotated("/a/fold1/x.csv")))
    assert found(folder, "/any/x.csv") == "old" and not caplog.records
    write(folder, one("2"), "there", chosen=annotated("/a/fold2/x.csv"))
    assert found(folder, "/a/fold2/x.csv") == "2"
    with pytest.raises(DataError, match="records: /a/fold2/x.csv, a place that was not noted; ask"):
        found(folder, "/a/fold1/x.csv")
    write(folder, one("old"), "there", chosen=annotated("/a/fold1/x.csv"))
    assert found(folder, "/a/fold1/x.csv") == "old" and len(list(folder.glob("index/*"))) == 2


def test_a_store_of_another_dataset(folder):
    with pytest.raises(DataError, match="a store of 'table', and data.dataset is 'folder'"):
        read(folder, dataset="folder")
    with pytest.raises(DataError, match="no store is there"):
        read(folder / "nowhere")


def test_a_store_that_is_older_than_its_records(folder):
    with pytest.raises(
        DataError, match="an older jaxvid made it. Where the files are, run"
    ) as error:
        read(folder)
    assert "videos of 'table' and not their splits and labels" in str(error.value)


def test_a_split_that_was_not_prepared(folder):
    write(folder, index_below("there"), "there")
    write(folder, index_below("there"), "there", split="val")
    with pytest.raises(DataError, match="the split 'test' of 'table' is not in .*holds train, val"):
        read(folder, split="test")


def test_other_options_than_those_prepared(folder):
    write(folder, index_below("there"), "there")
    write(folder, index_below("there"), "there", chosen=CHOSEN | {"fold": 2})
    with pytest.raises(DataError) as error:
        read(folder, chosen=CHOSEN | {"fold": 3})
    assert "the split 'train' was prepared with " in str(error.value)
    assert "fold=1" in str(error.value) and "fold=2" in str(error.value)
    assert "asked for (data.options) is fold=3. Give the same" in str(error.value)
    assert "annotations" not in str(error.value)
    with pytest.raises(DataError, match="is annotations unset, fold unset"):
        read(folder, chosen={})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], "it has 3 of 4 records"),
        (lambda text: text[:-20], "it has 3 of 4 records"),
        (lambda text: text.replace('"labels": [2]', '"labels": [1]'), "its fingerprint is another"),
        (lambda text: text.replace('"run"', '"ran"'), "its fingerprint is another"),
        (lambda text: text.replace('"multilabel": false, ', ""), "'multilabel'"),
        (lambda text: "\n" + text, "Expecting value"),
        (lambda text: "[]\n" + text, "list indices"),
    ],
)
def test_damaged_records(folder, damage, said):
    path = write(folder, index_below("there"), "there")
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(DataError, match="the list of records is damaged") as error:
        read(folder)
    assert said in str(error.value) and path.name in str(error.value)
    assert "prepare again" in str(error.value)


def test_damaged_records_are_replaced(folder):
    path = write(folder, one("1"), "there", chosen=annotated("/a/1/x.csv"))
    path.write_text("cut")
    assert write(folder, one("2"), "there", chosen=annotated("/a/2/x.csv")) == path
    assert found(folder, "/a/2/x.csv") == "2"


def test_records_of_another_version(folder):
    path = write(folder, index_below("there"), "there")
    facts, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps(json.loads(facts) | {"version": 2}) + "\n" + rest)
    with pytest.raises(DataError, match="the records have version 2, this jaxvid reads 1"):
        read(folder)


def test_what_json_cannot_hold(folder):
    index = DatasetIndex((VideoRecord("there/a.mp4", "a", extra={"when": {1, 2}}),), NAMES)
    with pytest.raises(DataError, match="a.mp4: what its reader tells in extra .* a set; numbers"):
        write(folder, index, "there")
    assert not (folder / "index").exists()


def test_the_log_says_when_the_files_have_other_records_now(folder, caplog):
    given, common = index_below("there"), {"split": "train", "chosen": CHOSEN, "root": "there"}
    with caplog.at_level(logging.WARNING, "jaxvid.data"):
        store_index.warn_if_changed(folder, given, **common)  # nothing is kept
        write(folder, given, "there")
        store_index.warn_if_changed(folder, given, **common)
        moved = index_below("moved")
        store_index.warn_if_changed(folder, moved, **common | {"root": "moved"})
    assert not caplog.records
    other = DatasetIndex(given.records[1:], NAMES)
    store_index.warn_if_changed(folder, other, **common)
    assert "its records of train are others than those that there has now" in caplog.text
    caplog.clear()
    store_index.warn_if_changed(folder, DatasetIndex(given.records, ("a", "b", "c")), **common)
    assert "its records of train are others" in caplog.text


def test_whether_it_holds_a_split(folder):
    write(folder, index_below("there"), "there")
    assert store_index.holds(folder, "train", CHOSEN)
    assert not store_index.holds(folder, "train", {})
    assert not store_index.holds(folder, "val", CHOSEN)
