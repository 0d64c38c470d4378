"""From a config to plain objects: the only reader of a ConfigDict below `main` and `run`."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid import build_data
from jaxvid.config_values import NO_AUDIO
from jaxvid.convert import hub
from jaxvid.core import lookup
from jaxvid.core.batch import AUDIO, FEATURES, FLOW, LABEL, MASK, ROW, VIDEO
from jaxvid.core.errors import ConfigError
from jaxvid.core.record import DatasetIndex
from jaxvid.data import text
from jaxvid.data.source import NO_FLOW
from jaxvid.evaluate import reconstruct
from jaxvid.nn.class_texts import symbols
from jaxvid.ops import prepare
from jaxvid.ops.flip import swap_table
from jaxvid.ops.scores import scores
from jaxvid.ops.tube_mask import num_masked
from jaxvid.ops.views import POOLING
from jaxvid.sharding.mesh import batch_sharding, check_batch_size, make_mesh
from jaxvid.train.optim import make_optimizer
from jaxvid.train.schedule import warmup_then
from jaxvid.train.step import make_train_step

log = logging.getLogger("jaxvid")


def mesh(c: ConfigDict) -> Mesh:
    """The mesh over all devices, and whether it divides the batches."""
    result = make_mesh(fsdp=c.mesh.fsdp, tensor=c.mesh.tensor)
    parts = c.optim.accumulate_steps
    check_batch_size(c.data.batch_size, result, accumulate=parts, name="data.batch_size")
    check_batch_size(
        build_data.eval_batch_size(c), result, name="eval.batch_size (0 = data.batch_size)"
    )
    return result


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

    Says aloud when there is no tokenizer: the tokens are then nn/class_texts.py's `symbols`. Raises
    ConfigError for another number of class_words.
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
        c.model.overrides.class_texts = symbols(len(words), _field(c, "vocab_size"))
        return
    ids = text.trim(*text.load(folder, context_length=_field(c, "context_length"))(words))
    c.model.overrides.class_texts = tuple(tuple(row) for row in ids.tolist())
    log.info("classes in words: %s", ", ".join(words))


def _field(c: ConfigDict, name: str) -> Any:
    """What the model's field will be."""
    module = lookup.module("model", c.model.name)
    default = module.MODULE.__dataclass_fields__[name].default
    return {name: default, **module.VARIANTS[c.model.variant], **c.model.overrides}[name]


def task_of(c: ConfigDict, records: DatasetIndex) -> Task:
    """What is trained on these records, with all that the model and the loss take from them."""
    name_classes(c, records.class_names)
    return task(
        c,
        records.num_classes,
        class_names=records.class_names,
        heads=records.heads,
        class_weights=build_data.class_weights(c, records),
        feature_size=build_data.feature_size(c, records),
    )


def task(
    c: ConfigDict,
    num_classes: int,
    *,
    class_names: Sequence[str] = (),
    heads: Mapping[str, int] | None = None,
    class_weights: Sequence[float] | None = None,
    feature_size: int = 0,
) -> Task:
    """Model, preparation, objective and evaluation step of a config.

    Of the data set: class_names, for data.flip_swaps; heads and their sizes, where it has several;
    class_weights of the loss; feature_size, the numbers of a row, where it has features and no video.
    """
    objective_module = lookup.module("objective", c.objective.name)
    kind = objective_module.TASK
    model = _model(c, num_classes, kind)
    options = c.objective.options.to_dict()
    if kind == "masked":
        options["patch"] = (model.tubelet_size, model.patch_size, model.patch_size)
    if kind == "multihead":
        options["heads"] = dict(heads or {})
    if class_weights is not None:
        options["class_weights"] = class_weights
    objective = objective_module.build(**options)
    inputs = _inputs(c, feature_size)
    if kind == "masked":
        tokens = _grid(c, model)
        inputs["tube_mask"] = jax.ShapeDtypeStruct((1, math.prod(tokens)), jnp.bool_)

    def init(rng):
        zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in inputs.items()}
        return model.init({"params": rng, "dropout": rng}, zeros, train=False)

    _check_fields(c, init)

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

    labels = _Labels(kind, num_classes, tuple(class_names), dict(heads or {}))
    training = _prepare(c, model, labels, augment=True)
    plain = _prepare(c, model, labels, augment=False)
    if kind == "masked":
        evaluate_step = _sums_step(model, plain, objective)
    else:
        of_kind = scores(kind, tuple(labels.heads.values()))
        evaluate_step = _probabilities_step(model, plain, of_kind, POOLING[c.eval.pooling])
    draw_step = None
    if kind == "masked":
        draw_step = reconstruct.make_step(
            functools.partial(model.apply, train=False),
            plain,
            functools.partial(objective_module.reconstruct, **options),
            options["patch"],
        )
    return Task(kind, model, init, apply, training, objective, evaluate_step, draw_step, statistics)


