"""From a config to plain objects: the only reader of a ConfigDict below `main` and `run`."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid.convert import hub
from jaxvid.core import lookup
from jaxvid.core.batch import FLOW, LABEL, MASK, ROW, VIDEO
from jaxvid.core.errors import ConfigError
from jaxvid.core.record import DatasetIndex
from jaxvid.data import text
from jaxvid.data.pipeline import (
    BatchIterator,
    EvaluationBatches,
    evaluation_batches,
    training_batches,
)
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import NO_FLOW, ClipSource
from jaxvid.data.transform_list import build_transforms
from jaxvid.evaluate import reconstruct
from jaxvid.ops import prepare
from jaxvid.ops.tube_mask import num_masked
from jaxvid.ops.views import mean_probabilities
from jaxvid.sharding.hosts import data_host
from jaxvid.sharding.mesh import check_batch_size, make_mesh
from jaxvid.train.optim import make_optimizer
from jaxvid.train.schedule import warmup_then

log = logging.getLogger("jaxvid")


def mesh(c: ConfigDict) -> Mesh:
    """The mesh over all devices, and whether it divides the batches."""
    result = make_mesh(fsdp=c.mesh.fsdp, tensor=c.mesh.tensor)
    parts = c.optim.accumulate_steps
    check_batch_size(c.data.batch_size, result, accumulate=parts, name="data.batch_size")
    check_batch_size(eval_batch_size(c), result, name="eval.batch_size (0 = data.batch_size)")
    return result


def eval_batch_size(c: ConfigDict) -> int:
    """Clips a step of evaluation, over all devices."""
    return c.eval.batch_size or c.data.batch_size


# --- data ---------------------------------------------------------------------------------------


def root(c: ConfigDict) -> Path:
    """Where the data lies."""
    return Path(c.data.root or f"data/{c.data.dataset}").expanduser()


def index(c: ConfigDict, split: str) -> DatasetIndex:
    """The records of a split. Raises DataError when they are not there."""
    module = lookup.module("dataset", c.data.dataset)
    return module.load(root(c), split, **c.data.options.to_dict())


def training_data(c: ConfigDict, records: DatasetIndex, devices: Mesh) -> BatchIterator:
    """The endless, seeded, checkpointable iterator of this host's part of each batch."""
    specs = c.data.train_transforms or ({"name": "random_resized_crop", "size": c.data.size},)
    source = _source(c, records, specs, clips=c.data.train_views, on_error=c.data.on_error)
    host, hosts = data_host(devices)
    return training_batches(
        source,
        batch_size=c.data.batch_size,
        seed=c.run.seed,
        host_index=host,
        host_count=hosts,
        **_reading(c),
    )


def evaluation_data(
    c: ConfigDict, records: DatasetIndex, devices: Mesh, *, clips: int, crops: int
) -> EvaluationBatches:
    """Every record once, in `clips` × `crops` views, this host's part of each batch."""
    crop = "three_crop" if crops == 3 else "centre_crop"
    specs = (
        {"name": "short_side_resize", "size": c.data.size},
        {"name": crop, "size": c.data.size},
    )
    source = _source(c, records, specs, clips=clips, on_error=c.data.on_error)
    host, hosts = data_host(devices)
    return evaluation_batches(
        source, batch_size=eval_batch_size(c), host_index=host, host_count=hosts, **_reading(c)
    )


def _source(
    c: ConfigDict, records: DatasetIndex, specs, *, clips: int, on_error: str
) -> ClipSource:
    return ClipSource(
        records,
        sampling=Sampling(
            kind=c.data.sampling,
            num_frames=c.data.num_frames,
            stride_frames=c.data.stride_frames,
            clips=clips,
        ),
        transforms=build_transforms(specs),
        size=c.data.size,
        flow=c.data.flow,
        decoder=c.data.decoder,
        short_side=c.data.decode_short_side or None,
        deadline_seconds=c.data.deadline_seconds,
        on_error=on_error,
    )


def _reading(c: ConfigDict) -> dict:
    return {
        "threads": c.data.threads or None,
        "workers": c.data.workers,
        "prefetch_batches": c.data.prefetch_batches,
    }


# --- model, and what it is trained for --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Task:
    """What differs between trainings: see train/step.py. `evaluate_step(variables, batch)` returns
    rows of probabilities ("classify") or {name: (sum, weight)} ("masked"); `draw_step` is that of
    evaluate/reconstruct.py, None where nothing is painted; `batch_statistics(variables, inputs, rng)`
    gives batch_stats of these inputs alone, None for a model without batch normalisation."""

    kind: str
    model: nn.Module
    init: Callable[[jax.Array], Any]
    apply: Callable
    prepare: prepare.Prepare
    objective: Callable
    evaluate_step: Callable
    draw_step: Callable | None
    batch_statistics: Callable | None


