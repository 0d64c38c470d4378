"""Each check on indices and facts that are made up, with nothing on disk."""

from jaxvid.core.record import DatasetIndex, VideoMeta, VideoRecord
from jaxvid.data.checking import check
from jaxvid.data.file_facts import FileFacts
from jaxvid.data.split_summary import summary

META = VideoMeta(num_frames=50, fps=25.0, height=48, width=64, duration_seconds=2.0)
CLASSES = ("run", "jump", "wave")


def record(name, label=0, **fields):
    return VideoRecord(f"/data/{name}", name, () if label is None else (label,), **fields)


def splits(train, val=(), class_names=CLASSES, **fields):
    return {
        "train": DatasetIndex(tuple(train), class_names, **fields),
        "val": DatasetIndex(tuple(val), class_names, **fields),
    }


def facts_of(indices, **changed):
    """Facts of sound files, but for those given as {id without its suffix: {field: value}}."""
    facts = {}
    for index in indices.values():
        for r in index.records:
            fields = {"meta": META, "size_bytes": 1000} | changed.get(r.id.split(".")[0], {})
            facts[r.path] = FileFacts(r.path, **fields)
    return facts


def found(indices, groups=None, **changed):
    return check(indices, facts_of(indices, **changed), groups)


FULL = [record(f"{name}{i}.mp4", i) for name in "ab" for i in range(3)]


def test_nothing_is_found_where_nothing_is_wrong():
    assert found(splits(FULL, [record("v0.mp4", 0)])) == []


def test_missing_unreadable_single_and_short_files():
    findings = found(
        splits(FULL),
        a0={"meta": None, "error": "there is no such file", "is_missing": True},
        a1={"meta": None, "error": "it is not a video, or damaged"},
        a2={"meta": VideoMeta(1, 25.0, 48, 64, 0.04)},
        b0={"missing_frames": 3},
    )
    assert [(f.level, f.kind, f.examples) for f in findings] == [
        ("error", "missing", ("/data/a0.mp4",)),
        ("error", "unreadable", ("/data/a1.mp4: it is not a video, or damaged",)),
        ("error", "one-frame", ("/data/a2.mp4",)),
        ("warning", "short", ("/data/b0.mp4: 3 of 50 frames",)),
    ]
    assert findings[1].message == "files that cannot be decoded: 1"


def test_segments_outside_and_beyond_the_end():
    cut = [
        record("s.mp4", 0, start_seconds=1.0, end_seconds=2.5),  # half a second of rounding
        record("t.mp4", 1, start_seconds=1.0, end_seconds=9.0),
        record("u.mp4", 2, start_seconds=5.0, end_seconds=9.0),
        record("gone.mp4", 2, start_seconds=5.0),
    ]
    gone = {"meta": None, "error": "it is damaged"}
    _, outside, beyond = found(splits(cut), gone=gone)
    assert outside.kind == beyond.kind == "segment" and outside.level == "error"
    assert len(outside.examples) == 1 and "lies beyond the video" in outside.examples[0]
    assert beyond.level == "warning" and beyond.examples == ("/data/t.mp4: to 9 s of 2.00 s",)


def test_the_same_content_in_two_splits_is_an_error():
    indices = splits(FULL, [record("copy.mp4", 0), record("own.mp4", 1)])
    same = {"content": "abc"}
    (finding,) = found(indices, a0=same, copy=same, own={"content": "other"})
    assert (finding.level, finding.kind) == ("error", "duplicate")
    assert finding.examples == ("/data/a0.mp4 (train) = /data/copy.mp4 (val)",)
    assert "videos in two splits with the same content: 1;" in finding.message


def test_one_file_in_two_splits_is_an_error_too():
    (finding,) = found(splits(FULL, [record("a0.mp4", 0)]))
    assert finding.examples == ("/data/a0.mp4 (train, val)",)


def test_the_same_content_twice_in_one_split():
    same, twin = {"content": "abc"}, {"content": "xyz"}
    contradicting, twice = found(splits(FULL), a0=same, b0=same, a1=twin, b2=twin)
    assert contradicting.level == "error" and "with other labels" in contradicting.message
    assert contradicting.examples == ("/data/a1.mp4 (train) = /data/b2.mp4 (train)",)
    assert twice.level == "warning"
    assert twice.examples == ("/data/a0.mp4 (train) = /data/b0.mp4 (train)",)


def test_segments_of_one_file_are_no_duplicates():
    parts = [
        record("a.mp4", 0, end_seconds=1.0),
        VideoRecord("/data/a.mp4", "a2", (1,), 1.0, 2.0),
        record("c.mp4", 2),
    ]
    assert found(splits(parts)) == []