def _inputs(c: ConfigDict, feature_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What the model is initialised with, one clip."""

    def floats(*shape):
        return jax.ShapeDtypeStruct((1, c.data.num_frames, *shape), jnp.float32)

    if feature_size:
        return {FEATURES: floats(feature_size)}
    inputs = {VIDEO: floats(c.data.size, c.data.size, 3)}
    if c.data.flow != NO_FLOW:
        inputs[FLOW] = floats(c.data.size, c.data.size, 2)
    if c.data.audio != NO_AUDIO:
        shape = (1, c.data.audio_frames, c.data.audio_mels)
        inputs[AUDIO] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return inputs


def compute_dtype(c: ConfigDict):
    """What the model computes in on the devices that are there."""
    if c.model.dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(c.model.dtype)


def _check_fields(c: ConfigDict, init: Callable) -> None:
    """Raises ConfigError where the model's fields do not fit together, which it says itself."""
    try:
        jax.eval_shape(init, jax.eval_shape(jax.random.key, 0))  # touches no device
    except (ValueError, ZeroDivisionError) as error:
        fields = ", ".join(f"{k}={v!r}" for k, v in c.model.overrides.items())
        raise ConfigError(
            f"model {c.model.name!r}, variant {c.model.variant!r}, cannot be built"
            f"{' with model.overrides ' + fields if fields else ''}: {error}"
        ) from error


def _model(c: ConfigDict, num_classes: int, kind: str) -> nn.Module:
    module = lookup.module("model", c.model.name)
    overrides = c.model.overrides.to_dict() | {"dtype": compute_dtype(c)}
    model = module.build(num_classes, variant=c.model.variant, **overrides)
    divides = hasattr(model, "patch_size") and not getattr(model, "pads", False)
    grid = _grid(c, model) if divides else None
    if kind != "masked":
        if hasattr(model, "num_visible"):
            raise ConfigError(
                f"model {c.model.name!r} fills in masked patches and has no classes; "
                f"objective.name={c.objective.name!r} needs them: pretrain with objective.name='mae', or "
                "take model.name='videomae' and what was pretrained as init.checkpoint"
            )
        return model
    if grid is None or not hasattr(model, "num_visible"):
        raise ConfigError(
            f"objective.name={c.objective.name!r} masks patches, and model {c.model.name!r} predicts none; "
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


@dataclasses.dataclass(frozen=True)
class _Labels:
    """What is told apart: the kind of training, the classes, and the heads of a set that has
    several."""

    kind: str
    num_classes: int
    names: tuple[str, ...]
    heads: Mapping[str, int]


def _prepare(c: ConfigDict, model: nn.Module, labels: _Labels, *, augment: bool):
    look: dict[str, Any] = {"statistics": c.data.statistics, "dtype": compute_dtype(c)}
    if augment:
        look |= {
            "flip_probability": c.data.flip_probability,
            "jitter": tuple(c.data.colour_jitter),
            "greyscale_probability": c.data.greyscale_probability,
            "blur_probability": c.data.blur_probability,
            "colour_per_frame": c.data.colour_per_frame,
        }
    if labels.kind == "masked":
        return prepare.for_masked_pretraining(
            grid=_grid(c, model), mask=c.objective.mask, mask_ratio=c.objective.mask_ratio, **look
        )
    of_labels = {"num_classes": labels.num_classes}
    if labels.kind == "multilabel":
        of_labels["multilabel"] = True
    elif labels.heads:
        of_labels["heads"] = labels.heads
    if not augment:
        return prepare.for_classification(**of_labels, **look)
    if c.data.flip_swaps:
        of_labels["flip_swap"] = _flip_swap(c, labels)
    return prepare.for_classification(
        **of_labels,
        **look,
        label_smoothing=c.objective.label_smoothing,
        erasing_probability=c.data.erasing_probability,
        erasing_shape=c.data.erasing_shape,
        mixup_alpha=c.data.mixup_alpha,
        cutmix_alpha=c.data.cutmix_alpha,
        mix_probability=c.data.mix_probability,
        cutmix_share=c.data.cutmix_share,
        cutmix_cut=c.data.cutmix_cut,
    )


def _flip_swap(c: ConfigDict, labels: _Labels):
    if labels.heads:
        raise ConfigError(
            "data.flip_swaps: a set with several heads has no flipped classes; use ()"
        )
    try:
        return swap_table(labels.names, c.data.flip_swaps)
    except ValueError as error:
        raise ConfigError(f"data.flip_swaps: {error}") from error


def _probabilities_step(
    model: nn.Module, plain: prepare.Prepare, of_kind: Callable, pool: Callable
) -> Callable:
    def step(variables, batch):
        inputs, _ = plain(jax.random.key(0), batch)  # no randomness without augmentation
        logits = model.apply(variables, inputs, train=False)["logits"]
        views = next(batch[name].shape[1] for name in (VIDEO, FEATURES) if name in batch)
        labels = {name: x for name, x in batch.items() if name.startswith(LABEL)}
        probabilities = pool(of_kind(logits), views)
        return {ROW: batch[ROW], MASK: batch[MASK], **labels, "probabilities": probabilities}

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


def frozen(c: ConfigDict, model: nn.Module) -> tuple[str, ...]:
    """Regular expressions of parameters that do not learn: what optim.frozen names, and what the model
    says (its property `frozen_paths`)."""
    return (*c.optim.frozen, *getattr(model, "frozen_paths", ()))


def optimiser(c: ConfigDict, model: nn.Module, total_steps: int, warmup_steps: int):
    """(optax transformation without its rate, schedule: step -> rate)"""
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
        frozen=frozen(c, model),
        rate_factors=tuple(tuple(pair) for pair in o.rate_factors),
    )
    return tx, schedule


def train_step(c: ConfigDict, task: Task, tx, schedule: Callable, mesh: Mesh) -> Callable:
    """(state, batch) -> (state, sums), to be jitted; tx, schedule: of `optimiser`."""
    return make_train_step(
        task.apply,
        task.objective,
        tx,
        task.prepare,
        schedule,
        accumulate=c.optim.accumulate_steps,
        ema_decay=c.optim.ema_decay,
        frozen=frozen(c, task.model),
        rows=batch_sharding(mesh),
    )