def name_classes(c: ConfigDict, class_names: Sequence[str]) -> None:
    """Gives a model that compares with texts (field class_texts) the tokens of its classes, in
    model.overrides, by the tokenizer that lies with init.checkpoint; other models stay as they are.

    Says aloud when there is no tokenizer. Raises ConfigError for another number of class_words.
    """
    fields = lookup.module("model", c.model.name).MODULE.__dataclass_fields__
    words = tuple(c.model.class_words) or tuple(class_names)
    if "class_texts" not in fields or c.model.overrides.get("class_texts"):
        return
    if "num_classes" in fields and c.objective.name != "contrast":
        return  # its classes are those of a head
    if len(words) != len(class_names):
        raise ConfigError(
            f"model.class_words has {len(words)} texts for {len(class_names)} classes "
            f"({', '.join(class_names[:5])}): give one for each, in this order"
        )
    folder = hub.resolve(c.init.checkpoint) if c.init.checkpoint else None
    if folder is None or not text.has_tokenizer(folder):
        log.warning(
            "%s: no tokenizer in init.checkpoint=%r: each class is a word without meaning, learned from "
            "scratch; a folder of the Hugging Face hub has one",
            *(c.model.name, c.init.checkpoint),
        )
        return
    variant = lookup.module("model", c.model.name).VARIANTS[c.model.variant]
    length = variant.get("context_length", fields["context_length"].default)
    ids = text.trim(*text.load(folder, context_length=length)(words))
    c.model.overrides.class_texts = tuple(tuple(row) for row in ids.tolist())
    log.info("classes in words: %s", ", ".join(words))


def task(c: ConfigDict, num_classes: int) -> Task:
    """Model, preparation, objective and evaluation step of a config."""
    objective_module = lookup.module("objective", c.objective.name)
    kind = objective_module.TASK
    model = _model(c, num_classes, kind)
    options = c.objective.options.to_dict()
    if kind == "masked":
        options["patch"] = (model.tubelet_size, model.patch_size, model.patch_size)
    objective = objective_module.build(**options)
    clip = jax.ShapeDtypeStruct((1, c.data.num_frames, c.data.size, c.data.size, 3), jnp.float32)
    inputs = {VIDEO: clip}
    if c.data.flow != NO_FLOW:
        inputs[FLOW] = jax.ShapeDtypeStruct((*clip.shape[:-1], 2), jnp.float32)
    if kind == "masked":
        tokens = _grid(c, model)
        inputs["tube_mask"] = jax.ShapeDtypeStruct((1, math.prod(tokens)), jnp.bool_)

    def init(rng):
        zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in inputs.items()}
        return model.init({"params": rng, "dropout": rng}, zeros, train=False)

    def apply(variables, inputs, rng):
        outputs, changed = model.apply(
            variables, inputs, train=True, rngs={"dropout": rng}, mutable=["batch_stats"]
        )
        return outputs, changed.get("batch_stats", variables["batch_stats"])

    statistics = None
    if hasattr(model, "bn_momentum"):
        forgetful = model.clone(bn_momentum=0.0)

        def statistics(variables, inputs, rng):
            _, changed = forgetful.apply(
                variables, inputs, train=True, rngs={"dropout": rng}, mutable=["batch_stats"]
            )
            return changed.get("batch_stats", {})

    training = _prepare(c, model, num_classes, kind, augment=True)
    plain = _prepare(c, model, num_classes, kind, augment=False)
    if kind == "classify":
        evaluate_step = _probabilities_step(model, plain)
    else:
        evaluate_step = _sums_step(model, plain, objective)
    draw_step = None
    if kind == "masked":
        draw_step = reconstruct.make_step(
            functools.partial(model.apply, train=False),
            plain,
            functools.partial(objective_module.reconstruct, **options),
            options["patch"],
        )
    return Task(kind, model, init, apply, training, objective, evaluate_step, draw_step, statistics)


def compute_dtype(c: ConfigDict):
    """What the model computes in on the devices that are there."""
    if c.model.dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(c.model.dtype)


def _model(c: ConfigDict, num_classes: int, kind: str) -> nn.Module:
    module = lookup.module("model", c.model.name)
    overrides = c.model.overrides.to_dict() | {"dtype": compute_dtype(c)}
    model = module.build(num_classes, variant=c.model.variant, **overrides)
    divides = hasattr(model, "patch_size") and not getattr(model, "pads", False)
    grid = _grid(c, model) if divides else None
    if kind != "masked":
        return model
    if grid is None:
        raise ConfigError(
            f"objective.name={c.objective.name!r} masks patches, and model {c.model.name!r} has none; "
            "use model.name='videomae_pretrain'"
        )
    try:
        masked = num_masked(c.objective.mask, grid, c.objective.mask_ratio)
    except ValueError as error:
        raise ConfigError(f"objective.mask_ratio: {error}") from error
    return model.clone(num_visible=math.prod(grid) - masked)


