"""Labels of video files: decoded, cut and scaled as a checkpoint asks for, several at a time.

model, variables, info = jaxvid.from_pretrained(folder)
classify = fixed_classes(model, variables, info["preprocessing"], info["task"])
for prediction in predict(classify, paths, reading(info["preprocessing"])):
    prediction.probabilities  # (K,), or None beside prediction.error
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import progress
from jaxvid.core.batch import CONTENT, MASK, ROW, VIDEO
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.computed_flow import FlowOpener
from jaxvid.data.pipeline import evaluation_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import BOX, NO_FLOW, STORED, ClipSource, FileOpener
from jaxvid.data.transform_list import build_transforms
from jaxvid.decode.log_mel import LogMel
from jaxvid.infer.feature_files import FeatureFiles
from jaxvid.infer.zero_shot import ZeroShot
from jaxvid.ops.pixels import normalise, to_float
from jaxvid.ops.prepare import other_inputs
from jaxvid.ops.scores import scores
from jaxvid.ops.views import POOLING, fold, mean_over_views

Batch = Mapping[str, np.ndarray]
Classify = Callable[[Batch], np.ndarray]
CROPS = {1: "centre_crop", 3: "three_crop"}
ONE_LABEL = {"kind": "classify", "heads": {}, "pooling": "mean"}  # of checkpoints that tell no task


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Of one video: probabilities float32 (K,), those of all heads in a row, or None and what went
    wrong."""

    path: str
    probabilities: np.ndarray | None
    error: str | None = None

    def top(self, k: int | None, threshold: float = 0.0) -> list[tuple[int, float]]:
        """The k most probable classes (None: all) of at least `threshold`, (index, probability),
        the most probable first."""
        return best(self._there(), k, threshold)

    def top_of_heads(
        self, heads: Mapping[str, int], k: int | None, threshold: float = 0.0
    ) -> dict[str, list[tuple[int, float]]]:
        """The same of each head by itself: indices are within the head."""
        parts = np.split(self._there(), np.cumsum(list(heads.values()))[:-1])
        return {head: best(part, k, threshold) for head, part in zip(heads, parts, strict=True)}

    def top_actions(self, heads: Mapping[str, int], k: int) -> list[tuple[tuple[int, ...], float]]:
        """The k most probable combinations of one class of each head, (indices, probability): the
        product of its parts' probabilities (Damen et al. 2022, section 4.1)."""
        found = [
            ((), 1.0)
        ]  # no combination of the best k holds a class beyond the best k of its head
        for head in self.top_of_heads(heads, k).values():
            every = [((*known, i), p * q) for known, p in found for i, q in head]
            found = sorted(every, key=lambda item: -item[1])[:k]
        return found

    def _there(self) -> np.ndarray:
        if self.probabilities is None:
            raise ValueError(f"{self.path} has no probabilities: {self.error}")
        return self.probabilities


def best(probabilities: np.ndarray, k: int | None, threshold: float) -> list[tuple[int, float]]:
    """[(index, probability)] of the k largest (None: all) from `threshold` on, the largest first."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(int(i), float(probabilities[i])) for i in order if probabilities[i] >= threshold]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How videos are read: frames, sizes, views; flow: a method of jaxvid/decode/flow.py, or "none";
    flow_to_next: from each frame to the next of the file, as in a store, not of the clip; log_mel: what
    is heard of them; decode_short_side: what the decoder itself resizes to; transforms: before resize
    and crops; box: x1, y1, x2, y2 as shares of the frame, for box_crop."""

    sampling: Sampling
    size: int
    short_side: int
    crops: int = 1
    flow: str = NO_FLOW
    decoder: str = "pyav"
    deadline_seconds: float = 30.0
    log_mel: LogMel | None = None
    decode_short_side: int | None = None
    transforms: tuple[Mapping[str, Any], ...] = ()
    box: tuple[float, ...] | None = None
    flow_to_next: bool = False

    def source(self, paths: Sequence[str]) -> ClipSource:
        """What loads the clips of these files; in rows, as they are given."""
        specs = (
            *self.transforms,
            {"name": "short_side_resize", "size": self.short_side},
            {"name": CROPS[self.crops], "size": self.size},
        )
        extra = {} if self.box is None else {BOX: self.box}
        records = tuple(VideoRecord(str(path), str(i), extra=extra) for i, path in enumerate(paths))
        flow, open_clip = self.flow, FileOpener(self.decoder, self.decode_short_side)
        if self.flow_to_next and flow != NO_FLOW:
            flow, open_clip = STORED, FlowOpener(open_clip, flow)
        return ClipSource(
            DatasetIndex(records, ()),
            sampling=self.sampling,
            size=self.size,
            transforms=build_transforms(specs),
            flow=flow,
            log_mel=self.log_mel,
            open_clip=open_clip,
            deadline_seconds=self.deadline_seconds,
        )


