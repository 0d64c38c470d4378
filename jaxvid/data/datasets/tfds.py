"""A set that TensorFlow Datasets has prepared, read without TensorFlow: data.root is the builder's
folder.

    root/dataset_info.json  features.json  label.labels.txt
    root/ucf101-train.array_record-00000-of-00008, …     or .tfrecord-00000-of-00008, …

root may also be what lies above: data_dir, data_dir/NAME or data_dir/NAME/CONFIG. The set needs a
video, that is a feature Video or a Sequence of Image, and a ClassLabel or a Sequence of them
(multi-label).

The files are read here and not by tfds' as_data_source(): that imports TensorFlow for every set with a
feature Video, and it would decode all frames of a clip where a few are wanted.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError, DecodeError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import tf_example, tfrecord
from jaxvid.data.datasets import _files, _listed
from jaxvid.decode import encoded
from jaxvid.decode.frames import DEFAULT_FPS

# What sets call their splits is their own; these are the usual ones.
SPLITS = ("train", "validation", "test")
FORMATS = ("array_record", "tfrecord")
INFO, FEATURES = "dataset_info.json", "features.json"
_USUAL = {"val": "validation"}

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    video_feature: str = "",
    label_feature: str = "",
    fps: float = DEFAULT_FPS,
) -> DatasetIndex:
    """The records of a split in the order of its files; opened by `Opener`.

    split: a name of the set's own; "val" also finds "validation". `videos` takes root's place when
    given. video_feature, label_feature: which features, where the set has several. fps: frames a
    second, which prepared sets do not tell. A record's path is its file, its id the file's name and
    the number within. Every record is gone through once for its labels: of ArrayRecords that reads
    all there is. max_missing has nothing to tolerate: all files of the split must be there.

    Raises UnknownNameError for a split or feature the set has not, ConfigError when annotations are
    given, DataError for a folder that is no prepared set, files that are missing or damaged.
    """
    _files.refuse_annotations("tfds", annotations)
    folder = _builder_folder(Path(root if videos is None else videos))
    found = _splits(folder)
    split = split if split in found else _USUAL.get(split, split)
    if split not in found:
        raise unknown(f"split of {folder}", split, found)
    features = _features(folder)
    video = _chosen("video_feature", video_feature, features, _is_video)
    label = _chosen("label_feature", label_feature, features, _is_label)
    names = _class_names(folder, label, features[label])
    files = _shards(folder, split)
    records = []
    what, show = f"{folder.parent.name} {split}", len(files) > 1
    for file in progress.bar(files, total=len(files), what=what, unit="file", show=show):
        for number, (place, data) in enumerate(_records(file)):
            labels = _labels(file, number, data, label, len(names))
            extra = {"place": place, "feature": video, "fps": fps}
            records.append(VideoRecord(str(file), f"{file.name}/{number}", labels, extra=extra))
    _log.info("tfds: %s: %d clips, %s, classes by %s", folder, len(records), video, label)
    multilabel = _inner(features[label]) is not features[label]
    return DatasetIndex(tuple(records), names, multilabel=multilabel)


@dataclasses.dataclass(frozen=True)
class Opener:
    """Opens the video of a record of this set; what `ClipSource` takes as open_clip."""

    short_side: int | None = None
    backend: str = "tfds"

    def key(self, record: VideoRecord) -> tuple[str, int, str]:
        """What tells a clip's frames from the others': its file holds many clips."""
        return record.path, record.extra["place"], record.extra["feature"]

    def __call__(self, record: VideoRecord) -> encoded.Reader:
        """Raises DecodeError for a record that is damaged or a frame that is no image."""
        try:
            data = _read(Path(record.path), record.extra["place"])
            feature = tf_example.parse(data)[0].get(record.extra["feature"], memoryview(b""))
            frames = tf_example.byte_strings(feature)
        except (DataError, ValueError) as error:
            raise DecodeError(record.path, None, self.backend, f"{record.id}: {error}") from error
        where = f"{record.path} ({record.id})"
        settings = {"fps": record.extra["fps"], "short_side": self.short_side}
        return encoded.Reader(where, frames, backend=self.backend, **settings)


# --- files of records -------------------------------------------------------------------------------


def _records(file: Path) -> Iterator[tuple[int, Any]]:
    """(where it is, the record) of a file of either format."""
    if _format(file) == "tfrecord":
        yield from tfrecord.scan(file)
        return
    for number in range(_array_record(file).num_records()):
        yield number, _read(file, number)


def _read(file: Path, place: int) -> bytes:
    if _format(file) == "tfrecord":
        return tfrecord.read(file, place)
    try:
        return _array_record(file).read([place])[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{file}: the record {place} cannot be read: {error}") from error


@functools.lru_cache(maxsize=64)
def _array_record(file: Path):
    reader = array_record_module.ArrayRecordReader(str(file), "readahead_buffer_size:0")
    if not reader.ok():  # it does not raise by itself, and says to have no records
        raise DataError(
            f"{file}: the ArrayRecord file cannot be read: it is none, damaged or not there; get it again"
        )
    return reader


def _format(file: Path) -> str:
    return "tfrecord" if ".tfrecord-" in file.name else "array_record"


def _shards(folder: Path, split: str) -> list[Path]:
    """All files of a split; DataError that names those of its count that are missing."""
    for kind in FORMATS:
        files = sorted(folder.glob(f"*-{split}.{kind}-*-of-*"))
        if files:
            count = int(files[0].name.rpartition("-of-")[2])
            stem = files[0].name.rpartition("-of-")[0][: -len("00000")]
            wanted = [f"{stem}{i:05d}-of-{count:05d}" for i in range(count)]
            missing = sorted(set(wanted) - {file.name for file in files})
            if missing:
                raise DataError(
                    f"{folder}: {len(missing)} of {count} files of the split {split} are missing; the "
                    f"first ten: {', '.join(missing[:10])}"
                )
            return files
    raise DataError(
        f"{folder}: no files *-{split}.array_record-… or .tfrecord-…; it holds "
        f"{_files.contents(folder)}. Prepare the set with file_format='array_record'."
    )


# --- what the builder wrote about them --------------------------------------------------------------


def _builder_folder(root: Path) -> Path:
    """The folder that holds dataset_info.json: root itself or the only one below."""
    if (root / INFO).is_file():
        return root
    found = sorted(p.parent for depth in (1, 2, 3) for p in root.glob("*/" * depth + INFO))
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(str(p.relative_to(root)) for p in found[:10])
        raise DataError(
            f"{root}: {len(found)} prepared sets lie there: set data.root to one: {several}"
        )
    raise DataError(
        f"{root}: no {INFO} there or up to three folders below, so it is no set prepared by TensorFlow "
        f"Datasets; it holds {_files.contents(root)}. Where TensorFlow is installed, prepare one by "
        f"tfds.builder(NAME, data_dir={str(root)!r}, file_format='array_record').download_and_prepare()"
    )


def _json(path: Path) -> dict:
    found = _listed.read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object, got {json.dumps(found)[:40]}")
    return found


def _splits(folder: Path) -> list[str]:
    return [entry.get("name", "") for entry in _json(folder / INFO).get("splits", [])]


def _features(folder: Path) -> dict[str, dict]:
    return _json(folder / FEATURES).get("featuresDict", {}).get("features", {})


def _kind(feature: dict) -> str:
    return feature.get("pythonClassName", "").rpartition(".")[2]


def _inner(feature: dict) -> dict:
    """What a Sequence is of; of others themselves."""
    return feature.get("sequence", {}).get("feature", feature)


def _is_video(feature: dict) -> bool:
    return _kind(feature) == "Video" or (
        _kind(feature) == "Sequence" and _kind(_inner(feature)) == "Image"
    )


def _is_label(feature: dict) -> bool:
    return _kind(_inner(feature)) == "ClassLabel"


def _chosen(option: str, asked: str, features: dict[str, dict], fits) -> str:
    """The name of the feature asked for, or of the only one that fits."""
    fitting = [name for name, feature in features.items() if fits(feature)]
    if asked:
        if asked not in fitting:
            raise unknown(f"{option} of the set", asked, fitting)
        return asked
    if len(fitting) == 1:
        return fitting[0]
    kinds = ", ".join(f"{name}: {_kind(f)}" for name, f in sorted(features.items()))
    if fitting:
        raise ConfigError(
            f"the set has several features to choose from: set data.options.{option} to one of "
            f"{', '.join(sorted(fitting))}"
        )
    wanted = "a Video or a Sequence of Image" if fits is _is_video else "a ClassLabel"
    raise DataError(f"the set has no feature that is {wanted}; its features: {kinds or 'none'}")


def _class_names(folder: Path, label: str, feature: dict) -> tuple[str, ...]:
    path = folder / f"{label}.labels.txt"
    if path.is_file():
        return tuple(line for _, line in _listed.read_lines(path))
    count = int(_inner(feature).get("classLabel", {}).get("numClasses", 0))
    return tuple(str(i) for i in range(count))


def _labels(file: Path, number: int, data, label: str, classes: int) -> tuple[int, ...]:
    try:
        context, _ = tf_example.parse(data)
        found = tf_example.int64s(context[label]).tolist() if label in context else []
    except ValueError as error:
        raise DataError(f"{file}: the record {number} is no tf.Example: {error}") from error
    found = sorted({i for i in found if i != -1})  # -1 is tfds' word for "no label"
    wrong = [i for i in found if not 0 <= i < classes]
    if wrong:
        raise DataError(
            f"{file}: the record {number} has {label} {wrong[0]}, expected 0 to {classes - 1}"
        )
    return tuple(found)
