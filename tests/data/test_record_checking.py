"""Sets whose clips are records of shards: what is looked at, and what is found wrong."""

import numpy as np
import pytest
import youtube8m_shards as shards

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import record_checking, record_facts
from jaxvid.data.datasets import youtube8m
from jaxvid.data.record_facts import RecordFacts, ShardFacts, evenly


@pytest.fixture
def root(tmp_path):
    """Two shards of five and of two videos to train on, one to validate."""
    given = [f"v{n}" for n in range(7)]
    made = [shards.video_level(name, [n % 3], seed=n)[0] for n, name in enumerate(given)]
    shards.write(tmp_path / "train0.tfrecord", made[:5])
    shards.write(tmp_path / "train1.tfrecord", made[5:])
    shards.write(tmp_path / "validate0.tfrecord", [shards.video_level("w", [1])[0]])
    return tmp_path


def load(root, **options):
    return {s: youtube8m.load(root, s, num_classes=3, **options) for s in ("train", "val")}


def facts_of(indices, count=None, **how):
    records = [record for index in indices.values() for record in index.records]
    look = record_facts.features(youtube8m.read_features)
    return record_facts.read_shards(records, look, count=count, threads=2, **how)


def test_a_sound_set(root):
    indices = load(root)
    facts = facts_of(indices)
    assert record_checking.check(indices, facts, features=True) == []
    told = record_checking.summary(indices["train"], facts)
    size = sum((root / f"train{n}.tfrecord").stat().st_size for n in range(2))
    assert told == {
        "clips": 7,
        "files": 2,
        "read": 7,
        "size_bytes": size,
        "unlabelled": 0,
        "classes": {"0": 3, "1": 2, "2": 2},
        "num_frames": {"shortest": 1.0, "median": 1.0, "longest": 1.0},
        "sizes": {"8": 7},
    }


def test_some_records_of_each_shard(root):
    indices = load(root)
    facts = facts_of(indices, count=2)
    found = {path.rpartition("/")[2]: list(f.records) for path, f in facts.items()}
    expected = {
        "train0.tfrecord": ["v0", "v4"],
        "train1.tfrecord": ["v5", "v6"],
        "validate0.tfrecord": ["w"],
    }
    assert found == expected
    assert list(evenly(5, 3)) == [0, 2, 4] and list(evenly(2, 16)) == [0, 1]
    assert list(evenly(3, None)) == [0, 1, 2]


def test_a_record_that_is_damaged_is_found_by_its_checksum(root):
    path = root / "train0.tfrecord"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1  # of the last checksum
    path.write_bytes(data)
    indices = load(root)
    (finding,) = record_checking.check(indices, facts_of(indices), features=True)
    assert finding.level == "error" and finding.message == "records that cannot be read: 1"
    assert "train0.tfrecord: the record at byte" in finding.examples[0]
    assert "its checksum is another" in finding.examples[0]
    assert record_checking.check(indices, facts_of(indices, count=1), features=True) == []


def test_numbers_and_sizes_of_features(root):
    bad = shards.example(
        {"id": [b"nan"], "labels": [0], "mean_rgb": [float("nan")] * 6, "mean_audio": [0.5] * 2}
    )
    longer, _ = shards.video_level("long", [0], sizes=(7, 2))
    shards.write(root / "train2.tfrecord", [bad, longer])
    indices = load(root)
    found = record_checking.check(indices, facts_of(indices), features=True)
    assert [f.kind for f in found] == ["unreadable", "features"]
    assert found[0].message == "records with numbers that are not finite: 1"
    assert found[0].examples == (f"{root}/train2.tfrecord: nan",)
    assert found[1].message == "1 records have features of another size than the usual 8"
    assert found[1].examples == (f"{root}/train2.tfrecord: long has 9 numbers",)


