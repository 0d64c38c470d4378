"""The reader of ActivityNet on trees of empty files."""

import json
import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import activitynet


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def entry(subset, *segments, **more):
    annotations = [{"label": label, "segment": list(times)} for label, *times in segments]
    return {"subset": subset, "duration": "60.5", "annotations": annotations, **more}


DATABASE = {
    "-a #1": entry("training", ("Long jump", 1.5, 3), ("BMX", 4, 9.25), ("Long jump", 10, 12)),
    "c&d;": entry("validation", ("archery, indoors", 0.0, 3)),
    "e_f": entry("validation"),
    "0005": entry("testing", duration=None),
}
VIDEOS = ("train/v_-a #1.mp4", "val/Archery Indoors/v_c&d;.mkv", "x/v_e_f.webm", "0005.mp4")


def write(root: Path, database=DATABASE, name="activity_net.v1-3.min.json") -> Path:
    text = json.dumps({"version": "1.3", "taxonomy": [], "database": database}, indent=1)
    (root / name).write_bytes(text.replace("\n", "\r\n").encode())
    return root


def test_a_record_a_segment(tmp_path):
    grow(write(tmp_path), *VIDEOS)
    index = activitynet.load(tmp_path, "train")
    assert index.class_names == ("BMX", "Long jump", "archery, indoors")
    assert not index.multilabel and len({r.id for r in index.records}) == 3
    facts = [(r.labels, r.start_seconds, r.end_seconds) for r in index.records]
    assert facts == [((1,), 1.5, 3.0), ((0,), 4.0, 9.25), ((1,), 10.0, 12.0)]
    assert {r.path for r in index.records} == {str(tmp_path / "train/v_-a #1.mp4")}
    val = activitynet.load(tmp_path, "val")
    assert [(r.labels, Path(r.path).name) for r in val.records] == [((2,), "v_c&d;.mkv")]
    assert val.class_names == index.class_names


@pytest.mark.parametrize("times", [(0, 0), (3, 2)])
def test_segments_that_do_not_end_after_they_begin_make_no_clip(tmp_path, caplog, times):
    """The publisher's own file has some of no length."""
    more = entry("training", ("BMX", 0, 0.5), ("Long jump", *times))
    grow(write(tmp_path, {**DATABASE, "zero": more}), *VIDEOS, "train/v_zero.mp4")
    index = activitynet.load(tmp_path, "train")
    assert [r.labels for r in index.records if "zero" in r.path] == [(0,)]
    assert "does not end after it begins, which makes no clip: 1 (zero)" in caplog.text
    whole = activitynet.load(tmp_path, "train", untrimmed=True)
    assert [r.labels for r in whole.records] == [(0, 1), (0, 1)]


def test_untrimmed_a_record_a_video(tmp_path, caplog):
    grow(write(tmp_path), *VIDEOS)
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = activitynet.load(tmp_path, "train", untrimmed=True)
        val = activitynet.load(tmp_path, "val", untrimmed=True)
    assert index.multilabel
    assert [(r.id, r.labels, r.end_seconds) for r in index.records] == [("-a #1", (0, 1), None)]
    assert [r.id for r in val.records] == ["c&d;"]
    assert "1 videos have no segment, left out" in caplog.text


def test_the_test_split_is_unlabelled(tmp_path):
    grow(write(tmp_path), *VIDEOS)
    for untrimmed in (False, True):
        records = activitynet.load(tmp_path, "test", untrimmed=untrimmed).records
        assert [(r.id, r.labels, Path(r.path).name) for r in records] == [("0005", (), "0005.mp4")]


def test_missing_videos(tmp_path, caplog):
    grow(write(tmp_path, DATABASE | {"gone": entry("training", ("BMX", 1, 2))}), *VIDEOS)
    with pytest.raises(DataError, match="1 of 2 files are missing; the file:\n.*v_gone.mp4"):
        activitynet.load(tmp_path, "train")
    assert len(activitynet.load(tmp_path, "train", max_missing=0.5)) == 3
    assert "1 of 2 files are missing" in caplog.text


def test_a_segment_twice_and_one_with_two_labels(tmp_path, caplog):
    grow(tmp_path, "v_a.mp4")
    write(tmp_path, {"a": entry("training", ("BMX", 1, 2), ("BMX", 1, 2), ("run", 1, 2))})
    records = activitynet.load(tmp_path, "train").records
    assert [r.labels for r in records] == [(0,), (1,)]
    assert "1 duplicate rows left out" in caplog.text


def test_other_places_and_class_names(tmp_path):
    grow(tmp_path / "films", *VIDEOS)
    (tmp_path / "lists").mkdir()
    write(tmp_path / "lists", name="my own.json")
    names = ["archery, indoors", "Long jump", "BMX"]
    for annotations in ("lists/my own.json", tmp_path / "lists"):
        index = activitynet.load(
            tmp_path, "train", annotations=annotations, videos="films", class_names=names
        )
        assert [r.labels for r in index.records] == [(1,), (2,), (1,)]
    with pytest.raises(
        DataError, match=r"database\['c&d;'\]: 'archery, indoors' is none of the 200"
    ):
        activitynet.load(tmp_path / "lists", "val", videos="films", class_names="activitynet")


def test_a_segment_after_the_end_is_said(tmp_path, caplog):
    grow(write(tmp_path, {"a": entry("training", ("BMX", 61, 62))}), "v_a.mp4")
    assert len(activitynet.load(tmp_path, "train")) == 1
    assert "1 videos have a segment that starts after their end: a" in caplog.text


@pytest.mark.parametrize(
    "database, said",
    [
        ({"a": entry("training", ("BMX", -1, 2))}, r"\['a'\].annotations\[0\]: -1 is no time"),
        ({"a": entry("training", ("BMX", 1))}, r'expected {"label": NAME, "segment": \[start, end\]}'),
        ({"a": entry("trainnig", ("BMX", 1, 2))}, "the subset is 'trainnig', expected training"),
        ({"a": entry("training", ("BMX", 1, 2), duration="long")}, "duration: 'long' is no time"),
        ({"a": []}, r"database\['a'\]: expected an object with a subset"),
        ({}, r'expected an object {"database".*got version, taxonomy, database'),
        ({"a": entry("validation", ("BMX", 1, 2))}, "no video is of the split 'train'; they are of val"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_place(tmp_path, database, said):
    grow(write(tmp_path, database), "v_a.mp4")
    with pytest.raises(DataError, match=said):
        activitynet.load(tmp_path, "train")


def test_broken_json_missing_file_and_unknown_split(tmp_path):
    with pytest.raises(
        DataError, match="activitynet: no annotation file.*activity_net.v1-3.min.json"
    ):
        activitynet.load(tmp_path, "train")
    (tmp_path / "activity_net.v1-3.json").write_text('{"database":\n oops}')
    with pytest.raises(DataError, match="activity_net.v1-3.json:2: no JSON"):
        activitynet.load(tmp_path, "train")
    with pytest.raises(UnknownNameError, match="split of activitynet 'training'"):
        activitynet.load(tmp_path, "training")