@dataclasses.dataclass(frozen=True)
class FeatureReading:
    """How files of features are read, for models that see those in place of videos."""

    num_frames: int
    feature_size: int
    clips: int = 1
    deadline_seconds: float = 30.0

    def source(self, paths: Sequence[str]) -> FeatureFiles:
        """What loads these files."""
        how = dataclasses.asdict(self)
        return FeatureFiles(tuple(map(str, paths)), **how)


def reading(
    preprocessing: Mapping[str, Any],
    *,
    clips: int = 1,
    crops: int = 1,
    flow: str = NO_FLOW,
    decoder: str = "pyav",
    deadline_seconds: float = 30.0,
    box: Sequence[float] | None = None,
) -> Reading | FeatureReading:
    """As `info["preprocessing"]` of a checkpoint says; in clips × crops views, pooled. box: the
    part of the picture that is looked at, x1, y1, x2, y2 as shares of it.

    Raises ConfigError for preprocessing that lacks num_frames or size, other crops than 1 or 3, a
    model of persons in boxes without a box, and what videos have for a model of features.
    """
    if preprocessing.get("feature_size"):
        if crops != 1 or flow != NO_FLOW or box:
            raise ConfigError(
                "the checkpoint sees features, and crops, flow and boxes are of videos: leave them out"
            )
        return FeatureReading(
            preprocessing["num_frames"], preprocessing["feature_size"], clips, deadline_seconds
        )
    if absent := [n for n in ("num_frames", "size") if preprocessing.get(n) is None]:
        raise ConfigError(f"the checkpoint does not say its {' and '.join(absent)}")
    if crops not in CROPS:
        raise ConfigError(f"crops is {crops}, expected 1 (the centre) or 3 (along the long side)")
    size = preprocessing["size"]
    sampling = Sampling(
        kind=preprocessing.get("sampling") or "uniform",
        num_frames=preprocessing["num_frames"],
        stride_frames=preprocessing.get("stride_frames") or 1,
        clips=clips,
        target_fps=preprocessing.get("target_fps"),
    )
    sound = preprocessing.get("audio")
    return Reading(
        sampling,
        size,
        preprocessing.get("short_side") or size,
        crops,
        flow,
        decoder,
        deadline_seconds,
        LogMel(**sound) if sound else None,
        preprocessing.get("decode_short_side"),
        _transforms(preprocessing, box),
        None if box is None else tuple(box),
        bool(preprocessing.get("flow_to_next")) or preprocessing.get("flow") == STORED,
    )


def _transforms(preprocessing: Mapping[str, Any], box) -> tuple[Mapping[str, Any], ...]:
    specs = tuple(preprocessing.get("transforms") or ())
    cuts = any(spec["name"] == "box_crop" for spec in specs)
    if cuts and box is None:
        raise ConfigError(
            "the checkpoint was trained on parts of the picture (box_crop), such as one person: say which, "
            "--box X1,Y1,X2,Y2 in shares of the picture from its left and top; 0,0,1,1 is all of it"
        )
    return specs if cuts or box is None else ({"name": "box_crop", "margin": 0.0}, *specs)


