"""A workdir of one's own training as a checkpoint, for `from_pretrained`, `convert` and prediction."""

import json
from pathlib import Path

from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.convert import source
from jaxvid.convert.apply import flatten_variables
from jaxvid.convert.reading import Checkpoint, tuples
from jaxvid.core import lookup
from jaxvid.core.errors import CheckpointError
from jaxvid.ops.pixels import statistics


def is_workdir(path: str | Path) -> bool:
    """Whether training left its config and checkpoints here."""
    path = Path(path)
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def read(path: str | Path, step: str = "last") -> Checkpoint:
    """The checkpoint of a workdir: "last" or a number. Weights are the moving average where one was
    kept. Raises CheckpointError when there is none, or when classes.json is missing."""
    path = Path(path)
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
        arguments["num_classes"] = len(names)
    mean, std = statistics(data["statistics"])
    return Checkpoint(
        model=model["name"],
        arguments=arguments,
        clip=(data["num_frames"], data["size"], data["size"], 3),
        entries=source.NATIVE_ENTRIES,
        state=flatten_variables(weights),
        info={
            "class_names": names,
            "preprocessing": {
                "size": data["size"],
                "short_side": data["size"],
                "mean": mean,
                "std": std,
                "num_frames": data["num_frames"],
                "sampling": data["sampling"],
                "stride_frames": data["stride_frames"],
            },
            "assumed": [],
            "source": {"path": f"{path}, step {number}", "arch": source.NATIVE},
            "config": config,
        },
    )
