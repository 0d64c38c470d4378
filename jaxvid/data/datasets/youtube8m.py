"""YouTube-8M: features of six million videos, and several of 3,862 topics for each. No pixels.

S. Abu-El-Haija et al., "YouTube-8M: A Large-Scale Video Classification Benchmark", arXiv 1609.08675
(2016).

    train0000.tfrecord, …, validate0000.tfrecord, …, test0000.tfrecord, …      in root or below
    vocabulary.csv    Index,…,Name,…: the names of the classes; without it they are their numbers

Video-level shards hold mean_rgb (1024,) and mean_audio (128,) of a video; frame-level ones rgb and
audio of one frame a second, up to 300, in 8 bits. What lies there is read: a part of the shards is
a smaller set. There is nothing to decode, crop or listen to: train `models/feature_head.py` on it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import tf_example, tfrecord
from jaxvid.data.datasets import _files, _listed

SPLITS = ("train", "val", "test")
FEATURES = ("rgb", "audio")
NUM_CLASSES = 3862  # since the release of 2018; 3,716 to 4,800 before
VOCABULARY = "vocabulary.csv"
_PREFIXES = {"train": ("train",), "val": ("validate", "val"), "test": ("test",)}
_IDS = ("id", "video_id")  # the second in the first release
_QUANTISED = (-2.0, 2.0)  # the range that the 8 bits of frame-level features span

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    features: Sequence[str] = FEATURES,
    num_classes: int | None = None,
) -> DatasetIndex:
    """The records of one split, shard by shard: multi-label, read by `read_features`.

    root: the folder of shards, at any depth, of one level; `videos` takes its place when given.
    annotations: the vocabulary, else root's vocabulary.csv if there is one. features: which ones, in
    the order in which they are put together: ("rgb", "audio") is 1152 numbers. num_classes: where there
    is no vocabulary, 3,862 if unset. A record's path is its shard, its extra says where in it.
    max_missing: the share of the split's shards, 0 to 1, that may be damaged; they are left out, which
    the log says. How many shards there should be is not known here.

    Raises UnknownNameError for another split or feature, ConfigError for a share outside 0..1,
    DataError when there are no shards of the split, for shards of both levels, repeated ones, and
    more damaged ones than tolerated: all are tried first. Labels outside the classes are such a
    damage.
    """
    if split not in SPLITS:
        raise unknown("split of youtube8m", split, SPLITS)
    for name in features:
        if name not in FEATURES:
            raise unknown("feature of youtube8m", name, FEATURES)
    if not isinstance(max_missing, int | float) or not 0 <= max_missing <= 1:
        raise ConfigError(f"max_missing is {max_missing!r}, expected a share from 0.0 to 1.0")
    base = Path(root if videos is None else videos)
    names = _class_names(Path(root), annotations, num_classes)
    records: dict[str, VideoRecord] = {}
    levels: dict[str, Path] = {}
    shards, damaged = _shards(base, split), []
    show = len(shards) >= 20
    what = f"youtube8m {split}"
    for shard in progress.bar(shards, total=len(shards), what=what, unit="shard", show=show):
        try:
            found = list(_scan(shard, tuple(features), len(names)))
        except DataError as error:
            damaged.append(str(error))
            continue
        for record in found:
            levels.setdefault(record.extra["level"], shard)
            first = records.setdefault(record.id, record)
            if first is not record and first.extra["level"] == record.extra["level"]:
                raise DataError(
                    f"{shard}: the video {record.id} is in {first.path} already; is a shard there twice?"
                )
    _refuse_or_say(damaged, len(shards), max_missing)
    if len(levels) > 1:
        raise DataError(
            f"{base}: {levels['video']} holds features of whole videos, {levels['frame']} of frames; "
            "set data.root to the folder of one of the two"
        )
    level = "".join(levels) or "no"
    _log.info("youtube8m: %d videos of %d shards, %s level", len(records), len(shards), level)
    return DatasetIndex(tuple(records.values()), names, multilabel=True)


def read_features(record: VideoRecord) -> np.ndarray:
    """float32 (T, D) of a record: its features side by side; T is 1 at video level, else its frames.

    Frame-level bytes become numbers as the publisher's code makes them: 4/255 · byte - 2 + 4/512.
    Raises DataError for a damaged record or one without these features.
    """
    place = record.extra["offset"]
    data = tfrecord.read(record.path, place)
    try:
        context, sequences = tf_example.parse(data)
        parts = [_feature(name, context, sequences) for name in record.extra["features"]]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"its features have {[len(part) for part in parts]} frames")
    except (ValueError, KeyError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"{record.path}: the record {record.id} at byte {place} cannot be used: {reason}"
        ) from error
    return np.concatenate(parts, axis=1)


def _feature(name: str, context: dict, sequences: dict) -> np.ndarray:
    if not sequences:
        return tf_example.floats(context[f"mean_{name}"])[None]  # (D,) -> (1, D)
    low, high = _QUANTISED
    frames = [b"".join(tf_example.byte_strings(f)) for f in tf_example.features(sequences[name])]
    if len({len(frame) for frame in frames}) != 1:
        raise ValueError(f"{name} has frames of {sorted({len(frame) for frame in frames})} numbers")
    stored = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
    scale = (high - low) / 255
    return stored.astype(np.float32) * np.float32(scale) + np.float32(low + (high - low) / 512)


# --- the index --------------------------------------------------------------------------------------


def _refuse_or_say(damaged: Sequence[str], shards: int, max_missing: float) -> None:
    if not damaged:
        return
    said = f"youtube8m: {len(damaged)} of {shards} shards cannot be used; the first ten:\n  "
    said += "\n  ".join(damaged[:10])
    if len(damaged) > max_missing * shards or len(damaged) == shards:
        raise DataError(
            f"{said}\nThat is a share of {len(damaged) / shards:.4f}, tolerated are {max_missing} "
            "(data.options.max_missing)"
        )
    _log.warning("%s\nThey are left out", said)


def _scan(shard: Path, features: tuple[str, ...], classes: int):
    """The records of one shard."""
    for place, data in tfrecord.scan(shard):
        try:
            context, sequences = tf_example.parse(data)
            name = _identity(context)
            labels = tf_example.int64s(context["labels"]).tolist() if "labels" in context else []
        except ValueError as error:
            raise DataError(
                f"{shard}: the record at byte {place} is no example of YouTube-8M: {error}"
            ) from error
        wrong = [label for label in labels if not 0 <= label < classes]
        if wrong:
            raise DataError(
                f"{shard}: the record {name} at byte {place} has label {wrong[0]}, expected 0 to "
                f"{classes - 1}; give the vocabulary of this release (data.options.annotations) or "
                "data.options.num_classes"
            )
        level = "frame" if sequences else "video"
        extra = {"offset": place, "level": level, "features": features}
        yield VideoRecord(str(shard), name, tuple(sorted(set(labels))), extra=extra)


def _identity(context: dict) -> str:
    for key in _IDS:
        if key in context:
            return tf_example.byte_strings(context[key])[0].decode()
    raise ValueError(f"it has no {' or '.join(_IDS)} but {', '.join(sorted(context)) or 'nothing'}")


def _shards(base: Path, split: str) -> list[Path]:
    found = sorted(p for p in base.rglob("*.tfrecord") if p.name.startswith(_PREFIXES[split]))
    if found:
        return found
    raise DataError(
        f"{base}: no shards of the {split} split there, files named "
        f"{' or '.join(p + '*.tfrecord' for p in _PREFIXES[split])}, at any depth; it holds "
        f"{_files.contents(base)}. The shards are downloaded by the publisher's script from "
        "research.google.com/youtube8m; a part of them is enough."
    )


def _class_names(root: Path, annotations, num_classes: int | None) -> tuple[str, ...]:
    path = root / VOCABULARY if annotations is None else Path(annotations)
    if annotations is None and not path.is_file():
        return tuple(str(i) for i in range(num_classes or NUM_CLASSES))
    names: dict[int, str] = {}
    for line, row in _listed.read_csv(path, header=("Index", "Name")):
        index = _listed.whole_number(row["Index"], "Index", path, line)
        names[index] = row["Name"].strip() or str(index)
    if sorted(names) != list(range(len(names))):
        raise DataError(
            f"{path}: the column Index has {len(names)} numbers from {min(names)} to {max(names)}, "
            "expected each from 0 on once"
        )
    return tuple(names[i] for i in range(len(names)))
