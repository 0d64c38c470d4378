"""The reader of EPIC-KITCHENS on trees of empty files."""

import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import epic_kitchens

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,"
    "stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
ROW = (
    "{id},P01,P01_01,00:00:01.089,{start},{stop},{frames},open door,open,{verb},door,{noun},"
    "\"['door', 'a, b']\",\"[3, 4]\""
)
VERBS = (
    "id,key,instances,category",
    "0,take,\"['take', 'pick-up']\",retrieve",
    "1,put,['put'],leave",
)
NOUNS = ("id,key,instances,category", "1,bottle:water,x,y", "0,tap,x,y", "2,pan,x,y")


def row(id="P01_01_0", start="00:00:00.14", stop="00:01:03.37", frames="8,202", verb=1, noun=2):
    return ROW.format(id=id, start=start, stop=stop, frames=frames, verb=verb, noun=noun)


def tree(root: Path, *rows: str, video="P01/videos/P01_01.MP4", name="EPIC_100_train.csv") -> Path:
    for file, lines in (
        (name, (HEADER, *(rows or (row(), row("P01_01_1", verb=0, noun=0))))),
        ("EPIC_100_verb_classes.csv", VERBS),
        ("EPIC_100_noun_classes.csv", NOUNS),
    ):
        (root / file).write_bytes(("\r\n".join(lines) + "\r\n").encode())
    (root / video).parent.mkdir(parents=True, exist_ok=True)
    (root / video).touch()
    return root


def test_verb_and_noun(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = epic_kitchens.load(tree(tmp_path), "train")
    assert dict(index.heads) == {"verb": 2, "noun": 3}
    assert index.class_names == ("take", "put", "tap", "bottle:water", "pan")
    facts = [(r.id, r.labels, r.start_seconds, r.end_seconds) for r in index.records]
    assert facts == [("P01_01_0", (1, 2), 0.14, 63.37), ("P01_01_1", (0, 0), 0.14, 63.37)]
    assert index.records[0].path == str(tmp_path / "P01/videos/P01_01.MP4")
    assert "2 segments, 2 verbs, 3 nouns, both from 0" in caplog.text


@pytest.mark.parametrize("place", ["P01/rgb_frames/P01_01", "my frames/x/P01_01"])
def test_folders_of_frames_go_by_frame_numbers(tmp_path, place):
    index = epic_kitchens.load(tree(tmp_path, video=f"{place}/frame_0000000001.jpg"), "train")
    first = index.records[0]
    assert first.path == str(tmp_path / place)
    assert (first.start_seconds, first.end_seconds) == (7 / 30, 202 / 30)  # frames 8 to 202 of 1..
    bad = tree(tmp_path, row(frames="0,5"), video=f"{place}/frame_0000000001.jpg")
    with pytest.raises(
        DataError, match="csv:2: .* folder of frames, and start_frame .* '0' and '5'"
    ):
        epic_kitchens.load(bad, "train")


def test_validation_and_the_unlabelled_test(tmp_path):
    tree(tmp_path, name="EPIC_100_validation.csv")
    assert len(epic_kitchens.load(tmp_path, "val")) == 2
    lines = (
        "narration_id,participant_id,video_id,start_timestamp,stop_timestamp",
        "x,P01,P01_01,00:00:01,00:00:02",
    )
    (tmp_path / "EPIC_100_test_timestamps.csv").write_text("\n".join(lines))
    records = epic_kitchens.load(tmp_path, "test").records
    assert [(r.id, r.labels, r.end_seconds) for r in records] == [("x", (), 2.0)]


def test_without_class_lists(tmp_path, caplog):
    tree(tmp_path)
    for head in epic_kitchens.HEADS:
        (tmp_path / f"EPIC_100_{head}_classes.csv").unlink()
    index = epic_kitchens.load(tmp_path, "train")
    assert dict(index.heads) == {"verb": 97, "noun": 300} and len(index.class_names) == 397
    assert "no EPIC_100_verb_classes.csv beside the annotations" in caplog.text


def test_epic_55(tmp_path):
    header = HEADER.replace("narration_id", "uid")
    tree(tmp_path, video="videos/train/P01/P01_01.MP4")
    (tmp_path / "EPIC_100_train.csv").unlink()
    (tmp_path / "EPIC_train_action_labels.csv").write_text(
        f"{header}\n{row('7', verb=124, noun=351)}\n"
    )
    index = epic_kitchens.load(tmp_path, "train")
    assert dict(index.heads) == {"verb": 125, "noun": 352}
    assert [(r.id, r.labels) for r in index.records] == [("7", (124, 351))]


def test_missing_videos_and_duplicate_rows(tmp_path, caplog):
    other = row("P09_01_0").replace("P01_01,", "P09_01,")
    tree(tmp_path, row(), row(), other)
    with pytest.raises(
        DataError, match="1 of 2 files are missing; the file:\n.*P09/videos/P09_01.mp4"
    ):
        epic_kitchens.load(tmp_path, "train")
    assert len(epic_kitchens.load(tmp_path, "train", max_missing=0.5)) == 1
    assert "1 duplicate rows left out" in caplog.text
    tree(tmp_path, row(), row(verb=0))
    with pytest.raises(DataError, match="1 clips are listed again.*\n.*line 2.*line 3"):
        epic_kitchens.load(tmp_path, "train")


@pytest.mark.parametrize(
    "bad, said",
    [
        (row(verb=2), ":2: verb_class is '2', expected a number from 0 to 1 .2 verbs"),
        (row(noun=-1), ":2: noun_class is '-1', expected a number from 0 to 2"),
        (row(noun="pan"), ":2: noun_class is 'pan'"),
        (row(stop="00:00:00.10"), ":2: the segment from 00:00:00.14 to 00:00:00.10 is empty"),
        (row(start="00:75:00"), ":2: '00:75:00' is no time"),
        (row().replace("P01_01,", ",", 1), ":2: the video_id is empty"),
        ("P01_01_0,P01", ":2: 2 fields, expected 15"),
    ],
)
def test_nonsense_is_refused_with_its_line(tmp_path, bad, said):
    with pytest.raises(DataError, match="EPIC_100_train.csv" + said):
        epic_kitchens.load(tree(tmp_path, bad), "train")


@pytest.mark.parametrize(
    "lines, said",
    [
        (("id,key", "1,a", "2,b"), "the verbs count from 1, expected numbers from 0"),
        (("id,key", "0,a", "1,a"), "csv:3: the verb 'a' is there twice"),
        (("id,name", "0,a"), "has no column 'key'"),
    ],
)
def test_class_lists_that_are_none(tmp_path, lines, said):
    tree(tmp_path)
    (tmp_path / "EPIC_100_verb_classes.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=said):
        epic_kitchens.load(tmp_path, "train")


def test_other_places_and_unknown_split(tmp_path):
    (tmp_path / "lists").mkdir()
    tree(tmp_path / "lists", video="../media/a b/P01_01.mkv")
    index = epic_kitchens.load(tmp_path, "train", annotations="lists", videos="media")
    assert index.records[0].path == str(tmp_path / "media/a b/P01_01.mkv")
    with pytest.raises(
        DataError, match="epic_kitchens: no annotation file.*EPIC_100_validation.csv"
    ):
        epic_kitchens.load(tmp_path, "val")
    with pytest.raises(UnknownNameError, match="split of epic_kitchens 'validation'"):
        epic_kitchens.load(tmp_path, "validation")
