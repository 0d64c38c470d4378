"""What the fields of a config may hold: names that exist, numbers in range, and what belongs
together."""

import dataclasses
import inspect
import logging
import re

from ml_collections import ConfigDict

from jaxvid.core import lookup
from jaxvid.core.batch import AUDIO, FLOW
from jaxvid.core.errors import ConfigError, unknown
from jaxvid.core.warn_once import warn_once
from jaxvid.data.balance import HOW as CLASS_SAMPLING
from jaxvid.data.sampling import KINDS, Sampling
from jaxvid.data.source import NO_FLOW, STORED
from jaxvid.data.transform_list import build_transforms
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import log_mel
from jaxvid.ops.erase import SHAPES as ERASING_SHAPES
from jaxvid.ops.mix import CUTS as CUTMIX_CUTS
from jaxvid.ops.pixels import STATISTICS
from jaxvid.ops.views import POOLING

NO_AUDIO = "none"
_TEN_CROPS = 10  # five places, each also mirrored
_log = logging.getLogger("jaxvid")


def at(config: ConfigDict, path: str):
    """What stands at "section.field"."""
    for part in path.split("."):
        config = config[part]
    return config


def wrong_values(c: ConfigDict) -> list[str]:
    """Names and ranges. Every check is run; the messages of all that fail are returned."""
    wrong = []

    def attempt(function, *args):
        try:
            return function(*args)
        except ConfigError as error:
            wrong.append(str(error))
        return None

    attempt(_check_model, c)
    attempt(_check_sampling, c)
    attempt(_check_mode, c)
    attempt(_check_mirrored_views, c)
    attempt(_check_options, "dataset", c.data.dataset, c.data.options, "load", ("root", "split"))
    attempt(_check_options, "objective", c.objective.name, c.objective.options, "build", ())
    attempt(build_transforms, c.data.train_transforms)
    attempt(build_transforms, c.data.eval_transforms)
    for pattern in c.optim.frozen:
        attempt(_check_pattern, "optim.frozen", pattern)
    for pair in c.optim.rate_factors:
        attempt(_check_rate_factor, pair)
    for path, words in _CHOICES.items():
        if at(c, path) not in words:
            wrong.append(str(unknown(path, at(c, path), words)))
    for path in _BELOW_1:
        if not 0 <= at(c, path) < 1:
            wrong.append(f"{path} is {at(c, path)}, expected 0 or more and less than 1")
    for path, (low, high) in _RANGES.items():
        if not low <= at(c, path) <= high:
            wrong.append(f"{path} is {at(c, path)}, expected {low} to {high}")
    if len(c.run.profile_steps) != 2 or any(
        not isinstance(x, int) or x < 0 for x in c.run.profile_steps
    ):
        wrong.append(
            f"run.profile_steps is {c.run.profile_steps}, expected two whole numbers >= 0: the first "
            "step and how many, such as (10, 3)"
        )
    elif c.run.profile_steps[1] and not c.run.profile_steps[0]:
        wrong.append(
            f"run.profile_steps is {c.run.profile_steps}, and steps are counted from 1: (10, 3) are the "
            "steps 10, 11 and 12"
        )
    if len(c.data.colour_jitter) != 4 or any(
        not isinstance(x, int | float) or x < 0 for x in c.data.colour_jitter
    ):
        wrong.append(
            f"data.colour_jitter is {c.data.colour_jitter}, expected four numbers >= 0: "
            "brightness, contrast, saturation, hue"
        )
    return wrong


