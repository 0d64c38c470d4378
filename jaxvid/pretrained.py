"""Models with weights: built, read, converted. What `jaxvid.create_model` and its kin are.

    model = create_model("videomae", variant="B", num_classes=400)
    model, variables, info = from_pretrained("videomae-base-finetuned-kinetics")
    model, variables, info = from_pretrained("videomae-base", num_classes=2)  # a fresh head

`info` is a plain dict, fit for JSON:

    model          its name                     arguments   its keyword arguments
    class_names    list of names, or None       clip        [T, H, W, C] the checkpoint was made for
    task           {"kind": "classify", "multilabel", "multihead" or "masked", "heads": {name: classes},
                   "pooling" of views: "mean" or "max"}, None where the checkpoint does not tell
    preprocessing  see jaxvid/convert/preprocessing.py: size, short_side, mean, std, num_frames,
                   sampling, stride_frames
    assumed        names of the preprocessing that the checkpoint does not tell: the reference's usual
    source         {"path", "arch"}             config      of the reference, in its own terms
    fresh          paths of leaves that are initialised, not loaded: train before use
    waived         {key of the checkpoint that was not needed: why}
"""

import dataclasses
import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid import workdir_weights
from jaxvid.convert import apply, reading, source
from jaxvid.convert.apply import Report
from jaxvid.convert.reading import Checkpoint
from jaxvid.convert.rules import Entry
from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, ConversionError
from jaxvid.model_tree import (
    arguments_of,
    check_fields,
    field_names,
    flat_variables,
    initial_leaves,
    is_scanned,
    is_stacked,
    model_name,
    variable_shapes,
)
from jaxvid.nn.transformer import stack_layers

log = logging.getLogger("jaxvid")


def create_model(
    name: str, *, variant: str | None = None, num_classes: int | None = None, **overrides
) -> nn.Module:
    """A Linen module: a file of jaxvid/models (or a dotted path to your own), a row of its VARIANTS
    (its default when None), `overrides` of any field.

    Raises UnknownNameError for unknown names, ConfigError for unknown fields or when the model
    needs num_classes and there is none.
    """
    module = lookup.module("model", name)
    if variant is not None:
        lookup.variant(name, module.VARIANTS, variant)
        overrides = {"variant": variant, **overrides}
    check_fields(module, name, overrides.keys() - {"variant"})
    needs_classes = (
        inspect.signature(module.build).parameters["num_classes"].default is inspect._empty
    )
    if needs_classes and num_classes is None:
        raise ConfigError(f"model {name!r} needs num_classes=…")
    return module.build(num_classes, **overrides)


def from_pretrained(
    path: str | Path,
    *,
    arch: str | None = None,
    num_classes: int | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    **overrides,
) -> tuple[nn.Module, dict, dict]:
    """(model, variables, info) of a checkpoint.

    path: a Hugging Face folder, or its id on the hub (extra `hub`), a folder of `save_pretrained`,
    a workdir of one's own training (its last checkpoint), or a file of weights (.safetensors, .pth,
    .pt, .bin). arch: for a file, what it is of: a name as "videomae/pretrain", or a model's plain
    name, which finds the reference by the keys; for any checkpoint, the model to start with it
    ("videomae" from a pretraining). config: of the reference, where a file's weights do not tell
    it. num_classes: other than the checkpoint's makes a fresh head, drawn from `seed` and said in
    the log and in info["fresh"]. overrides: fields of the module (drop_path_rate, dtype, …).

    Raises FileNotFoundError, UnknownNameError, ConfigError, and ConversionError listing every
    difference when checkpoint and model do not fit.
    """
    if workdir_weights.is_workdir(path):
        checkpoint = workdir_weights.read(path)
    else:
        checkpoint = reading.from_path(path, arch, config)
    name = _model_to_build(checkpoint, arch, num_classes)
    return from_checkpoint(checkpoint, name, num_classes=num_classes, seed=seed, **overrides)


def from_state_dict(
    state_dict: Mapping[str, Any],
    *,
    arch: str,
    config: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    **overrides,
) -> tuple[nn.Module, dict, dict]:
    """(model, variables, info) of {key: array} under the keys of a reference.

    arch: the reference, as "hf/videomae". config: in the reference's own terms; None: guessed from
    the shapes where the table can. The rest as in `from_pretrained`.
    """
    checkpoint = reading.from_state(state_dict, arch, config)
    name = _model_to_build(checkpoint, arch, num_classes)
    return from_checkpoint(checkpoint, name, num_classes=num_classes, seed=seed, **overrides)


