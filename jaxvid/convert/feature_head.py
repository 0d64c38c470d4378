"""The head on features has no published weights that are read here; its input is no clip of video."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvid.convert.apply import ShapeOnly

HEAD = ("head/{leaf:.+}", "gate/{leaf:.+}", "expert/{leaf:.+}")
SOURCES = {}


def example_inputs(arguments: Mapping[str, Any], clip: tuple[int, int]) -> dict[str, ShapeOnly]:
    """The features of one video; clip: its frames, and the numbers of each."""
    return {"features": ShapeOnly((1, *clip), np.dtype("float32"))}
