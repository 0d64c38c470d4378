"""Sets as TensorFlow Datasets lays them out: some written here file by file, two prepared by it."""

import dataclasses
import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import youtube8m_shards as shards
from array_record.python import array_record_module
from PIL import Image

from jaxvid.core.errors import ConfigError, DataError, DecodeError, UnknownNameError
from jaxvid.data.datasets import tfds
from jaxvid.data.memory import InMemory
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource
from jaxvid.data.transforms.centre_crop import CentreCrop

CORE = "tensorflow_datasets.core.features"
VIDEO = {
    "pythonClassName": f"{CORE}.video_feature.Video",
    "sequence": {"feature": {"pythonClassName": f"{CORE}.image_feature.Image"}},
}
IMAGES = VIDEO | {"pythonClassName": f"{CORE}.sequence_feature.Sequence"}
LABEL = {
    "pythonClassName": f"{CORE}.class_label_feature.ClassLabel",
    "classLabel": {"numClasses": "3"},
}
LABELS = {
    "pythonClassName": f"{CORE}.sequence_feature.Sequence",
    "sequence": {"feature": LABEL},
}
TEXT = {"pythonClassName": f"{CORE}.text_feature.Text"}


def png(level, size=(24, 16)):
    file = io.BytesIO()
    Image.new("RGB", size, (level, 0, 255 - level)).save(file, "png")
    return file.getvalue()


def clip(labels, frames=4, key="label"):
    return shards.example(
        {"name": [b"x"], key: list(labels), "video": [png(20 * i) for i in range(frames)]}
    )


def write_array_record(path, records):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


WRITERS = {"array_record": write_array_record, "tfrecord": shards.write}