def from_checkpoint(
    checkpoint: Checkpoint, name: str, *, num_classes: int | None = None, seed: int = 0, **overrides
) -> tuple[nn.Module, dict, dict]:
    """(model, variables, info): the model of that name with the checkpoint's weights."""
    module = lookup.module("model", name)
    check_fields(module, name, overrides)
    start = _start(checkpoint, name, num_classes)
    model = module.MODULE(**{**start.arguments, **overrides})
    shapes = variable_shapes(model, start.clip)
    filled, report = apply.load(
        start.state,
        apply.flatten_variables(shapes),
        start.entries,
        fresh=start.fresh,
        subject=_subject(checkpoint, name),
    )
    filled |= initial_leaves(model, start.clip, list(report.fresh), seed)
    variables = apply.unflatten_variables(filled, shapes)
    if is_scanned(model):
        variables = stack_layers(variables)
    report = _with_earlier(report, start, checkpoint)
    for line in report.lines():
        log.log(logging.WARNING if report.fresh else logging.INFO, "%s: %s", name, line)
    return (
        model,
        jax.tree.map(jnp.asarray, variables),
        _info(checkpoint, start.clip, name, model, report),
    )


def load_into(
    model: nn.Module,
    variables: Mapping,
    checkpoint: str | Path | Checkpoint,
    *,
    arch: str | None = None,
) -> tuple[dict, Report]:
    """(variables with the checkpoint's weights in them, report): how training starts from weights.

    model: the module that `variables`, {"params": …, "batch_stats": …} of arrays or shapes, are of.
    Leaves that the checkpoint has not (report.fresh: a head of other classes, the whole head after
    pretraining) stay as given; loaded leaves are numpy arrays of the given dtypes. checkpoint, arch: a
    path and what it is of, as in `from_pretrained`, and raises as that does.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = reading.from_path(checkpoint, arch)
    name = model_name(model)
    start = _start(checkpoint, name, getattr(model, "num_classes", None))
    merged, report = _merge(variables, start, _subject(checkpoint, name))
    return merged, _with_earlier(report, start, checkpoint)


def merge_weights(variables: Mapping, weights: Mapping, *, what: str) -> tuple[dict, Report]:
    """(variables with one's own weights in them, report): from another checkpoint of jaxvid.

    Both are {"params": …, "batch_stats": …}; `variables` may be shapes. Weights of the same model
    fit as they are, with a fresh head where the number of classes differs; those of another model as
    far as a table has a transfer for it (pretraining into a classifier, 2D into 3D). what: where the
    weights are from, for the error. Raises ConversionError listing every difference.
    """
    state, targets = flat_variables(weights), flat_variables(variables)
    other = [
        path
        for path in source.heads(targets)
        if path in state and state[path].shape != targets[path].shape
    ]
    reason = "another number of classes than in the checkpoint"
    ways = [_Start(state, source.NATIVE_ENTRIES, dict.fromkeys(other, reason))]
    for name in lookup.names("conversion"):
        ways += [_Start(state, t.entries, t.fresh) for t in source.transfers(name).values()]
    first_error = None
    for way in ways:
        try:
            return _merge(variables, way, what)
        except ConversionError as error:
            first_error = first_error or error
    raise first_error


def _merge(variables: Mapping, start: "_Start", subject: str) -> tuple[dict, Report]:
    targets = flat_variables(variables)
    filled, report = apply.load(
        start.state, targets, start.entries, fresh=start.fresh, subject=subject
    )
    kept = {path: filled.get(path, leaf) for path, leaf in targets.items()}
    merged = {name: {} for name in variables} | apply.unflatten_variables(kept, variables)
    return (stack_layers(merged) if is_stacked(variables["params"]) else merged), report


def _with_earlier(report: Report, start: "_Start", checkpoint: Checkpoint) -> Report:
    """A head that was fresh when it was exported has not been trained by being loaded."""
    loaded = {path for paths in report.used.values() for path in paths}
    earlier = {path for path in checkpoint.info.get("fresh", ()) if path in loaded}
    reason = "fresh in the checkpoint too"
    return dataclasses.replace(
        report,
        waived={**start.waived, **report.waived},
        fresh={**report.fresh, **dict.fromkeys(earlier, reason)},
    )


@dataclasses.dataclass(frozen=True)
class _Start:
    """Weights, and the table that takes them to the model they shall start; its arguments and clip.
    waived: keys that were left aside before, and why."""

    state: Mapping[str, Any]
    entries: Sequence[Entry]
    fresh: Mapping[str, str]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    clip: source.Clip | None = None
    waived: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _start(checkpoint: Checkpoint, name: str, num_classes: int | None) -> _Start:
    """A checkpoint that shall become the model of that name, with so many classes."""
    start = _Start(
        checkpoint.state,
        checkpoint.entries,
        checkpoint.fresh,
        dict(checkpoint.arguments),
        checkpoint.clip,
    )
    if name != checkpoint.model:
        start = _transferred(checkpoint, name)
    has_classes = _has_classes(name)
    there = start.arguments.get("num_classes")
    if num_classes is None:
        if has_classes and there is None:
            raise ConfigError(
                f"{checkpoint.info['source']['path']} is of {checkpoint.model!r} and brings no "
                f"classes; model {name!r} needs num_classes=…"
            )
        return start
    if not has_classes:
        raise ConfigError(f"model {name!r} has no classes; leave num_classes out")
    fresh = dict(start.fresh)
    if there is not None and there != num_classes:
        reason = f"{there} classes in the checkpoint, {num_classes} asked"
        fresh |= dict.fromkeys(source.head_patterns(name), reason)
    arguments = {**start.arguments, "num_classes": num_classes}
    return dataclasses.replace(start, fresh=fresh, arguments=arguments)


def _transferred(checkpoint: Checkpoint, name: str) -> _Start:
    """The checkpoint's weights as leaves of its own model, on their way into another one."""
    transfers = source.transfers(name)
    if checkpoint.model not in transfers:
        raise ConversionError(
            f"{checkpoint.info['source']['path']}: a checkpoint of {checkpoint.model!r} cannot "
            f"start model {name!r}; known starts: {', '.join([name, *transfers])}"
        )
    transfer = transfers[checkpoint.model]
    module = lookup.module("model", checkpoint.model)
    # An encoder brings no classes: its head, of whatever size, stays behind.
    any_head = {"num_classes": 1} if _has_classes(checkpoint.model) else {}
    model = module.MODULE(**{**any_head, **checkpoint.arguments})
    state, report = apply.load(
        checkpoint.state,
        apply.flatten_variables(variable_shapes(model, checkpoint.clip)),
        checkpoint.entries,
        fresh=checkpoint.fresh,
        subject=_subject(checkpoint, checkpoint.model),
    )
    return _Start(
        state,
        transfer.entries,
        transfer.fresh,
        transfer.arguments(checkpoint.arguments),
        transfer.clip(checkpoint.clip) if transfer.clip else checkpoint.clip,
        report.waived,
    )


def _model_to_build(checkpoint: Checkpoint, arch: str | None, num_classes: int | None) -> str:
    """What `arch` names when that is a model; a classifier when classes are asked of a checkpoint
    whose model has none; else the checkpoint's own."""
    if arch is not None and (arch in lookup.names("model") or "." in arch):
        return arch
    if num_classes is not None and not _has_classes(checkpoint.model):
        able = [n for n in lookup.names("conversion") if checkpoint.model in source.transfers(n)]
        if len(able) == 1:
            return able[0]
    return checkpoint.model


def _has_classes(model: str) -> bool:
    return "num_classes" in field_names(lookup.module("model", model))


def _info(
    checkpoint: Checkpoint, clip: source.Clip, name: str, model: nn.Module, report: Report
) -> dict:
    own_head = not source.heads(report.fresh)
    told = dict(checkpoint.info.get("preprocessing") or {})
    asked = getattr(model, "num_frames", None) or clip[0]
    if asked != checkpoint.clip[0]:  # of images and now of clips, or with tables for other frames
        told["num_frames"] = asked
    clip = (asked, *clip[1:])
    side = getattr(model, "image_size", None) or clip[1]
    if side != clip[1] and told.get("size"):  # with tables for another size
        told["short_side"] = round(told.get("short_side", told["size"]) * side / told["size"])
        told["size"] = side
        clip = (asked, side, side, *clip[3:])
    return {
        **checkpoint.info,
        "preprocessing": told,
        "class_names": checkpoint.info.get("class_names") if own_head else None,
        "task": checkpoint.info.get("task") if own_head else None,
        "model": name,
        "arguments": arguments_of(model),
        "clip": list(clip),
        "fresh": sorted(report.fresh),
        "waived": dict(report.waived),
    }


def _subject(checkpoint: Checkpoint, name: str) -> str:
    where = checkpoint.info["source"]
    return f"{where['path']} ({where['arch']}) to model {name!r}"
