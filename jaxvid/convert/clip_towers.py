"""CLIP's towers in Hugging Face's key names, which its CLIP and X-CLIP models share."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert.apply import ShapeOnly
from jaxvid.convert.layout import LayoutError
from jaxvid.convert.rules import Entry, Rule, Waive, heads_in, heads_out, leaf, linear, norm
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConversionError
from jaxvid.nn.position_table import cubic_weights, resize_weighted

QUICK_GELU = "quick_gelu"  # of CLIP, and all that X-CLIP has
NAMES = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}


def attention(key: str, path: str) -> tuple[Entry, ...]:
    """q_proj, k_proj, v_proj, out_proj."""
    projections = [heads_in(f"{key}.{q}", f"{path}/{name}") for q, name in NAMES.items()]
    return (*sum(projections, ()), *heads_out(f"{key}.out_proj", f"{path}/out"))


def block(key: str, path: str) -> tuple[Entry, ...]:
    """One pre-norm layer."""
    return (
        *attention(f"{key}.self_attn", f"{path}/attention"),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
        *norm(f"{key}.layer_norm{{n:1|2}}", f"{path}/norm{{n}}"),
    )


@dataclasses.dataclass(frozen=True)
class ClassAndMap:
    """A table (1 + places, D) is a row (D,) for the class token and a map (h, w, D) of patches.

    A map of another size is resized bicubically (`resize_bicubic`) from a square one.
    """

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[tuple]) -> list[np.ndarray]:
        (table,), (_, (height, width, _)) = arrays, shapes
        places, side = table[1:], math.isqrt(len(table) - 1)
        if len(places) == height * width:
            return [table[0], places.reshape(height, width, -1)]
        if side * side != len(places):
            raise LayoutError(
                f"{len(places)} places are neither a map of {height}×{width} nor a square one, which "
                "could be resized"
            )
        return [table[0], resize_bicubic(places.reshape(side, side, -1), height, width)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        row, places = arrays
        return [np.concatenate([row[None], places.reshape(-1, places.shape[-1])])]


def resize_bicubic(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, D) -> (height, width, D) as torch's interpolate(mode="bicubic", align_corners=False)."""
    return resize_weighted(table, (height, width), cubic_weights)


POSITION_IDS = Waive(
    "{tower:text_model|vision_model}.embeddings.position_ids", "the numbers 0, 1, 2, …"
)
TEXT = (
    leaf("text_model.embeddings.token_embedding.weight", "text/token_embedding"),
    leaf("text_model.embeddings.position_embedding.weight", "text/position_embedding"),
    *block("text_model.encoder.layers.{i}", "text/block_{i}"),
    *norm("text_model.final_layer_norm", "text/norm"),
    *linear("text_projection", "text_projection"),
)


def vision(pre_norm: str) -> tuple[Entry, ...]:
    """The image tower; pre_norm: what the norm before the blocks is called."""
    embeddings = "vision_model.embeddings"
    positions = ("visual/class_position_embedding", "visual/position_embedding")
    return (
        leaf(f"{embeddings}.class_embedding", "visual/class_token"),
        leaf(
            f"{embeddings}.patch_embedding.weight",
            "visual/patch_embed/kernel",
            "o i h w -> 1 h w i o",
        ),
        Rule((f"{embeddings}.position_embedding.weight",), positions, ClassAndMap()),
        *norm(f"vision_model.{pre_norm}", "visual/norm_pre"),
        *block("vision_model.encoder.layers.{i}", "visual/block_{i}"),
        *norm("vision_model.post_layernorm", "visual/norm"),
        *linear("visual_projection", "visual_projection"),
        leaf("logit_scale", "logit_scale"),
    )


def sections(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(text_config, vision_config), {} where absent.

    Old files also have text_config_dict and vision_config_dict, which count before them.
    """
    return _section(config, "text_config"), _section(config, "vision_config")


def check_activations(config: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises ConversionError for a tower or a prompt with another activation than `known`."""
    text, image = sections(config)
    acts = {
        "text_config.hidden_act": text.get("hidden_act"),
        "vision_config.hidden_act": image.get("hidden_act"),
        "prompt_hidden_act": config.get("prompt_hidden_act"),
    }
    for name, act in acts.items():
        if act not in (None, *known):
            words = " or ".join(map(repr, known))
            raise ConversionError(f"{name} {act!r}: the model has {words} only")


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    old = config.get(f"{name}_dict")
    return dict(old if old is not None else config.get(name) or {})


def tower_arguments(text: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """What both models have in common. Defaults are those of Hugging Face's config classes."""
    width, text_width = image.get("hidden_size", 768), text.get("hidden_size", 512)
    return {
        "width": width,
        "depth": image.get("num_hidden_layers", 12),
        "num_heads": image.get("num_attention_heads", 12),
        "mlp_ratio": image.get("intermediate_size", 3072) / width,
        "patch_size": image.get("patch_size", 32),
        "channels": image.get("num_channels", 3),
        "norm_eps": image.get("layer_norm_eps", 1e-5),
        "text_width": text_width,
        "text_depth": text.get("num_hidden_layers", 12),
        "text_num_heads": text.get("num_attention_heads", 8),
        "text_mlp_ratio": text.get("intermediate_size", 2048) / text_width,
        "text_norm_eps": text.get("layer_norm_eps", 1e-5),
        "vocab_size": text.get("vocab_size", 49408),
        "context_length": text.get("max_position_embeddings", 77),
    }


def tower_config(arguments: Mapping[str, Any], clip: Clip) -> tuple[dict, dict]:
    """(text_config, vision_config): the way back from `tower_arguments`."""
    text = {
        "hidden_size": arguments["text_width"],
        "num_hidden_layers": arguments["text_depth"],
        "num_attention_heads": arguments["text_num_heads"],
        "intermediate_size": round(arguments["text_width"] * arguments["text_mlp_ratio"]),
        "layer_norm_eps": arguments["text_norm_eps"],
        "vocab_size": arguments["vocab_size"],
        "max_position_embeddings": arguments["context_length"],
        "hidden_act": arguments.get("text_activation", QUICK_GELU),
    }
    image = {
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "intermediate_size": round(arguments["width"] * arguments["mlp_ratio"]),
        "layer_norm_eps": arguments["norm_eps"],
        "patch_size": arguments["patch_size"],
        "num_channels": arguments["channels"],
        "image_size": clip[1],
        "hidden_act": arguments.get("activation", QUICK_GELU),
    }
    return text, image


def example_inputs(arguments: Mapping[str, Any], clip: Clip) -> dict[str, ShapeOnly]:
    """Inputs that initialise a model: one clip, and one text where texts are no field of it."""
    inputs = {"video": ShapeOnly((1, *clip), np.dtype("float32"))}
    if not arguments.get("class_texts") and not arguments.get("num_classes"):
        inputs["text_ids"] = ShapeOnly((1, 2), np.dtype("int32"))
    return inputs
