"""YouTube-8M shards that the test writes, at both levels, and the source that loads from them."""

import pickle
import time

import numpy as np
import pytest
import youtube8m_shards as shards

from jaxvid.core.errors import ConfigError, DataError, DecodeError, UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import youtube8m
from jaxvid.data.feature_source import FeatureSource, frame_numbers


@pytest.fixture
def videos(tmp_path):
    """Shards of whole videos; (root, {id: features})"""
    given = [("a b#1", [3, 0]), ("ü;2", [1]), ("c", [])]
    made = {
        name: shards.video_level(name, labels, seed=i) for i, (name, labels) in enumerate(given)
    }
    root = tmp_path / "yt 8m, #2"
    records = [record for record, _ in made.values()]
    shards.write(root / "train0000.tfrecord", records[:2])
    shards.write(root / "more" / "train0001.tfrecord", records[2:])
    shards.write(root / "validate0000.tfrecord", records[:1])
    shards.write(root / "trainer.txt", [])
    return root, {name: features for name, (_, features) in made.items()}


@pytest.fixture
def frames(tmp_path):
    made = {f"v{n}": shards.frame_level(f"v{n}", [n], frames=3 + 4 * n, seed=n) for n in range(2)}
    shards.write(tmp_path / "train00.tfrecord", [record for record, _ in made.values()])
    return tmp_path, {name: stored for name, (_, stored) in made.items()}


def test_whole_videos(videos):
    root, features = videos
    index = youtube8m.load(root, "train")
    assert index.multilabel and index.num_classes == 3862 and index.class_names[17] == "17"
    found = {r.id: (r.labels, r.path.removeprefix(str(root))) for r in index.records}
    assert found == {
        "c": ((), "/more/train0001.tfrecord"),
        "a b#1": ((0, 3), "/train0000.tfrecord"),
        "ü;2": ((1,), "/train0000.tfrecord"),
    }
    for record in index.records:
        got = youtube8m.read_features(record)
        assert got.shape == (1, 8) and got.dtype == np.float32
        np.testing.assert_array_equal(got, features[record.id])
    assert [r.id for r in youtube8m.load(root, "val").records] == ["a b#1"]


def test_frames_are_dequantised(frames):
    root, stored = frames
    index = youtube8m.load(root, "train")
    assert [r.labels for r in index.records] == [(0,), (1,)]
    for record, count in zip(index.records, (3, 7), strict=True):
        got = youtube8m.read_features(record)
        assert got.shape == (count, 8) and got.dtype == np.float32
        # The publisher's: byte * (max - min) / 255 + (max - min) / 512 + min
        np.testing.assert_allclose(got, stored[record.id] * (4 / 255) - 2 + 4 / 512, atol=1e-6)


def test_features_are_chosen_in_order(frames):
    root, _ = frames
    (record, _) = youtube8m.load(root, "train", features=("audio", "rgb")).records
    got = youtube8m.read_features(record)
    whole = youtube8m.read_features(youtube8m.load(root, "train").records[0])
    np.testing.assert_array_equal(got, np.concatenate([whole[:, 6:], whole[:, :6]], axis=1))
    (record, _) = youtube8m.load(root, "train", features=("audio",)).records
    assert youtube8m.read_features(record).shape == (3, 2)


def test_the_vocabulary_names_the_classes(videos, tmp_path):
    root, _ = videos
    rows = [
        "Index,TrainVideoCount,Name,Vertical1",
        '1,9,"Car, red",x',
        "0,9,Game,x",
        "2,8,,x",
        "3,1,Ü,",
    ]
    (root / "vocabulary.csv").write_bytes("\r\n".join(rows).encode())
    names = ("Game", "Car, red", "2", "Ü")
    assert youtube8m.load(root, "train").class_names == names
    (root / "vocabulary.csv").rename(tmp_path / "other.csv")
    assert youtube8m.load(root, "train", annotations=tmp_path / "other.csv").class_names == names
    elsewhere = youtube8m.load(tmp_path, "train", videos=root, num_classes=4)
    assert len(elsewhere) == 3 and elsewhere.num_classes == 4


def test_the_first_release_calls_the_id_otherwise(tmp_path):
    record, _ = shards.video_level("old", [4799], key="video_id")
    shards.write(tmp_path / "train-a.tfrecord", [record])
    assert youtube8m.load(tmp_path, "train", num_classes=4800).records[0].id == "old"


