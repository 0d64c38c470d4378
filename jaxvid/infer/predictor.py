"""Labels of video files: decoded, cut and scaled as a checkpoint asks for, several at a time.

model, variables, info = jaxvid.from_pretrained(folder)
classify = fixed_classes(model, variables, info["preprocessing"])
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
import tqdm

from jaxvid.core.batch import FLOW, MASK, ROW, VIDEO
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.pipeline import evaluation_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import NO_FLOW, ClipSource, FileOpener
from jaxvid.data.transform_list import build_transforms
from jaxvid.infer.zero_shot import ZeroShot
from jaxvid.ops.pixels import normalise, normalise_flow, to_float
from jaxvid.ops.views import fold, mean_over_views, mean_probabilities

Batch = Mapping[str, np.ndarray]
Classify = Callable[[Batch], np.ndarray]
CROPS = {1: "centre_crop", 3: "three_crop"}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Of one video: probabilities float32 (K,), or None and what went wrong."""

    path: str
    probabilities: np.ndarray | None
    error: str | None = None

    def top(self, k: int) -> list[tuple[int, float]]:
        """The k most probable classes, (index, probability), the most probable first."""
        if self.probabilities is None:
            raise ValueError(f"{self.path} has no probabilities: {self.error}")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(int(i), float(self.probabilities[i])) for i in order]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read: frames, sizes, views; flow: a method of jaxvid/decode/flow.py, or "none"."""

    sampling: Sampling
    size: int
    short_side: int
    crops: int = 1
    flow: str = NO_FLOW
    decoder: str = "pyav"
    deadline_seconds: float = 30.0


def reading(
    preprocessing: Mapping[str, Any],
    *,
    clips: int = 1,
    crops: int = 1,
    flow: str = NO_FLOW,
    decoder: str = "pyav",
    deadline_seconds: float = 30.0,
) -> Reading:
    """As `info["preprocessing"]` of a checkpoint says; in clips × crops views, averaged.

    Raises ConfigError for preprocessing that lacks num_frames or size, or other crops than 1 or 3.
    """
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
    )
    short_side = preprocessing.get("short_side") or size
    return Reading(sampling, size, short_side, crops, flow, decoder, deadline_seconds)


def fixed_classes(
    model: nn.Module, variables: Any, preprocessing: Mapping[str, Any], dtype=jnp.float32
) -> Classify:
    """Batch of `predict` -> probabilities float32 (B, K), the mean over a clip's views."""
    pixels = _pixels(preprocessing)

    @jax.jit
    def run(variables, arrays):
        inputs = {VIDEO: normalise(to_float(fold(arrays[VIDEO])), pixels, dtype)}
        if FLOW in arrays:
            inputs[FLOW] = normalise_flow(fold(arrays[FLOW]), dtype)
        logits = model.apply(variables, inputs, train=False)["logits"]
        return mean_probabilities(logits, arrays[VIDEO].shape[1])

    return lambda batch: run(variables, {n: batch[n] for n in (VIDEO, FLOW) if n in batch})


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
    how: Reading,
    *,
    batch_size: int = 4,
    threads: int | None = None,
    show: bool = False,
) -> Iterator[Prediction]:
    """One prediction a path, in their order; a file that cannot be read has an error instead.

    paths: videos, or folders of frames. batch_size: videos at a time, fewer where there are fewer. show: a bar of progress
    on stderr. Raises ConfigError for settings that cannot be.
    """
    if not paths:
        raise ConfigError("there are no videos to predict")
    source = _Videos(paths, how)
    size = max(1, min(batch_size, len(paths)))
    batches = evaluation_batches(source, batch_size=size, threads=threads)
    with tqdm.tqdm(
        total=len(paths), desc="predict", unit="video", disable=None if show else True
    ) as bar:
        done = 0
        for batch in batches:
            probabilities = np.asarray(classify(batch))
            rows = range(done, min(done + size, len(paths)))
            for row, found, counts in zip(rows, probabilities, batch[MASK], strict=False):
                error = None if counts else source.errors[row]
                yield Prediction(str(paths[row]), found if counts else None, error)
            bar.update(len(rows))
            done = rows.stop


class _Videos:
    """The source of the pipeline: clips without labels; what cannot be read is kept in `errors`."""

    def __init__(self, paths: Sequence[str], how: Reading):
        records = tuple(VideoRecord(str(path), str(i)) for i, path in enumerate(paths))
        specs = (
            {"name": "short_side_resize", "size": how.short_side},
            {"name": CROPS[how.crops], "size": how.size},
        )
        self._clips = ClipSource(
            DatasetIndex(records, ()),
            sampling=how.sampling,
            size=how.size,
            transforms=build_transforms(specs),
            flow=how.flow,
            open_clip=FileOpener(how.decoder),
            deadline_seconds=how.deadline_seconds,
        )
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
