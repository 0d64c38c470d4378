"""A workdir of one's own training as a checkpoint, for `from_pretrained`, `convert` and prediction."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.convert import source
from jaxvid.convert.apply import flatten_variables
from jaxvid.convert.reading import Checkpoint, tuples
from jaxvid.core import lookup
from jaxvid.core.errors import CheckpointError, DataError
from jaxvid.core.places import Place, as_given
from jaxvid.data.source import STORED
from jaxvid.data.store_format import Settings
from jaxvid.ops.pixels import statistics

UNUSED = "none"  # data.flow, data.audio
_WHERE_SET = {  # name in the preprocessing: field of data
    "target_fps": "target_fps",
    "decode_short_side": "decode_short_side",
    "transforms": "eval_transforms",
}


def is_workdir(path: str | PathLike) -> bool:
    """Whether training left its config and checkpoints here: in a folder, gs://… or s3://…"""
    path = as_given(path, "checkpoint")
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def read(path: str | PathLike, step: str = "last") -> Checkpoint:
    """The checkpoint of a workdir: "last" or a number. Weights are the moving average where one was
    kept. Raises CheckpointError when there is none, or when classes.json is missing."""
    path = as_given(path, "checkpoint")
    config = json.loads((path / "config.json").read_text())
    classes = path / "classes.json"
    if not classes.is_file():
        raise CheckpointError(f"{path}: classes.json is missing, so the classes have no names")
    names = list(json.loads(classes.read_text()).values())
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        number = checkpoints.which(step)
        weights = checkpoints.restore_weights(number)
    model, data = config["model"], config["data"]
    module = lookup.module("model", model["name"])
    arguments = lookup.variant(model["name"], module.VARIANTS, model["variant"])
    arguments |= {name: tuples(value) for name, value in model["overrides"].items()}
    if "num_classes" in module.MODULE.__dataclass_fields__:
        arguments["num_classes"] = 0 if arguments.get("class_texts") else len(names)  # of a head
    task = _task(path, config)
    return Checkpoint(
        model=model["name"],
        arguments=arguments,
        clip=_clip(data, task),
        entries=source.NATIVE_ENTRIES,
        state=flatten_variables(weights),
        info={
            "class_names": names,
            "task": {n: task[n] for n in ("kind", "heads", "pooling")},
            "preprocessing": _preprocessing(data, task["feature_size"]),
            "assumed": [],
            "source": {"path": f"{path}, step {number}", "arch": source.NATIVE},
            "config": config,
        },
    )


def _task(path: Place, config: Mapping[str, Any]) -> dict[str, Any]:
    """{"kind", "heads", "feature_size"} of task.json, which older workdirs lack, and how views are
    pooled."""
    name = config["objective"]["name"]
    task = {"kind": lookup.module("objective", name).TASK, "heads": {}, "feature_size": 0}
    if (path / "task.json").is_file():
        task = json.loads((path / "task.json").read_text())
    return {**task, "pooling": config["eval"].get("pooling", "mean")}


def _clip(data: Mapping[str, Any], task: Mapping[str, Any]) -> tuple[int, ...]:
    if task["feature_size"]:
        return data["num_frames"], task["feature_size"]
    return data["num_frames"], data["size"], data["size"], 3


def _preprocessing(data: Mapping[str, Any], feature_size: int) -> dict[str, Any]:
    """What is done to a file until the model has it; what is not used is left out."""
    if feature_size:
        return {"num_frames": data["num_frames"], "feature_size": feature_size}
    mean, std = statistics(data["statistics"])
    told = {
        "size": data["size"],
        "short_side": data["size"],
        "mean": mean,
        "std": std,
        "num_frames": data["num_frames"],
        "sampling": data["sampling"],
        "stride_frames": data["stride_frames"],
    }
    if data.get("audio", UNUSED) != UNUSED:
        told["audio"] = {name: data[f"audio_{name}"] for name in ("rate", "frames", "mels")}
    if data.get("flow", UNUSED) != UNUSED:
        told["flow"] = data["flow"]
    for name, field in _WHERE_SET.items():
        if data.get(field):
            told[name] = tuples(data[field])
    return told | _of_store(data) if told.get("flow") == STORED else told


def _of_store(data: Mapping[str, Any]) -> dict[str, Any]:
    """How the flow of a store was computed: its method and the size of its frames, where the store is
    here to tell."""
    try:
        settings = Settings.read(Path(data["store"]).expanduser())
    except (DataError, OSError):
        return {}
    return {
        "flow": settings.flow,
        "flow_to_next": True,
        "decode_short_side": settings.short_side,
    }
