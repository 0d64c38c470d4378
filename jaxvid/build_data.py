"""From a config to its data: records, what opens and loads them, and batches for training and
evaluation."""

from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid.core import lookup
from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex
from jaxvid.data import balance, store_index
from jaxvid.data.feature_source import FeatureSource
from jaxvid.data.memory import InMemory
from jaxvid.data.pipeline import (
    BatchIterator,
    EvaluationBatches,
    Source,
    evaluation_batches,
    training_batches,
)
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener, OpenClip
from jaxvid.data.store import Store
from jaxvid.data.transform_list import build_transforms
from jaxvid.decode.log_mel import LogMel
from jaxvid.sharding.hosts import data_host

CROPS = {1: "centre_crop", 3: "three_crop", 10: "ten_crop"}


def root(c: ConfigDict) -> Path:
    """Where the data lies."""
    return Path(c.data.root or f"data/{c.data.dataset}").expanduser()


def index(c: ConfigDict, split: str) -> DatasetIndex:
    """The records of a split: of the set itself, or, on a machine that has not got it, those that
    data.store was prepared with. Where the set is, it counts: its labels may have been mended
    since, and the log says if they are others. Raises DataError when the records are not there."""
    load, options = _module(c).load, c.data.options.to_dict()
    if not c.data.store:
        return load(root(c), split, **options)
    store = Path(c.data.store).expanduser()
    kept = {"split": split, "chosen": store_index.choices(load, options), "root": root(c)}
    if not _files_are_here(c):
        return store_index.read(store, dataset=c.data.dataset, **kept)
    try:
        records = load(root(c), split, **options)
    except DataError as error:
        if not store_index.holds(store, split, kept["chosen"]):
            raise
        raise DataError(
            f"{error}\n{store} holds the records of {split!r} and would do, but {root(c)} is there: name a "
            "data.root that is not"
        ) from error
    store_index.warn_if_changed(store, records, **kept)
    return records


def content_of(c: ConfigDict) -> Callable[[str], str | None] | None:
    """Of a video's path, what tells its content from others', where that is not for the files to
    say."""
    return None if _files_are_here(c) or not c.data.store else _store(c).content


def _files_are_here(c: ConfigDict) -> bool:
    """Whether the folder of the videos is there."""
    videos = str(c.data.options.get("videos") or root(c)).partition("{split}")[0]
    return Path(videos).expanduser().exists()


def eval_batch_size(c: ConfigDict) -> int:
    """Clips a step of evaluation, over all devices."""
    return c.eval.batch_size or c.data.batch_size


def class_weights(c: ConfigDict, records: DatasetIndex) -> tuple[float, ...] | None:
    """Of the loss, from the training records; None where every clip weighs the same."""
    return balance.class_weights(records) if c.objective.class_weights == "balanced" else None


def training_source(c: ConfigDict, records: DatasetIndex) -> Source:
    """What loads one training example by its row."""
    specs = c.data.train_transforms or ({"name": "random_resized_crop", "size": c.data.size},)
    return _source(
        c,
        records,
        specs,
        clips=c.data.train_views,
        speed_jitter=tuple(c.data.speed_jitter),
        jitter_frames=c.data.jitter_frames,
    )


def evaluation_source(c: ConfigDict, records: DatasetIndex, *, clips: int, crops: int) -> Source:
    """What loads one evaluation example by its row, in `clips` × `crops` views."""
    specs = (
        {"name": "short_side_resize", "size": c.data.size},
        {"name": CROPS[crops], "size": c.data.size},
    )
    return _source(c, records, (*c.data.eval_transforms, *specs), clips=clips)


def training_data(c: ConfigDict, records: DatasetIndex, devices: Mesh) -> BatchIterator:
    """The endless, seeded, checkpointable iterator of this host's part of each batch."""
    host, hosts = data_host(devices)
    return training_batches(
        training_source(c, records),
        batch_size=c.data.batch_size,
        seed=c.run.seed,
        weights=balance.record_weights(records, c.data.class_sampling),
        host_index=host,
        host_count=hosts,
        **_reading(c),
    )


def evaluation_data(
    c: ConfigDict, records: DatasetIndex, devices: Mesh, *, clips: int, crops: int
) -> EvaluationBatches:
    """Every record once, in `clips` × `crops` views, this host's part of each batch."""
    source = evaluation_source(c, records, clips=clips, crops=crops)
    host, hosts = data_host(devices)
    return evaluation_batches(
        source, batch_size=eval_batch_size(c), host_index=host, host_count=hosts, **_reading(c)
    )


def example(c: ConfigDict, records: DatasetIndex) -> dict:
    """A training example that stands for none, for its names, shapes and dtypes."""
    return training_source(c, records).padding()


def feature_size(c: ConfigDict, records: DatasetIndex) -> int:
    """The numbers of a row of features, found by reading one; 0 of sets that have videos."""
    return training_source(c, records).feature_size if sees_features(c) else 0


def sees_features(c: ConfigDict) -> bool:
    """Whether the set publishes features in place of videos (its module has `read_features`)."""
    return hasattr(_module(c), "read_features")


def _source(c: ConfigDict, records: DatasetIndex, specs, *, clips: int, **jitter) -> Source:
    common = {"deadline_seconds": c.data.deadline_seconds, "on_error": c.data.on_error}
    if sees_features(c):
        read = _module(c).read_features
        return FeatureSource(
            records, read=read, num_frames=c.data.num_frames, clips=clips, **common
        )
    sampling = Sampling(
        kind=c.data.sampling,
        num_frames=c.data.num_frames,
        stride_frames=c.data.stride_frames,
        clips=clips,
        target_fps=c.data.target_fps or None,
        **jitter,
    )
    log_mel = None
    if c.data.audio == "log_mel":
        log_mel = LogMel(c.data.audio_rate, c.data.audio_frames, c.data.audio_mels)
    return ClipSource(
        records,
        sampling=sampling,
        transforms=build_transforms(specs),
        size=c.data.size,
        flow=c.data.flow,
        log_mel=log_mel,
        open_clip=_opener(c, records),
        **common,
    )


def _opener(c: ConfigDict, records: DatasetIndex) -> OpenClip:
    reading = opener(c, records)
    if not c.data.in_memory:
        return reading
    d = c.data
    frames = (d.dataset, str(root(c)), d.store, d.decoder, d.decode_short_side)
    where = (*frames, d.memory_gib)
    if where not in _memories:  # one memory for training and all evaluations, of one limit
        _memories.clear()
        _memories[where] = InMemory(reading, limit_bytes=round(c.data.memory_gib * 2**30))
    return _memories[where]


_memories: dict[tuple, InMemory] = {}


def opener(c: ConfigDict, records: DatasetIndex) -> OpenClip:
    """What opens the videos of these records: the store, or the decoder of files."""
    short_side = c.data.decode_short_side or None
    if c.data.store:
        store = _store(c)
        store.check(records, short_side=short_side)
        return store
    if hasattr(_module(c), "Opener"):  # a set whose videos are no files of their own
        return _module(c).Opener(short_side)
    return FileOpener(c.data.decoder, short_side)


def _store(c: ConfigDict) -> Store:
    return Store(Path(c.data.store).expanduser(), root=root(c))


def _reading(c: ConfigDict) -> dict:
    return {
        "threads": c.data.threads or None,
        "workers": c.data.workers,
        "prefetch_batches": c.data.prefetch_batches,
    }


def _module(c: ConfigDict):
    return lookup.module("dataset", c.data.dataset)
