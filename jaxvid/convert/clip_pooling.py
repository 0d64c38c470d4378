"""CLIP with pooling over frames: Hugging Face's CLIPModel.

A transformer over frames, which CLIP has not, starts as the first blocks of CLIP's text tower, and its
positions as the first of the text's, as in CLIP4Clip and ActionCLIP. A model with a head leaves the
text tower behind. Tables of positions are resized bicubically over the image, as Hugging Face does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert import clip_towers
from jaxvid.convert.clip_towers import POSITION_IDS, QUICK_GELU, TEXT, block, vision
from jaxvid.convert.layout import LayoutError
from jaxvid.convert.rules import Rule, Waive
from jaxvid.convert.source import Clip, Source

HEAD = ("head/{leaf:.+}",)
example_inputs = clip_towers.example_inputs

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FRAMES = 8  # images have none
ACTIVATIONS = (QUICK_GELU, "gelu")
OLD_END = 2  # what configs say whose texts end with their largest id


class _FirstRows:
    """A table (L, D), of which the model takes the first T rows."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[tuple]) -> list[np.ndarray]:
        (table,), (shape,) = arrays, shapes
        if shape[0] > len(table):
            raise LayoutError(
                f"{shape[0]} frames cannot start from {len(table)} positions of words"
            )
        return [table[: shape[0]]]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(arrays)


_TEMPORAL = (
    Rule(
        ("text_model.embeddings.position_embedding.weight",),
        ("temporal/position_embedding",),
        _FirstRows(),
    ),
    *block("text_model.encoder.layers.{i}", "temporal/block_{i}"),
)
_NO_TEXT = "a model with a head has no text tower"
_LEFT = (
    *(Waive(key, _NO_TEXT) for rule in TEXT for key in rule.keys),
    Waive("logit_scale", _NO_TEXT),
)


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    clip_towers.check_activations(config, ACTIVATIONS)
    text, image = clip_towers.sections(config)
    end = text.get("eos_token_id", 49407)
    return {
        "num_classes": 0,
        **clip_towers.tower_arguments(text, image),
        "end_token": None if end == OLD_END else end,
        "features": config.get("projection_dim", 512),
        "pool": "mean",
        "activation": image.get("hidden_act") or QUICK_GELU,
        "text_activation": text.get("hidden_act") or QUICK_GELU,
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    image = clip_towers.sections(config)[1]
    size = image.get("image_size", 224)
    return FRAMES, size, size, image.get("num_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    text, image = clip_towers.tower_config(arguments, clip)
    end = arguments["end_token"]
    return {
        "text_config": {**text, "eos_token_id": OLD_END if end is None else end},
        "vision_config": image,
        "projection_dim": arguments["features"],
    }


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"mean": MEAN, "std": STD, "sampling": "uniform"}


SOURCES = {
    "hf/clip": Source(
        entries=(*vision("pre_layrnorm"), *TEXT, *_TEMPORAL, POSITION_IDS, *_LEFT),
        arguments=_arguments,
        clip=_clip,
        config=_config,
        preprocessing=_preprocessing,
        model_type="clip",
        architectures=("CLIPModel",),
        processor="CLIPImageProcessor",
    )
}