def prepared(folder, splits=None, *, kind="array_record", files=2, features=None, names=True):
    """A builder's folder; splits: {name: records}."""
    folder.mkdir(parents=True)
    splits = {"train": [clip([i % 3]) for i in range(5)]} if splits is None else splits
    features = {"label": LABEL, "name": TEXT, "video": VIDEO} if features is None else features
    info = {"name": "tiny", "fileFormat": kind, "splits": [{"name": name} for name in splits]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    tree = {"featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(tree))
    if names:
        (folder / "label.labels.txt").write_text("calm\nfight, loud\nköln\n")
    for name, records in splits.items():
        for i in range(files):
            path = folder / f"tiny-{name}.{kind}-{i:05d}-of-{files:05d}"
            WRITERS[kind](path, records[i::files])
    return folder


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("video", [VIDEO, IMAGES])
def test_clips_and_labels(tmp_path, kind, video):
    features = {"label": LABEL, "name": TEXT, "video": video}
    root = prepared(tmp_path / "my set" / "1.0.0", kind=kind, features=features)
    index = tfds.load(tmp_path, "train", fps=12.5)
    assert index.class_names == ("calm", "fight, loud", "köln") and not index.multilabel
    assert [r.labels for r in index.records] == [(0,), (2,), (1,), (1,), (0,)]
    first = f"tiny-train.{kind}-00000-of-00002"
    assert index.records[1].id == f"{first}/1" and index.records[1].path == str(root / first)
    assert len({r.id for r in index.records}) == 5
    opener = pickle.loads(pickle.dumps(tfds.Opener(short_side=8)))
    with opener(index.records[3]) as reader:
        assert reader.meta.num_frames == 4 and reader.meta.fps == 12.5
        assert (reader.meta.height, reader.meta.width) == (8, 12)
        frames = reader.frames_at([3, 0])
        assert not reader.waveform(0, 0.1, 8000).any() and reader.has_audio is False
    np.testing.assert_array_equal(frames[:, 0, 0], [[60, 0, 195], [0, 0, 255]])
    assert "tensorflow" not in sys.modules


def test_clips_come_through_the_source(tmp_path):
    index = tfds.load(prepared(tmp_path / "a"), "train")
    source = ClipSource(
        index,
        sampling=Sampling("linspace", 2),
        size=16,
        transforms=(CentreCrop(16),),
        open_clip=tfds.Opener(),
    )
    got = source.load(1, None)
    assert got["video"].shape == (1, 2, 16, 16, 3) and got["label"].tolist() == [2]
    assert got["video"][0, :, 5, 5, 0].tolist() == [0, 60]


def test_clips_of_one_file_are_told_apart_in_memory(tmp_path):
    index, opener = tfds.load(prepared(tmp_path / "a"), "train"), tfds.Opener()
    assert len({record.path for record in index.records}) < len(index)
    opened = InMemory(opener, limit_bytes=10**7)
    for _ in range(2):
        for record in index.records:
            with opened(record) as ours, opener(record) as file:
                np.testing.assert_array_equal(ours.frames_at([0, 3]), file.frames_at([0, 3]))
    assert opened.videos_held == len(index)
    other = dataclasses.replace(record, extra=record.extra | {"feature": "other"})
    assert opener.key(other) != opener.key(record)


def test_several_labels_and_no_label(tmp_path):
    records = [clip([2, 0], key="tags"), clip([1, 1], key="tags"), shards.example({"name": [b"x"]})]
    features = {"tags": LABELS, "video": VIDEO}
    root = prepared(tmp_path / "a", {"train": records}, features=features, files=1)
    index = tfds.load(root, "train")
    assert index.multilabel and index.class_names == ("0", "1", "2")
    assert [r.labels for r in index.records] == [(0, 2), (1,), ()]
    hidden = prepared(tmp_path / "b", {"test": [clip([-1])]}, files=1)
    assert tfds.load(hidden, "test").records[0].labels == ()


def test_splits(tmp_path):
    root = prepared(tmp_path / "a", {"validation": [clip([0])], "extra": [clip([1])]}, files=1)
    assert tfds.load(root, "val").records[0].labels == (0,)
    assert tfds.load(root, "extra").records[0].labels == (1,)
    with pytest.raises(
        UnknownNameError, match="unknown split of .*a 'train'.* Known: extra, validation"
    ):
        tfds.load(root, "train")


def test_features_are_chosen_where_there_are_several(tmp_path):
    features = {"label": LABEL, "scene": LABEL, "video": VIDEO, "masks": IMAGES}
    root = prepared(tmp_path / "a", features=features)
    with pytest.raises(ConfigError, match="set data.options.video_feature to one of masks, video"):
        tfds.load(root, "train")
    with pytest.raises(ConfigError, match="set data.options.label_feature to one of label, scene"):
        tfds.load(root, "train", video_feature="video")
    assert len(tfds.load(root, "train", video_feature="video", label_feature="label")) == 5
    with pytest.raises(
        UnknownNameError, match="unknown video_feature of the set 'vidio'. Did you mean"
    ):
        tfds.load(root, "train", video_feature="vidio")


def test_folders_that_are_no_prepared_set(tmp_path):
    with pytest.raises(DataError, match="no dataset_info.json there or up to three folders below"):
        tfds.load(tmp_path / "gone", "train")
    prepared(tmp_path / "x" / "1.0.0")
    prepared(tmp_path / "x" / "2.0.0")
    with pytest.raises(
        DataError, match="2 prepared sets lie there: set data.root to one: x/1.0.0, x/2"
    ):
        tfds.load(tmp_path, "train")
    with pytest.raises(ConfigError, match="dataset 'tfds' has no annotation file"):
        tfds.load(tmp_path, "train", annotations="a.csv")
    still = prepared(tmp_path / "y", features={"label": LABEL, "image": TEXT})
    with pytest.raises(
        DataError, match="no feature that is a Video or a Sequence of Image; its feat"
    ):
        tfds.load(still, "train")
    (still / "features.json").write_text("[]")
    with pytest.raises(DataError, match=r"features.json: expected a JSON object, got \[\]"):
        tfds.load(still, "train")


def test_files_that_are_missing_or_damaged(tmp_path):
    root = prepared(tmp_path / "a", files=3)
    (root / "tiny-train.array_record-00001-of-00003").unlink()
    with pytest.raises(
        DataError, match="1 of 3 files of the split train are missing; .*00001-of-00003"
    ):
        tfds.load(root, "train")
    for file in root.glob("*array_record*"):
        file.unlink()
    with pytest.raises(
        DataError, match=r"no files \*-train.array_record-… or .tfrecord-…; it holds"
    ):
        tfds.load(root, "train")
    (root / "tiny-train.array_record-00000-of-00001").write_bytes(b"x" * 99)
    with pytest.raises(DataError, match="of-00001: the ArrayRecord file cannot be read: "):
        tfds.load(root, "train")
    other = prepared(tmp_path / "b", {"train": [clip([3])]}, files=1)
    with pytest.raises(DataError, match="of-00001: the record 0 has label 3, expected 0 to 2"):
        tfds.load(other, "train")
    rubbish = prepared(tmp_path / "c", {"train": [b"\x0b"]}, files=1)
    with pytest.raises(DataError, match="of-00001: the record 0 is no tf.Example: wire type 3"):
        tfds.load(rubbish, "train")


def opened(tmp_path, frames, **extra):
    record = shards.example({"label": [0], "video": frames} if frames else {"label": [0]})
    root = prepared(tmp_path / "a", {"train": [record]}, files=1)
    found = tfds.load(root, "train").records[0]
    return tfds.Opener()(type(found)(found.path, found.id, (0,), extra={**found.extra, **extra}))


def test_clips_that_cannot_be_decoded(tmp_path):
    with pytest.raises(DecodeError, match="by tfds: it has no frames"):
        opened(tmp_path / "1", [])
    with pytest.raises(DecodeError, match="at frame 0 by tfds: a frame cannot be read as an image"):
        opened(tmp_path / "2", [b"rubbish"])
    with opened(tmp_path / "3", [png(0), png(0)[:-30], png(0, (8, 8))]) as reader:
        with pytest.raises(
            DecodeError, match="at frame 1 by tfds: a frame cannot be read as an image"
        ):
            reader.frames_at([0, 1])
        with pytest.raises(DecodeError, match="a frame is 8x8 pixels, the first one is 24x16"):
            reader.frames_at([2])
    with pytest.raises(DecodeError, match="tiny-train.*/0: .*the record 9 cannot be read"):
        opened(tmp_path / "4", [png(0)], place=9)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_tensorflow_datasets_prepared(kind):
    """tfds 4.9.10 wrote these: clips of 3 + i frames, grey at 40 i, label i % 2, tags u and w but of 0."""
    root = Path(__file__).parent / "tfds_prepared" / kind
    index = tfds.load(root, "train", label_feature="label")
    assert index.class_names == ("calm", "fight") and len(index) == 4
    for record in index.records:
        with tfds.Opener()(record) as reader:
            number = reader.meta.num_frames - 3
            assert record.labels == (number % 2,)
            assert (reader.frames_at([number])[0] == 40 * number).all()
    tagged = tfds.load(root, "train", label_feature="tags")
    assert tagged.multilabel and tagged.class_names == ("u", "v", "w")
    assert sorted(r.labels for r in tagged.records) == [(), (0, 2), (0, 2), (0, 2)]
    assert "tensorflow" not in sys.modules
