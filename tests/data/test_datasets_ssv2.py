"""Something-Something V2: JSON lists, templates with brackets, numbers that are strings."""

import json

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data import class_lists
from jaxvid.data.datasets import ssv2

LABELS = {"Holding something next to something": "1", "Putting something, something and more": "0"}
TRAIN = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    },
    {"id": 5, "label": "x", "template": "Putting [something], [something] and more"},
]
SHORT = "Holding [something] next to [something]"


def grow(root, labels=LABELS, videos="20bn-something-something-v2", folder=".", **lists):
    lists = {"train": TRAIN, "validation": TRAIN[1:], "test": [{"id": "5"}], **lists}
    for clip in (78687, 5):
        (root / videos).mkdir(parents=True, exist_ok=True)
        (root / videos / f"{clip}.webm").touch()
    (root / folder).mkdir(exist_ok=True)
    for kind, content in {**lists, "labels": labels}.items():
        if content is not None:
            file = root / folder / f"something-something-v2-{kind}.json"
            file.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


@pytest.mark.parametrize("videos, folder", [("20bn-something-something-v2", "."), (".", "labels")])
def test_splits(tmp_path, videos, folder):
    root = grow(tmp_path / "the set", videos=videos, folder=folder)
    train, val, test = (ssv2.load(root, split) for split in ssv2.SPLITS)
    assert train.class_names == val.class_names == test.class_names
    assert train.class_names == (
        "Putting something, something and more",
        SHORT.replace("[", "").replace("]", ""),
    )
    assert [(r.id, r.labels) for r in train.records] == [("78687", (1,)), ("5", (0,))]
    assert [r.path for r in train.records] == [
        str(root / videos / f"{r.id}.webm") for r in train.records
    ]
    assert [(r.id, r.labels) for r in val.records] == [("5", (0,))]
    assert [(r.id, r.labels) for r in test.records] == [("5", ())]


def test_numbers_from_one(tmp_path):
    root = grow(tmp_path, labels={name: int(n) + 1 for name, n in LABELS.items()})
    assert [r.labels for r in ssv2.load(root, "train").records] == [(1,), (0,)]


def test_the_shipped_classes(tmp_path):
    root = grow(tmp_path, labels=None, train=TRAIN[:1])
    index = ssv2.load(root, "train")
    assert index.class_names == class_lists.load("ssv2")
    assert index.class_names[index.records[0].labels[0]] == "Holding something next to something"


def test_places_given(tmp_path):
    root = grow(tmp_path, videos="my clips", folder="my lists")
    (root / "my clips/5.webm").rename(root / "my clips/5.mp4")
    places = {"annotations": root / "my lists", "videos": root / "my clips"}
    index = ssv2.load(tmp_path / "no", "train", **places)
    assert index.records[1].path == str(root / "my clips/5.mp4")


def test_missing_and_repeated(tmp_path, caplog):
    root = grow(tmp_path, train=TRAIN + TRAIN)
    assert len(ssv2.load(root, "train")) == 2
    assert "2 duplicate rows left out" in caplog.text
    (root / "20bn-something-something-v2/5.webm").unlink()
    with pytest.raises(DataError, match="ssv2: 1 of 2 files are missing"):
        ssv2.load(root, "train")
    assert len(ssv2.load(root, "train", max_missing=0.5)) == 1


@pytest.mark.parametrize(
    "lists, said",
    [
        ({"train": "[{]"}, "v2-train.json:1: no JSON, column 3"),
        (
            {"train": {"id": "5"}},
            "v2-train.json: expected a list of clips, each with id and template",
        ),
        ({"train": []}, "v2-train.json: expected a list of clips"),
        (
            {"train": [*TRAIN, {"template": SHORT}]},
            "v2-train.json: entry 3 is {'template.*with an id",
        ),
        ({"train": ["5"]}, "v2-train.json: entry 1 is 5, expected a clip with an id"),
        (
            {"train": [{"id": "5"}]},
            r"v2-train.json: entry 1 \(clip 5\) has no template, so no class",
        ),
        (
            {"train": [{"id": "5", "template": "Holding [something] by [something]"}]},
            r"entry 1 \(clip 5\): 'Holding something by something' is none of the 2 classes .*Did you mean",
        ),
        (
            {"train": [TRAIN[0], {"id": "78687", "template": TRAIN[1]["template"]}]},
            "'78687': labels .1.*0",
        ),
        ({"labels": []}, "v2-labels.json: expected {.template.: .number., …}"),
        ({"labels": {"a": "one"}}, "v2-labels.json: the number of 'a' is 'one', expected a whole"),
        ({"labels": {"a": "0", "b": "2"}}, "v2-labels.json: 2 classes with numbers from 0 to 2"),
        ({"labels": {"[a]": "0", "a": "1"}}, "v2-labels.json: the class 'a' stands there twice"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, lists, said):
    with pytest.raises(DataError, match=said):
        ssv2.load(grow(tmp_path, **lists), "train")


def test_names(tmp_path):
    with pytest.raises(
        UnknownNameError, match="split of ssv2 'validation'. Known: test, train, val"
    ):
        ssv2.load(tmp_path, "validation")
    with pytest.raises(
        DataError, match="ssv2: no annotation file.*something-something-v2-validation.json"
    ):
        ssv2.load(tmp_path, "val")
