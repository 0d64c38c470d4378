"""Any checkpoint jaxvid can read, brought to one form: which model, its arguments, its weights."""

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvid.convert import (
    export_folder,
    flax_file,
    hf_folder,
    hub,
    preprocessing,
    safetensors_file,
    source,
    weights_file,
)
from jaxvid.convert.rules import Entry
from jaxvid.convert.shaped_source import complete_config, rules_for, rules_for_model
from jaxvid.core.errors import ConfigError, ConversionError


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Weights under a reference's keys, with all that is needed to build their model.

    model: name of the model they are of. arguments: its keyword arguments. clip: (T, H, W, C) of
    its input. entries: the table that takes `state` to the model's paths. info: "class_names",
    "preprocessing" (jaxvid/convert/preprocessing.py), "assumed" (names of the preprocessing that
    the checkpoint does not tell), "source" {"path", "arch"}, "config" of the reference. fresh: of its
    source, path pattern -> why.
    """

    model: str
    arguments: Mapping[str, Any]
    clip: source.Clip
    entries: Sequence[Entry]
    state: Mapping[str, Any]
    info: Mapping[str, Any]
    fresh: Mapping[str, str] = dataclasses.field(default_factory=dict)


def from_state(
    state: Mapping[str, Any],
    arch: str,
    config: Mapping[str, Any] | None = None,
    *,
    where: str = "the state dict",
    told: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """key -> array, under the keys of `arch` or, for a model's plain name, of what fits it best.

    config: in the reference's own terms; None: guessed from the shapes where the table can.
    told: preprocessing that the checkpoint states. beside: what lay beside the weights.
    """
    found = source.find(arch, state)
    return _checkpoint(found, state, config, where, told or {}, beside or {})


def from_path(
    path: str | Path, arch: str | None = None, config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """A Hugging Face folder or id, an export of jaxvid (folder or .safetensors), a file of weights,
    or a folder that Flax or Orbax left.

    arch: needed for a file that says nothing of itself, or a folder (of timm) that only holds such
    a file; for other folders it may name the model to start, or a source whose keys the folder has.
    config: of the reference, for a file whose weights do not tell it. Raises FileNotFoundError,
    ConfigError when the arch is needed and absent, ConversionError when the checkpoint cannot be used.
    """
    path = hub.resolve(path)
    if export_folder.is_export(path):
        return _from_export(path)
    if path.is_dir() and hf_folder.is_hf_folder(path):
        return _from_hf(path, arch)
    if not path.is_dir() or flax_file.is_folder(path):
        return _from_file(path, arch, config)
    weights = weights_file.find_in_folder(path)
    if weights is None:
        raise ConversionError(
            f"{path}: neither a Hugging Face folder (config.json with model_type and weights), nor of Flax or "
            f"Orbax, nor an export of jaxvid ({export_folder.DESCRIPTION})"
        )
    return _from_file(weights, arch, config, _told_by_timm(path))


def _from_export(path: Path) -> Checkpoint:
    description = hf_folder.read_json(path / export_folder.DESCRIPTION)
    weights = path / export_folder.WEIGHTS
    if not weights.is_file():
        raise ConversionError(f"{path}: an export without its {export_folder.WEIGHTS}")
    return _from_description(description, safetensors_file.read(weights)[0], path)


def _from_description(description: Mapping, state: Mapping, path: Path) -> Checkpoint:
    told = export_folder.check_description(description, path)
    arguments = {name: tuples(value) for name, value in told["arguments"].items()}
    clip, entries = tuple(told["clip"]), source.NATIVE_ENTRIES
    if told["arch"] != source.NATIVE:
        entries = rules_for_model(source.find(told["arch"]).source, arguments, clip)
    return Checkpoint(
        model=told["model"],
        arguments=arguments,
        clip=clip,
        entries=entries,
        state=state,
        info={
            "class_names": None,
            "assumed": [],
            **told["info"],
            "preprocessing": {n: tuples(v) for n, v in told["info"]["preprocessing"].items()},
            **_origin(path, told["arch"]),
        },
    )


def _from_hf(path: Path, arch: str | None) -> Checkpoint:
    folder = hf_folder.read(path)
    if arch is not None and "/" in arch:
        found = source.find(arch)
    else:
        found = source.find_hf(folder.config, folder.state, str(path))
    return _checkpoint(found, folder.state, folder.config, str(path), folder.preprocessing, {})


def _told_by_timm(path: Path) -> dict[str, Any]:
    config = path / hf_folder.CONFIG
    return preprocessing.from_timm(hf_folder.read_json(config)) if config.is_file() else {}


def _from_file(
    path: Path, arch: str | None, config: Mapping | None, told: Mapping | None = None
) -> Checkpoint:
    state, beside = weights_file.read(path)
    if "jaxvid" in beside:
        return _from_description(json.loads(beside["jaxvid"]), state, path)
    if arch is None:
        raise ConfigError(
            f"{path}: a file of weights does not say what it is of; say arch=…, the name of a model "
            "or one of " + ", ".join(f.arch for f in source.all_sources()) + ", or give the folder "
            "that holds its config.json"
        )
    arguments = beside.get("args")  # of the training script, as argparse has them
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if isinstance(arguments, Mapping):
        beside = {**beside, **arguments}
    return from_state(state, arch, config, where=str(path), told=told, beside=beside)


def _checkpoint(
    found: source.Found,
    state: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    where: str,
    told: Mapping[str, Any],
    beside: Mapping[str, Any],
) -> Checkpoint:
    state = source.strip_all(state, found.source, where)
    shapes = {key: tuple(x.shape) for key, x in state.items()}
    if config is None and found.source.guess is None:
        raise ConfigError(f"{where}: {found.arch} needs config=…, in the reference's own terms")
    with _naming(where):
        if config is None or (found.source.guess and config and config.keys() <= _UNTOLD):
            said = config or {}
            config = {**_guessed(found, shapes, {**beside, **said}), **said}
        config = complete_config(found.source, config, shapes)
        clip = found.source.clip(config)
        arguments = found.source.arguments(config)
        names = hf_folder.class_names(dict(config))
        rows = arguments.get("num_classes")
        if names and rows and len(names) != rows:
            raise ConversionError(
                f"id2label names {len(names)} classes, the head has {rows}: "
                "correct id2label, or take it out (the classes are then numbers)"
            )
    known = dict(found.source.preprocessing(config))
    geometry = {"num_frames": clip[0], "size": clip[1]}
    return Checkpoint(
        model=found.model,
        arguments=arguments,
        clip=clip,
        entries=rules_for(found.source, config),
        state=state,
        info={
            "class_names": names,
            "task": hf_folder.task(config),
            "preprocessing": {"short_side": clip[1], **known, **geometry, **told},
            "assumed": sorted(known.keys() - told.keys()),
            "config": dict(config),
            **_origin(where, found.arch),
        },
        fresh=found.source.fresh,
    )


# What shapes cannot tell: a config of nothing else is one to complete by the shapes.
_UNTOLD = {"num_heads", "num_attention_heads", "encoder_num_heads", "decoder_num_heads"}


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """What a table refuses, with the checkpoint it stands in."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{where}: {error}") from error


def _guessed(found: source.Found, shapes: Mapping[str, tuple], beside: Mapping) -> dict[str, Any]:
    try:
        return found.source.guess(shapes, beside)
    except KeyError as error:
        raise ConversionError(
            f"not a checkpoint of {found.arch}: it has no {error.args[0]!r}. Its {len(shapes)} keys: "
            f"{', '.join(list(shapes)[:5])}, …"
        ) from error


def _origin(path: str | Path, arch: str) -> dict[str, Any]:
    return {"source": {"path": str(path), "arch": arch}}


def tuples(value: Any) -> Any:
    """Lists of JSON as the tuples they were: fields of a module must be hashable."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value
