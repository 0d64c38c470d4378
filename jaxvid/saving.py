"""Models with weights, written: folders for `from_pretrained` and transformers, files, state dicts."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from jaxvid.convert import apply, export_folder, safetensors_file, source, torch_file, writing
from jaxvid.core.errors import ConfigError, ConversionError
from jaxvid.core.files import plain
from jaxvid.data import text
from jaxvid.model_tree import (
    arguments_of,
    is_scanned,
    misfits,
    model_name,
    table_of,
    unstacked,
)

log = logging.getLogger("jaxvid")


def save_pretrained(
    path: str | Path,
    model: nn.Module,
    variables: Mapping,
    info: Mapping,
    *,
    arch: str | None = None,
) -> str:
    """Writes a folder that `from_pretrained` reads, and `transformers` too where it has the model.

    variables: {"params": …, …}, arrays. info: of `from_pretrained`, or {"preprocessing": …,
    "class_names": …} of one's own; preprocessing needs num_frames, size, mean and std; "fresh" is
    kept, so empty it after training; the tokenizer of a model of texts is copied from info["source"].
    arch: whose keys the weights get, which is returned; None: Hugging Face's where it has such a
    model, else "jaxvid" (said in the log where only some of the model's options are in the way).
    Written whole or not at all. Raises FileExistsError when the folder holds anything but an earlier
    export, ConfigError when info lacks the preprocessing or the variables are not the model's at its
    clip, ConversionError when `arch` cannot express the model.
    """
    try:
        named = arch or getattr(table_of(model_name(model)), "EXPORT", source.NATIVE)
        made, description = _written(model, variables, info, named)
    except ConversionError as error:
        if arch is not None:
            raise
        log.warning("%s: written under jaxvid's own keys, for jaxvid alone: %s", path, error)
        named = source.NATIVE
        made, description = _written(model, variables, info, named)
    config = writing.hf_config(made, named, info)
    export_folder.write(path, description, made.state, config, _tokenizer(model, info))
    return named


def save_weights(
    path: str | Path, model: nn.Module, variables: Mapping, info: Mapping, *, arch: str
) -> None:
    """Writes one file of weights under the keys of `arch` ("videomae/finetune", "jaxvid", …).

    path: .safetensors, which also tells `from_pretrained` all it needs, or .pth (needs torch),
    where the weights lie under "model" as the original repositories have them. Raises ConfigError
    for other names and as `save_pretrained`, ConversionError when the reference cannot express the
    model.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ConfigError(f"{path}: a file of weights is named .safetensors, .pth or .pt")
    made, description = _written(model, variables, info, arch)
    with export_folder.new_file(path) as file:
        if path.suffix == ".safetensors":
            safetensors_file.write(
                file, made.state, {source.NATIVE: json.dumps(plain(description))}
            )
        else:
            torch_file.write(file, made.state)


def to_state_dict(
    model: nn.Module, variables: Mapping, *, arch: str, clip: source.Clip = (16, 224, 224, 3)
) -> dict[str, np.ndarray]:
    """{key: array} under the keys of a reference: the way back from `from_state_dict`.

    Raises ConversionError when `arch` is of another model or cannot express this one.
    """
    return _to_state(model, variables, arch, clip).state


def _tokenizer(model: nn.Module, info: Mapping) -> list[Path]:
    """The files of the tokenizer that lies where the weights came from."""
    origin = info.get("source", {}).get("path")
    return text.files(origin) if origin and hasattr(model, "class_texts") else []


def _written(model, variables, info, arch) -> tuple[writing.Written, dict]:
    """(what is written, content of jaxvid.json)"""
    clip = _clip_of(model, info)
    _check_fit(model, variables, clip)
    made = _to_state(model, variables, arch, clip)
    name = model_name(model)
    return made, export_folder.describe(name, arch, made.arguments, clip, info)


def _check_fit(model: nn.Module, variables: Mapping, clip: source.Clip) -> None:
    """Raises ConfigError, naming a few, for variables that the model has not at this clip."""
    wrong = misfits(model, variables, clip)
    if wrong:
        raise ConfigError(
            f"{len(wrong)} variables are not those of the model {model_name(model)!r} for clips of "
            f"{'×'.join(map(str, clip))}; nothing was written. Give the model, variables and "
            "info['preprocessing'] of one training or `from_pretrained`."
            + "".join(f"\n    {line}" for line in wrong[:6] + ["…"] * (len(wrong) > 6))
        )


def _to_state(model, variables, arch, clip) -> writing.Written:
    variables = jax.tree.map(np.asarray, dict(variables))
    flat = apply.flatten_variables(unstacked(variables) if is_scanned(model) else variables)
    return writing.to_state(model_name(model), arguments_of(model), flat, arch, clip)


def _clip_of(model: nn.Module, info: Mapping) -> source.Clip:
    told = info.get("preprocessing") or {}
    if told.get("feature_size"):
        return told["num_frames"], told["feature_size"]
    absent = [name for name in ("num_frames", "size", "mean", "std") if told.get(name) is None]
    if absent:
        raise ConfigError(
            f"info['preprocessing'] lacks {', '.join(absent)}: what a checkpoint expects of its "
            "pixels travels with it and cannot be guessed later"
        )
    size = told["size"]
    return told["num_frames"], size, size, getattr(model, "channels", 3)