def test_a_video_in_two_splits(root):
    shards.write(root / "validate1.tfrecord", [shards.video_level("v3", [0])[0]])
    indices = load(root)
    (finding,) = record_checking.check(indices, facts_of(indices), features=True)
    assert finding.kind == "duplicate" and finding.message.startswith("videos in two splits: 1;")
    assert finding.examples == (
        f"v3: {root}/train0.tfrecord (train) = {root}/validate1.tfrecord (val)",
    )


def test_videos_of_a_single_frame():
    held = {"a": RecordFacts(1, (4, 4, 3)), "b": RecordFacts(9, (4, 4, 3))}
    records = tuple(VideoRecord("s", n, (i,)) for i, n in enumerate(held))
    index = DatasetIndex(records, ("run", "jump"))
    facts = {"s": ShardFacts(99, held)}
    (finding,) = record_checking.check({"train": index}, facts, features=False)
    assert finding.kind == "one-frame" and finding.examples == ("s: a",)
    assert record_checking.summary(index, facts)["sizes"] == {"4x4x3": 2}


def test_frames_are_decoded(tmp_path):
    asked = []

    class Reader:
        meta = type("Meta", (), {"num_frames": 7, "height": 2, "width": 3})

        def frames_at(self, numbers):
            asked.extend(numbers)
            if not numbers[0]:
                return
            raise DataError("the frame is no image")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    (tmp_path / "s").write_bytes(b"12")
    records = [VideoRecord(str(tmp_path / "s"), "a")]
    look = record_facts.frames(lambda record: Reader(), 2)
    (facts,) = record_facts.read_shards(records, look).values()
    assert facts == ShardFacts(2, {"a": RecordFacts(error="the frame is no image")})
    assert asked == [0, 6]
    (facts,) = record_facts.read_shards(
        records, record_facts.frames(lambda record: Reader(), 1)
    ).values()
    assert facts.records["a"] == RecordFacts(7, (2, 3, 3))


def test_numbers_that_cannot_be():
    for how in ({"count": 0}, {"threads": 0}):
        with pytest.raises(ConfigError, match="expected at least 1 of each"):
            record_facts.read_shards([], lambda record: RecordFacts(), **how)


class TestDamagedShards:
    """Of `youtube8m.load`."""

    @pytest.fixture
    def damaged(self, root):
        data = (root / "train1.tfrecord").read_bytes()
        (root / "train1.tfrecord").write_bytes(data[:-9])
        return root

    def test_all_are_told_at_once(self, damaged):
        (damaged / "train2.tfrecord").write_bytes(b"no TFRecord at all")
        with pytest.raises(DataError, match="2 of 3 shards cannot be used; the first ten") as error:
            youtube8m.load(damaged, "train", num_classes=3)
        assert "train1.tfrecord: the file ends within" in str(error.value)
        assert "train2.tfrecord: no record begins" in str(error.value)
        assert "a share of 0.6667, tolerated are 0.0 (data.options.max_missing)" in str(error.value)

    def test_some_are_tolerated(self, damaged, caplog):
        index = youtube8m.load(damaged, "train", num_classes=3, max_missing=0.5)
        assert [r.id for r in index.records] == [f"v{n}" for n in range(5)]
        assert "1 of 2 shards cannot be used" in caplog.text and "left out" in caplog.text

    def test_but_not_all(self, damaged):
        (damaged / "train0.tfrecord").unlink()
        with pytest.raises(DataError, match="1 of 1 shards cannot be used"):
            youtube8m.load(damaged, "train", num_classes=3, max_missing=1.0)

    @pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
    def test_a_share_that_cannot_be(self, root, share):
        with pytest.raises(ConfigError, match="max_missing is .*expected a share from 0.0 to 1.0"):
            youtube8m.load(root, "train", max_missing=share)


def test_finite_is_about_all_numbers():
    record = VideoRecord("s", "a")
    values = np.zeros((2, 3))
    assert record_facts.features(lambda r: values)(record) == RecordFacts(2, (3,))
    values[1, 2] = np.inf
    assert not record_facts.features(lambda r: values)(record).finite