def test_what_is_wrong_with_the_set(videos, tmp_path):
    root, _ = videos
    with pytest.raises(
        UnknownNameError, match="unknown split of youtube8m 'vall'. Did you mean 'val'"
    ):
        youtube8m.load(root, "vall")
    with pytest.raises(UnknownNameError, match="unknown feature of youtube8m 'flow'"):
        youtube8m.load(root, "val", features=("rgb", "flow"))
    with pytest.raises(DataError, match=r"no shards of the test split there, files named test\*"):
        youtube8m.load(root, "test")
    with pytest.raises(
        DataError, match=r"record a b#1 at byte 0 has label 3, expected 0 to 1; give"
    ):
        youtube8m.load(root, "val", num_classes=2)
    (tmp_path / "v.csv").write_text("Index,Name\n0,a\n2,b\n")
    with pytest.raises(
        DataError, match="v.csv: the column Index has 2 numbers from 0 to 2, expected"
    ):
        youtube8m.load(root, "train", annotations=tmp_path / "v.csv")
    shards.write(root / "trainX.tfrecord", [shards.frame_level("d", [0])[0]])
    with pytest.raises(
        DataError, match=r"holds features of whole videos, .*trainX.tfrecord of frames"
    ):
        youtube8m.load(root, "train")
    shards.write(root / "trainX.tfrecord", [shards.video_level("c", [])[0]])
    with pytest.raises(
        DataError, match="the video c is in .*train0001.tfrecord already; is a shard"
    ):
        youtube8m.load(root, "train")
    shards.write(root / "trainX.tfrecord", [shards.example({"name": [b"x"]})])
    with pytest.raises(
        DataError, match="no example of YouTube-8M: it has no id or video_id but name"
    ):
        youtube8m.load(root, "train")


def damaged(record, **extra):
    return VideoRecord(record.path, record.id, record.labels, extra={**record.extra, **extra})


def test_what_is_wrong_with_a_record(videos, tmp_path):
    root, _ = videos
    one = youtube8m.load(root, "val").records[0]
    with pytest.raises(
        DataError, match="record a b#1 at byte 0 cannot be used: there is no 'mean_x'"
    ):
        youtube8m.read_features(damaged(one, features=("x",)))
    short = {"rgb": [[b"abc"], [b"abc"]], "audio": [[b"a"]]}
    uneven = {"rgb": [[b"abc"], [b"ab"]], "audio": [[b"a"], [b"b"]]}
    for name, sequences, says in (
        ("s", short, r"its features have \[2, 1\] frames"),
        ("u", uneven, r"rgb has frames of \[2, 3\] numbers"),
    ):
        record = shards.example({"id": [b"x"], "labels": [1]}, sequences)
        shards.write(tmp_path / name / "train.tfrecord", [record])
        with pytest.raises(DataError, match=f"the record x at byte 0 cannot be used: {says}"):
            youtube8m.read_features(youtube8m.load(tmp_path / name, "train").records[0])


# --- the source -------------------------------------------------------------------------------------


def source(root, split="train", **settings):
    settings = {"num_frames": 4, **settings}
    return FeatureSource(youtube8m.load(root, split), read=youtube8m.read_features, **settings)


def test_an_example_has_the_features_and_labels_of_its_record(frames):
    root, _ = frames
    made = pickle.loads(pickle.dumps(source(root)))
    assert len(made) == 2 and made.feature_size == 8
    whole = youtube8m.read_features(made.index.records[1])  # 7 frames
    got = made.load(1, None)
    assert got["features"].shape == (1, 4, 8) and got["features"].dtype == np.float32
    np.testing.assert_array_equal(got["features"][0], whole[[0, 2, 4, 6]])
    assert got["label"].tolist() == [1] and got["label"].dtype == np.int32
    assert got["mask"].shape == () and bool(got["mask"]) and got["row"] == 1
    assert got["row"].dtype == np.int32
    made.check_deterministic()


def test_labels_and_padding(videos):
    root, _ = videos
    made = source(root, num_frames=1)
    labels = {r.id: made.load(i, None)["label"].tolist() for i, r in enumerate(made.index.records)}
    assert labels == {"a b#1": [0, 3], "ü;2": [1, -1], "c": [-1, -1]}
    assert source(root, max_label_width=5).load(0, None)["label"].shape == (5,)
    nothing, example = made.padding(), made.load(0, None)
    assert not nothing["mask"] and not nothing["features"].any() and (nothing["label"] == -1).all()
    for name, array in example.items():
        assert (array.shape, array.dtype) == (nothing[name].shape, nothing[name].dtype)