def _grid(c: ConfigDict, model: nn.Module) -> tuple[int, int, int]:
    """Tokens over (time, height, width). Raises ConfigError where patches do not fit."""
    frames, size = c.data.num_frames, c.data.size
    if frames % model.tubelet_size or size % model.patch_size:
        raise ConfigError(
            f"data.num_frames={frames} and data.size={size} must be multiples of the model's "
            f"tubelet of {model.tubelet_size} frames and patch of {model.patch_size} pixels"
        )
    side = size // model.patch_size
    return frames // model.tubelet_size, side, side


def _prepare(c: ConfigDict, model: nn.Module, num_classes: int, kind: str, *, augment: bool):
    common: dict[str, Any] = {
        "statistics": c.data.statistics,
        "dtype": compute_dtype(c),
    }
    if augment:
        common |= {
            "flip_probability": c.data.flip_probability,
            "jitter": tuple(c.data.colour_jitter),
            "greyscale_probability": c.data.greyscale_probability,
        }
    if kind == "masked":
        return prepare.for_masked_pretraining(
            grid=_grid(c, model), mask=c.objective.mask, mask_ratio=c.objective.mask_ratio, **common
        )
    if augment:
        common |= {
            "label_smoothing": c.objective.label_smoothing,
            "erasing_probability": c.data.erasing_probability,
            "mixup_alpha": c.data.mixup_alpha,
            "cutmix_alpha": c.data.cutmix_alpha,
            "mix_probability": c.data.mix_probability,
            "cutmix_share": c.data.cutmix_share,
        }
    return prepare.for_classification(num_classes=num_classes, **common)


def _probabilities_step(model: nn.Module, plain: prepare.Prepare) -> Callable:
    def step(variables, batch):
        inputs, _ = plain(jax.random.key(0), batch)  # no randomness without augmentation
        logits = model.apply(variables, inputs, train=False)["logits"]
        return {
            ROW: batch[ROW],
            MASK: batch[MASK],
            LABEL: batch[LABEL],
            "probabilities": mean_probabilities(logits, batch[VIDEO].shape[1]),
        }

    return step


def _sums_step(model: nn.Module, plain: prepare.Prepare, objective: Callable) -> Callable:
    def step(variables, batch):
        # The same masks at every evaluation, others for each batch: losses can be compared.
        rng = jax.random.fold_in(jax.random.key(0), batch[ROW][0])
        inputs, targets = plain(rng, batch)
        return objective(model.apply(variables, inputs, train=False), targets)

    return step


# --- optimisation ----------------------------------------------------------------------------------


def steps(c: ConfigDict, num_records: int) -> dict[str, int]:
    """total, evaluate_every, warmup: in steps."""
    per_epoch = num_records / c.data.batch_size

    def either(in_steps: int, in_epochs: float) -> int:
        return in_steps or max(1, round(in_epochs * per_epoch)) if in_epochs or in_steps else 0

    total = either(c.run.steps, c.run.epochs)
    if not total:
        raise ConfigError("run.steps and run.epochs are both 0: there is nothing to train")
    warmup = either(c.optim.warmup_steps, c.optim.warmup_epochs)
    if not c.optim.warmup_steps and warmup > total // 2:
        log.warning(
            "optim.warmup_epochs=%g is %d steps, more than half of this run of %d: warming up for %d",
            c.optim.warmup_epochs,
            warmup,
            total,
            total // 10,
        )
        warmup = total // 10
    evaluate_every = either(c.eval.every_steps, c.eval.every_epochs)
    return {"total": total, "evaluate_every": evaluate_every, "warmup": warmup}


def optimiser(c: ConfigDict, model: nn.Module, total_steps: int, warmup_steps: int):
    """(optax transformation without its rate, schedule: step -> rate). What the model says is frozen
    (its property `frozen_paths`) gets no update, as what optim.frozen names."""
    o = c.optim
    peak, end = o.learning_rate, o.end_learning_rate
    if o.scale_to_batch:
        factor = c.data.batch_size / o.scale_to_batch
        log.info(
            "learning rate %g × batch %d / %d = %g",
            peak,
            c.data.batch_size,
            o.scale_to_batch,
            peak * factor,
        )
        peak, end = peak * factor, end * factor
    schedule = warmup_then(
        o.schedule, peak=peak, total_steps=total_steps, warmup_steps=warmup_steps, end=end
    )
    tx = make_optimizer(
        o.name,
        b1=o.b1,
        b2=o.b2,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
        clip_norm=o.clip_norm,
        layer_decay=o.layer_decay,
        frozen=(*o.frozen, *getattr(model, "frozen_paths", ())),
    )
    return tx, schedule
