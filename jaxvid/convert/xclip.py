"""X-CLIP: Hugging Face's XCLIPModel, and CLIP's own checkpoints as what training starts from.

Tables of positions for other sizes are resized bicubically over the image, as Hugging Face does
(interpolate_pos_encoding), and linearly over the frames.
"""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert import clip_towers
from jaxvid.convert.clip_towers import (
    POSITION_IDS,
    QUICK_GELU,
    TEXT,
    attention,
    block,
    vision,
)
from jaxvid.convert.layout import Layout
from jaxvid.convert.positions import Line
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import Entry, Rule, heads_in, heads_out, leaf, linear, norm
from jaxvid.convert.source import Clip, Source, Transfer
from jaxvid.core.errors import ConversionError

HEAD = ()
EXPORT = "hf/xclip"
example_inputs = clip_towers.example_inputs


def _prompt_layer(key: str, path: str) -> tuple[Entry, ...]:
    return (
        *(
            entry
            for theirs, ours in clip_towers.NAMES.items()
            for entry in heads_in(f"{key}.cross_attn.{theirs}", f"{path}/attention/{ours}")
        ),
        *heads_out(f"{key}.cross_attn.proj", f"{path}/attention/out"),
        *norm(f"{key}.norm1", f"{path}/norm1"),
        *norm(f"{key}.norm3", f"{path}/norm2"),  # their norm2 does not exist
        *linear(f"{key}.mlp.0", f"{path}/mlp/fc1"),
        *linear(f"{key}.mlp.3", f"{path}/mlp/fc2"),
    )


_LAYER = "vision_model.encoder.layers.{i}"
_ENTRIES = (
    *vision("pre_layernorm"),
    *linear(f"{_LAYER}.message_fc", "visual/block_{i}/message"),
    *norm(f"{_LAYER}.message_ln", "visual/block_{i}/message_norm"),
    *attention(f"{_LAYER}.message_attn", "visual/block_{i}/message_attention"),
    *TEXT,
    Rule(
        ("mit.position_embedding",),
        ("integration/position_embedding",),
        Line(Layout("1 t d -> t d")),
    ),
    *block("mit.encoder.layers.{i}", "integration/block_{i}"),
    *norm("prompts_visual_layernorm", "prompt_norm"),
    leaf("prompts_visual_projection", "prompt_projection/kernel"),
    leaf("prompts_generator.alpha", "prompt/alpha"),
    *norm("prompts_generator.layernorm", "prompt/norm"),
    *_prompt_layer("prompts_generator.decoder.{i}", "prompt/layer_{i}"),
    POSITION_IDS,
)


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    clip_towers.check_activations(config, (QUICK_GELU,))
    text, image = clip_towers.sections(config)
    features = config.get("projection_dim", 512)
    if image.get("mit_hidden_size", 512) != features:
        raise ConversionError(
            f"vision_config.mit_hidden_size {image.get('mit_hidden_size', 512)} and projection_dim "
            f"{features}: the transformer over frames works on the projected features, so they are equal"
        )
    return {
        **clip_towers.tower_arguments(text, image),
        "features": features,
        "integration_depth": image.get("mit_num_hidden_layers", 1),
        "integration_num_heads": image.get("mit_num_attention_heads", 8),
        "integration_mlp_ratio": image.get("mit_intermediate_size", 2048) / features,
        "prompt_depth": config.get("prompt_layers", 2),
        "prompt_num_heads": config.get("prompt_num_attention_heads", 8),
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    image = clip_towers.sections(config)[1]
    size = image.get("image_size", 224)
    return image.get("num_frames", 8), size, size, image.get("num_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    text, image = clip_towers.tower_config(arguments, clip)
    features = arguments["features"]
    return {
        "text_config": text,
        "vision_config": {
            **image,
            "num_frames": clip[0],
            "mit_hidden_size": features,
            "mit_num_hidden_layers": arguments["integration_depth"],
            "mit_num_attention_heads": arguments["integration_num_heads"],
            "mit_intermediate_size": round(features * arguments["integration_mlp_ratio"]),
        },
        "projection_dim": features,
        "prompt_layers": arguments["prompt_depth"],
        "prompt_num_attention_heads": arguments["prompt_num_heads"],
        "prompt_hidden_act": QUICK_GELU,
    }


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """ImageNet's statistics, not CLIP's; a frame of each of as many equal parts of the video."""
    return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "sampling": "uniform"}


SOURCES = {
    "hf/xclip": Source(
        entries=_ENTRIES,
        arguments=_arguments,
        clip=_clip,
        config=_config,
        preprocessing=_preprocessing,
        model_type="xclip",
        architectures=("XCLIPModel",),
        processor="VideoMAEImageProcessor",
    )
}


_ACTIVATIONS = ("activation", "text_activation")
_OF_POOLING = ("num_classes", "pool", "temporal_", "end_token", "head_dropout", *_ACTIVATIONS)


def _from_clip(arguments: Mapping[str, Any]) -> dict[str, Any]:
    for name in _ACTIVATIONS:
        if arguments[name] != QUICK_GELU:
            raise ConversionError(
                f"{name} {arguments[name]!r}: X-CLIP has {QUICK_GELU!r} only; start it from a CLIP that "
                "has it, or train models/clip_pooling.py"
            )
    return {n: value for n, value in arguments.items() if not n.startswith(_OF_POOLING)}


_NOT_IN_CLIP = "images have no frames that exchange messages"
TRANSFERS = {
    "clip_pooling": Transfer(
        arguments=_from_clip,
        fresh={
            "visual/block_{i}/message{rest:.+}": _NOT_IN_CLIP,
            "integration/{rest:.+}": "X-CLIP's transformer over frames is not CLIP's",
            "prompt{rest:.+}": "CLIP's texts do not read what they are compared with",
        },
        dropped={"temporal/{rest:.+}": "X-CLIP has a transformer over frames of its own"},
    )
}