def fixed_classes(
    model: nn.Module,
    variables: Any,
    preprocessing: Mapping[str, Any],
    task: Mapping[str, Any] = ONE_LABEL,
    dtype=jnp.float32,
) -> Classify:
    """Batch of `predict` -> probabilities float32 (B, K): of `info["task"]`'s kind, those of
    several heads in a row, the views of a clip pooled as the task says. Raises ConfigError for a
    checkpoint of masked pretraining, or one that does not tell its pixels."""
    if task["kind"] == "masked":
        raise ConfigError(
            "the checkpoint was trained to fill in what is masked; fine-tune it first"
        )
    of_kind = scores(task["kind"], tuple(task["heads"].values()))
    pool = POOLING[task["pooling"]]
    pixels = None if preprocessing.get("feature_size") else _pixels(preprocessing)

    @jax.jit
    def run(variables, arrays):
        inputs = other_inputs(arrays, None, dtype)
        if VIDEO in arrays:
            inputs[VIDEO] = normalise(to_float(fold(arrays[VIDEO])), pixels, dtype)
        logits = model.apply(variables, inputs, train=False)["logits"]
        return pool(of_kind(logits), next(iter(arrays.values())).shape[1])

    return lambda batch: run(variables, {n: batch[n] for n in CONTENT if n in batch})


def named_classes(
    zero_shot: ZeroShot,
    labels: Sequence[str],
    templates: Sequence[str],
    preprocessing: Mapping[str, Any],
    dtype=jnp.float32,
) -> Classify:
    """The same for classes given in words (infer/zero_shot.py)."""
    pixels, classifier = _pixels(preprocessing), zero_shot.classifier(labels, templates)
    prepare = jax.jit(lambda video: normalise(to_float(fold(video)), pixels, dtype))

    def run(batch):
        return mean_over_views(classifier(prepare(batch[VIDEO])), batch[VIDEO].shape[1])

    return run


def predict(
    classify: Classify,
    paths: Sequence[str],
    how: Reading | FeatureReading,
    *,
    batch_size: int = 4,
    threads: int | None = None,
    show: bool = False,
) -> Iterator[Prediction]:
    """One prediction a path, in their order; a file that cannot be read has an error instead.

    paths: videos, or folders of frames. batch_size: videos at a time, fewer where there are fewer.
    show: a bar of progress on stderr. Raises ConfigError for settings that cannot be.
    """
    if not paths:
        raise ConfigError("there are no videos to predict")
    source = _Forgiving(how.source(paths))
    size = max(1, min(batch_size, len(paths)))
    batches = evaluation_batches(source, batch_size=size, threads=threads)
    with progress.bar(total=len(paths), what="predict", unit="video", show=show) as bar:
        done = 0
        for batch in batches:
            probabilities = np.asarray(classify(batch))
            rows = range(done, min(done + size, len(paths)))
            for row, found, counts in zip(rows, probabilities, batch[MASK], strict=False):
                error = None if counts else source.errors[row]
                yield Prediction(str(paths[row]), found if counts else None, error)
            bar.update(len(rows))
            done = rows.stop


class _Forgiving:
    """The source of the pipeline: clips without labels; what cannot be read is kept in `errors`."""

    def __init__(self, clips: ClipSource | FeatureFiles):
        self._clips = clips
        self.errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def load(self, row: int, rng: None) -> dict[str, np.ndarray]:
        try:
            return self._clips.load(row, rng)
        except (DecodeError, DataError) as error:
            self.errors[row] = str(error)
            return {**self.padding(), ROW: np.int32(row)}

    def padding(self) -> dict[str, np.ndarray]:
        return self._clips.padding()

    def check_deterministic(self) -> None:
        self._clips.check_deterministic()


def _pixels(preprocessing: Mapping[str, Any]) -> tuple:
    if absent := [n for n in ("mean", "std") if preprocessing.get(n) is None]:
        raise ConfigError(
            f"the checkpoint does not say the {' and '.join(absent)} of its pixels, and another would give "
            "wrong labels; put them into its preprocessor_config.json"
        )
    return tuple(preprocessing["mean"]), tuple(preprocessing["std"])