def test_one_source_in_two_splits_told_by_the_reader_or_by_a_table():
    train = [*FULL, record("x.mp4", 0, extra={"group": "g01"})]
    indices = splits(train, [record("y.mp4", 1, extra={"group": "g01"}), record("z.mp4", 2)])
    (finding,) = found(indices)
    assert (finding.level, finding.kind) == ("error", "group")
    assert finding.examples == ("g01: train: x.mp4; val: y.mp4",)
    (finding,) = found(indices, {"y.mp4": "g02", "z.mp4": "g03", "a0.mp4": "g03"})
    assert finding.examples == ("g03: train: a0.mp4; val: z.mp4",)


def test_classes_without_clips():
    classes = ("run", "jump", "wave", "sit")
    (empty, untrained) = found(
        splits([record("a.mp4", 0), record("b.mp4", 3)], [record("c.mp4", 1)], classes)
    )
    assert empty.message == "classes without a clip in any split: 1 of 4"
    assert empty.examples == ("wave",)
    assert untrained.message == "classes without a clip in train, but with some in val: 1"
    assert untrained.examples == ("jump",) and untrained.level == "warning"


def test_one_class_alone_and_a_class_that_is_never_evaluated():
    (alone,) = found(splits([record("a.mp4", 0), record("b.mp4", 0)], class_names=("run",)))
    assert alone.message.startswith("train has clips of 1 class alone") and alone.examples == (
        "run",
    )
    val = [record(f"v{i}.mp4", i % 2) for i in range(3)]
    (unseen,) = found(splits(FULL, val))
    assert unseen.message == "classes with clips in train and none in val: 1"
    assert unseen.examples == (CLASSES[2],) and unseen.level == "warning"
    assert found(splits(FULL, val, multilabel=True)) == []


def test_labels_that_seem_to_begin_with_another_number():
    (finding,) = found(splits([record("a.mp4", 1), record("b.mp4", 2)]))
    assert "counted from 1 and read as if from 0" in finding.message
    (finding,) = found(splits([record("a.mp4", 0), record("b.mp4", 1)]))
    assert "counted from 0 and read as if from 1" in finding.message


def test_clips_without_labels_and_a_split_without_any():
    indices = splits(FULL, [record("u.mp4", None)])
    (finding,) = found(indices)
    assert finding.message == "val: clips without a label: 1" and finding.examples == ("u.mp4",)
    assert [f.kind for f in found(splits([record("u.mp4", None)]))] == ["labels"]


def test_heads_are_counted_each_on_its_own():
    names = ("cut", "wash", "knife", "plate")
    one = VideoRecord("/data/a.mp4", "a", (0, 1))
    index = {"train": DatasetIndex((one,), names, heads={"verb": 2, "noun": 2})}
    verb, noun = check(index, facts_of(index))
    assert verb.message == "classes of verb without a clip in any split: 1 of 2"
    assert (verb.examples, noun.examples) == (("wash",), ("knife",))
    assert summary(index["train"], facts_of(index))["classes"] == {
        "verb": {"cut": 1, "wash": 0},
        "noun": {"knife": 0, "plate": 1},
    }


def test_class_lists_that_differ():
    indices = splits(FULL) | {"test": DatasetIndex((record("t.mp4", 0),), ("run", "wave", "jump"))}
    (finding,) = found(indices)
    assert finding.kind == "classes" and finding.examples == ("test: 3 classes, train: 3",)


def test_summary():
    indices = splits([*FULL, record("bad.mp4", None), record("cut.mp4", 0, end_seconds=1.0)])
    facts = facts_of(
        indices,
        bad={"meta": None, "error": "damaged"},
        a0={"meta": VideoMeta(90, 30.0, 120, 160, 3.0)},
    )
    told = summary(indices["train"], facts)
    assert (told["clips"], told["files"], told["decoded"], told["unlabelled"]) == (8, 8, 7, 1)
    assert told["classes"] == {"run": 3, "jump": 2, "wave": 2}
    assert told["seconds"] == {"shortest": 2.0, "median": 2.0, "longest": 3.0}
    assert told["clip_seconds"]["longest"] == 1.0 and told["size_bytes"] == 8000
    assert told["fps"] == {"25": 6, "30": 1} and told["sizes"] == {"64x48": 6, "160x120": 1}
    assert abs(told["hours"] - 15 / 3600) < 1e-9
    assert summary(indices["val"], {})["seconds"] is None