_CHOICES = {
    "data.sampling": KINDS,
    "data.flow": (NO_FLOW, STORED, *optical_flow.METHODS),
    "data.decoder": ("pyav", "decord"),
    "data.on_error": ("raise", "skip"),
    "data.audio": (NO_AUDIO, "log_mel"),
    "data.erasing_shape": ERASING_SHAPES,
    "data.cutmix_cut": CUTMIX_CUTS,
    "data.class_sampling": tuple(CLASS_SAMPLING),
    "data.statistics": tuple(STATISTICS),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "objective.mask": ("tube", "random", "frame"),
    "objective.class_weights": ("none", "balanced"),
    "optim.name": ("adamw", "sgd"),
    "optim.schedule": ("cosine", "constant"),
    "eval.crops": (1, 3, 10),
    "eval.final_crops": (0, 1, 3, 10),
    "eval.pooling": tuple(POOLING),
    "eval.mode": ("max", "min"),
}
_MANY = 10**12
_BELOW_1 = (
    "objective.label_smoothing",
    "optim.b1",
    "optim.b2",
    "optim.momentum",
    "optim.ema_decay",
)
_RANGES = {
    "run.seed": (0, 2**32 - 1),
    "run.epochs": (0, _MANY),
    "run.steps": (0, _MANY),
    "run.log_every_steps": (1, _MANY),
    "run.nonfinite_limit": (1, _MANY),
    "run.watchdog_seconds": (0, _MANY),
    "data.batch_size": (1, _MANY),
    "data.num_frames": (1, _MANY),
    "data.size": (1, _MANY),
    "data.stride_frames": (1, _MANY),
    "data.train_views": (1, _MANY),
    "data.target_fps": (0, _MANY),
    "data.jitter_frames": (0, _MANY),
    "data.audio_rate": (1, _MANY),
    "data.audio_frames": (1, _MANY),
    "data.audio_mels": (1, _MANY),
    "data.memory_gib": (0, _MANY),
    "data.decode_short_side": (0, _MANY),
    "data.threads": (0, _MANY),
    "data.workers": (0, _MANY),
    "data.prefetch_batches": (1, _MANY),
    "data.deadline_seconds": (0.001, _MANY),
    "data.max_skipped_share": (0, 1),
    "data.flip_probability": (0, 1),
    "data.greyscale_probability": (0, 1),
    "data.blur_probability": (0, 1),
    "data.erasing_probability": (0, 1),
    "data.mixup_alpha": (0, _MANY),
    "data.cutmix_alpha": (0, _MANY),
    "data.mix_probability": (0, 1),
    "data.cutmix_share": (0, 1),
    "objective.mask_ratio": (0, 1),
    "optim.learning_rate": (0, _MANY),
    "optim.weight_decay": (0, _MANY),
    "optim.accumulate_steps": (1, _MANY),
    "optim.scale_to_batch": (0, _MANY),
    "optim.warmup_epochs": (0, _MANY),
    "optim.warmup_steps": (0, _MANY),
    "optim.clip_norm": (0, _MANY),
    "optim.layer_decay": (0, 1),
    "mesh.fsdp": (1, _MANY),
    "mesh.tensor": (1, _MANY),
    "eval.every_epochs": (0, _MANY),
    "eval.every_steps": (0, _MANY),
    "eval.batch_size": (0, _MANY),
    "eval.clips": (1, _MANY),
    "eval.final_clips": (0, _MANY),
    "eval.early_stop_patience": (0, _MANY),
    "eval.precise_bn_batches": (0, _MANY),
    "eval.duplicates_among": (0, _MANY),
    "checkpoint.every_steps": (0, _MANY),
    "checkpoint.keep_last": (1, _MANY),
    "checkpoint.keep_best": (0, _MANY),
    "compile.num_classes": (0, _MANY),
}


def _check_model(c: ConfigDict) -> None:
    module = lookup.module("model", c.model.name)
    if missing := [part for part in ("VARIANTS", "MODULE", "build") if not hasattr(module, part)]:
        raise ConfigError(
            f"model.name={c.model.name!r}: {module.__name__} has no {missing[0]}; a module of a model has "
            "VARIANTS, MODULE and build"
        )
    lookup.variant(c.model.name, module.VARIANTS, c.model.variant)
    fields = {f.name for f in dataclasses.fields(module.MODULE)} - {"parent", "name", "num_classes"}
    for key in c.model.overrides:
        if key not in fields:
            raise unknown(f"field of model {c.model.name!r} (model.overrides)", key, fields)
    if c.eval.precise_bn_batches and "bn_momentum" not in fields:
        raise ConfigError(
            f"eval.precise_bn_batches is {c.eval.precise_bn_batches}, and model {c.model.name!r} has no "
            "batch normalisation: set it to 0"
        )
    if hasattr(module, "example_inputs"):
        inputs = module.example_inputs(c.model.variant)
        sees_flow = FLOW in inputs
        _check_audio(c, AUDIO in inputs)
        _check_flow(c, sees_flow or c.model.overrides.get("stream") == FLOW)


