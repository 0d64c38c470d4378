"""Two-stream networks: no published weights of their own; ImageNet's ResNets start both streams.

The temporal stream's first kernel is the mean of the image's over red, green and blue, for each of the
2·L channels of flow (Wang et al. 2016, Temporal Segment Networks: cross-modality pre-training).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvid.convert import inflate
from jaxvid.convert.apply import ShapeOnly
from jaxvid.convert.resnet import transfer
from jaxvid.convert.source import Clip

STREAMS = ("spatial", "temporal")
HEAD = ("head/{leaf:.+}", "{stream:spatial|temporal}_head/{leaf:.+}")
SOURCES = {}
TRANSFERS = {
    "resnet": dataclasses.replace(
        transfer(
            *("spatial_head", "temporal_head", "head", "fuse"),
            adapt=inflate.adapt_to_flow,
            frames=10,
        ),
        copies=tuple(
            (f"{collection}backbone/{{leaf:.+}}", f"{collection}{stream}/{{leaf}}")
            for collection in ("", "batch_stats/")
            for stream in STREAMS
        ),
    )
}


def example_inputs(arguments: Mapping[str, Any], clip: Clip) -> dict[str, ShapeOnly]:
    """One clip and its flow, of at least one stack whatever the checkpoint was made for."""
    frames = max(clip[0], arguments["flow_stack"])
    return {
        "video": ShapeOnly((1, frames, *clip[1:]), np.dtype("float32")),
        "flow": ShapeOnly((1, frames, *clip[1:3], 2), np.dtype("float32")),
    }