def test_training_draws_and_evaluation_does_not(frames):
    made = source(frames[0])
    draws = [made.load(1, np.random.default_rng(s))["features"] for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize(
    "count, wanted, clips, expected",
    [
        (8, 4, 1, [[1, 3, 5, 7]]),
        (8, 4, 2, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (2, 4, 1, [[0, 0, 1, 1]]),  # each equally often
        (1, 3, 1, [[0, 0, 0]]),
        (5, 1, 1, [[2]]),
    ],
)
def test_rows_are_spread_evenly(count, wanted, clips, expected):
    got = frame_numbers(count, wanted, clips, None)
    assert got.tolist() == expected and got.dtype == np.int64


def test_every_row_can_be_drawn_within_its_part():
    rng = np.random.default_rng(0)
    drawn = frame_numbers(10, 4, 500, rng)
    assert {int(i) for i in drawn.reshape(-1)} == set(range(10))
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert drawn[:, 1].min() == 2 and drawn[:, 1].max() == 4  # [2.5, 5)


class _Last:
    def random(self, shape):
        return np.full(shape, np.nextafter(1, 0))


def test_rounding_does_not_go_beyond_the_end():
    assert frame_numbers(3, 10**6, 1, _Last()).max() == 2


def _sized(record):
    return np.zeros(record.extra["shape"], np.float32)


def sized(*shapes, **settings):
    records = tuple(
        VideoRecord(f"{i}", f"{i}", (0,), extra={"shape": s}) for i, s in enumerate(shapes)
    )
    index = DatasetIndex(records, ("a",), multilabel=True)
    return FeatureSource(index, read=_sized, num_frames=2, **settings)


def test_damaged_records_are_raised_or_skipped(videos, caplog):
    root, _ = videos
    path = root / "train0000.tfrecord"
    index = youtube8m.load(root, "train")
    row = [r.id for r in index.records].index("ü;2")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    read = youtube8m.read_features
    with pytest.raises(DataError, match="is damaged, its checksum is another"):
        FeatureSource(index, read=read, num_frames=1).load(row, None)
    skipped = FeatureSource(index, read=read, num_frames=1, on_error="skip").load(row, None)
    assert not skipped["mask"] and not skipped["features"].any() and skipped["row"] == row
    assert "skipped: " in caplog.text and "is damaged" in caplog.text


def test_features_of_other_shapes():
    made = sized((3, 8), (2, 9), (0, 8), (8,))
    with pytest.raises(DataError, match="1: 1 has features of 9 numbers, the first record 8"):
        made.load(1, None)
    for row in (2, 3):
        with pytest.raises(
            DataError, match=rf"the features of {row} have shape .* expected \(frames,"
        ):
            made.load(row, None)
    assert sized((0, 8), (3, 8), on_error="skip").feature_size == 8
    with pytest.raises(DataError, match="the features of 0 have shape"):
        sized((0, 8), (3, 8))
    with pytest.raises(
        DataError, match="none of the first 1 records can be read; the last: 0: the"
    ):
        sized((0, 8), on_error="skip")


def test_a_read_that_never_ends():
    made = sized((3, 8), deadline_seconds=0.05)
    made._read_features = lambda record: time.sleep(2)
    with pytest.raises(
        DecodeError, match="0: cannot be decoded by features: not finished at the dead"
    ):
        made.load(0, None)


@pytest.mark.parametrize(
    "settings, error, says",
    [
        (
            {"num_frames": 0},
            ConfigError,
            "num_frames of features is 0, expected a whole number from 1",
        ),
        ({"clips": 1.5}, ConfigError, "clips of features is 1.5"),
        ({"on_error": "ignore"}, ConfigError, "on_error is 'ignore', expected 'raise' or 'skip'"),
    ],
)
def test_settings_that_cannot_be(frames, settings, error, says):
    with pytest.raises(error, match=says):
        source(frames[0], **settings)


def test_no_records():
    with pytest.raises(DataError, match="the dataset index has no records"):
        FeatureSource(DatasetIndex((), ("a",)), read=_sized, num_frames=1)