def _check_pattern(field: str, pattern: str) -> None:
    if not isinstance(pattern, str):
        raise ConfigError(f"{field}: {pattern!r} is no regular expression, expected a string")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{field}: {pattern!r} is no regular expression: {error}") from error


def _check_rate_factor(pair) -> None:
    parts = pair if isinstance(pair, tuple | list) else ()
    if len(parts) != 2 or not isinstance(parts[0], str) or not isinstance(parts[1], int | float):
        raise ConfigError(
            f"optim.rate_factors has {pair!r}, expected pairs of a regular expression and a factor, such "
            "as (('head/', 10.0),)"
        )
    _check_pattern("optim.rate_factors", pair[0])


def _check_mode(c: ConfigDict) -> None:
    falls = c.eval.metric == "loss" or c.eval.metric.endswith("_loss")
    if falls != (c.eval.mode == "min"):
        raise ConfigError(
            f"eval.metric={c.eval.metric!r} is better when {'smaller' if falls else 'larger'}: set "
            f"eval.mode={'min' if falls else 'max'!r}, not {c.eval.mode!r}"
        )


def _check_mirrored_views(c: ConfigDict) -> None:
    fields = [name for name in ("crops", "final_crops") if c.eval[name] == _TEN_CROPS]
    if not fields:
        return
    said = f"eval.{fields[0]}={_TEN_CROPS} looks at mirrored views too, and "
    if c.data.flip_swaps:
        raise ConfigError(
            f"{said}data.flip_swaps says that some classes change places in a mirrored clip: their scores "
            f"would be averaged with the other class's; set eval.{fields[0]}=3"
        )
    if c.data.flip_probability == 0:
        warn_once(
            _log,
            f"{said}data.flip_probability is 0, so that the model never saw any: if classes have sides, "
            f"or text is read, set eval.{fields[0]}=3",
        )


def _check_sampling(c: ConfigDict) -> None:
    if c.data.sampling in KINDS:
        Sampling(c.data.sampling, c.data.num_frames, speed_jitter=tuple(c.data.speed_jitter))


def _check_audio(c: ConfigDict, is_heard: bool) -> None:
    if c.data.audio == NO_AUDIO:
        return
    if not is_heard:
        raise ConfigError(
            f"data.audio={c.data.audio!r}, and model {c.model.name!r} hears nothing: set it to {NO_AUDIO!r}"
        )
    log_mel.check(rate=c.data.audio_rate, frames=c.data.audio_frames, mels=c.data.audio_mels)


def _check_flow(c: ConfigDict, is_seen: bool) -> None:
    if is_seen and c.data.flow == NO_FLOW:
        raise ConfigError(
            f"model {c.model.name!r} sees optical flow: set data.flow to "
            f"{' or '.join(map(repr, optical_flow.METHODS))}"
        )
    if not is_seen and c.data.flow != NO_FLOW:
        raise ConfigError(
            f"data.flow={c.data.flow!r}, and model {c.model.name!r} sees no flow: set it to {NO_FLOW!r}"
        )
    if c.data.flow == STORED and not c.data.store:
        raise ConfigError(
            "data.flow='stored' is read from a store: make one with jaxvid data prepare --flow METHOD and "
            "name it in data.store"
        )
    if c.data.flow in optical_flow.METHODS:
        optical_flow.check(c.data.flow, num_frames=c.data.num_frames, size=c.data.size)


def _check_options(kind: str, name: str, options: ConfigDict, function: str, fixed: tuple) -> None:
    parameters = inspect.signature(getattr(lookup.module(kind, name), function)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in options:
        if key not in parameters or key in fixed:
            known = set(parameters) - set(fixed)
            raise unknown(f"option of {kind} {name!r}", key, known)
