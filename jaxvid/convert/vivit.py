"""ViViT: Hugging Face's checkpoints (model 1) and those of the original code, scenic (models 1 to 4).

Hugging Face: VivitForVideoClassification, in the key names of transformers 4. scenic:
google-research/scenic, projects/vivit, checkpoints of Flax (jaxvid/convert/flax_file.py); its
config is `config.model` of a run, its clip `config.dataset_configs`, or either told by the shapes.
Image ViTs start all four through TRANSFERS.

Tables of positions for other frames and sizes are resized at load: linear along time, rows and columns
(jaxvid/convert/position_row.py), as scenic does; Hugging Face's own code has no way for clips.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import vivit_scenic
from jaxvid.convert.bare import bare
from jaxvid.convert.hf_folder import num_labels
from jaxvid.convert.inflate import inflate
from jaxvid.convert.layout import LayoutError
from jaxvid.convert.position_row import ResizedGrid
from jaxvid.convert.rules import Entry, Rule, Waive, conv, heads_in, heads_out, leaf, linear, norm
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.source import Clip, Transfer
from jaxvid.convert.vivit_scenic import ENCODER, SELF_ATTENTION, SIZE, SPACETIME, table_rule
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
EXPORT = "hf/vivit"
FRAMES = 32  # of the published checkpoints

# --- Hugging Face ---------------------------------------------------------------------------------

_ACTIVATIONS = {  # Hugging Face's word -> the model's; the first of equals is written
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
}


def _hf_entries(grid: tuple[int, ...] | None) -> tuple[Entry, ...]:
    key, path = "vivit.encoder.layer.{i}", "encoder/block_{i}"
    attention = f"{key}.attention.attention"
    return (
        *conv("vivit.embeddings.patch_embeddings.projection", "patch_embed"),
        leaf("vivit.embeddings.cls_token", "encoder/class_token", "1 1 d -> d"),
        table_rule("vivit.embeddings.position_embeddings", "encoder", grid, token=True),
        *heads_in(f"{attention}.{{p:query|key|value}}", f"{path}/attention/{{p}}"),
        *heads_out(f"{key}.attention.output.dense", f"{path}/attention/out"),
        *linear(f"{key}.intermediate.dense", f"{path}/mlp/fc1"),
        *linear(f"{key}.output.dense", f"{path}/mlp/fc2"),
        *norm(f"{key}.layernorm_before", f"{path}/norm1"),
        *norm(f"{key}.layernorm_after", f"{path}/norm2"),
        *norm("vivit.layernorm", "encoder/norm"),
        *linear("classifier", "head"),
    )


def _hf_rules(config: Mapping[str, Any]) -> tuple[Entry, ...]:
    patch = _tubelet(config)
    return _hf_entries(tuple(n // p for n, p in zip(_hf_clip(config)[:3], patch, strict=True)))


def _tubelet(config: Mapping[str, Any]) -> tuple[int, int, int]:
    t, h, w = config.get("tubelet_size", (2, 16, 16))
    if h != w:
        raise ConversionError(f"tubelet_size {[t, h, w]}: the model has square patches only")
    return t, h, w


def _hf_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are VivitConfig's."""
    activation = config.get("hidden_act", "gelu_fast")
    if activation not in _ACTIVATIONS:
        raise ConversionError(
            f"hidden_act {activation!r}: the model has {', '.join(_ACTIVATIONS)} only"
        )
    tubelet, patch, _ = _tubelet(config)
    width = config.get("hidden_size", 768)
    return {
        "num_classes": num_labels(dict(config)),
        "attention": SPACETIME,
        "pool": "token",
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_ratio": config.get("intermediate_size", 3072) / width,
        "patch_size": patch,
        "tubelet_size": tubelet,
        "sampled_frames": None,
        "channels": config.get("num_channels", 3),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
        "activation": _ACTIVATIONS[activation],
        "norm_eps": config.get("layer_norm_eps", 1e-6),
    }


def _hf_clip(config: Mapping[str, Any]) -> Clip:
    size = config.get("image_size", SIZE)
    clip = config.get("num_frames", FRAMES), size, size, config.get("num_channels", 3)
    return whole_patches(clip, *_tubelet(config)[:2])


def _hf_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    words = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        "image_size": clip[1],
        "num_frames": clip[0],
        "num_channels": arguments["channels"],
        "tubelet_size": [arguments["tubelet_size"], *[arguments["patch_size"]] * 2],
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "intermediate_size": round(arguments["width"] * arguments["mlp_ratio"]),
        "hidden_act": words[arguments["activation"]],
        "layer_norm_eps": arguments["norm_eps"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "num_labels": arguments["num_classes"],
    }


# --- the table ------------------------------------------------------------------------------------


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels in [-1, 1], every second frame, a centre crop of 224 from 256 (scenic's configs)."""
    side = _side(config) * 8 // 7
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return {**pixels, "sampling": "dense", "stride_frames": 2, "short_side": side}


def _side(config: Mapping[str, Any]) -> int:
    return config.get("image_size") or config.get("crop_size") or SIZE


def _said_in_full(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """Fields that mean "as the other one" with the other one's value."""
    full = {
        f"temporal_{name}": arguments[f"temporal_{name}"] or arguments[name]
        for name in ("num_heads", "mlp_ratio")
    }
    return variables, {**arguments, **full}


_SCENIC_ENTRIES = tuple(
    dict.fromkeys(
        entry
        for kind in (SPACETIME, ENCODER, SELF_ATTENTION)
        for entry in vivit_scenic.entries(kind, kind != SELF_ATTENTION, (1, 1, 1), False)
    )
)

_CLASSIFIER = ShapedSource(
    entries=_hf_entries(None),
    arguments=_hf_arguments,
    clip=_hf_clip,
    config=_hf_config,
    preprocessing=_preprocessing,
    model_type="vivit",
    architectures=("VivitForVideoClassification",),
    processor="VivitImageProcessor",
    rules=_hf_rules,
)
SOURCES = {
    "hf/vivit": _CLASSIFIER,
    "hf/vivit_encoder": bare(_CLASSIFIER, "VivitModel"),
    "scenic/vivit": ShapedSource(
        entries=_SCENIC_ENTRIES,
        arguments=vivit_scenic.arguments_of,
        clip=vivit_scenic.clip_of,
        config=vivit_scenic.config_of,
        guess=lambda shapes, told: vivit_scenic.complete({}, shapes),
        prepare_save=_said_in_full,
        prefixes=(),
        preprocessing=_preprocessing,
        complete=vivit_scenic.complete,
        rules=vivit_scenic.rules_of,
    ),
}


# --- starts -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Start(Transfer):
    """A transfer by these rules."""

    rules: tuple[Rule, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (*self.rules, *(Waive(path, reason) for path, reason in self.dropped.items()))


@dataclasses.dataclass(frozen=True)
class _CentralFrame:
    """A kernel of images, (1, p, p, C, D), in the central frame of tubelets (t, p, p, C, D)."""

    def load(self, arrays, shapes):
        (kernel,), (shape,) = arrays, shapes
        try:
            return [inflate(kernel[0], shape, "centre")]
        except ConversionError as error:
            raise LayoutError(str(error)) from error

    def save(self, arrays):
        return [arrays[0].sum(axis=0, keepdims=True)]


_FIELDS = (
    *("width", "depth", "num_heads", "mlp_ratio", "patch_size", "channels", "qkv_bias", "pool"),
    *("activation", "norm_eps"),
)
_TABLE = "position_embedding"
_NEW = "of clips; image models have nothing to start it from"
_NO_TOKEN = "models 3 and 4 have no class token"


def _image_rules(encoder: str) -> tuple[Rule, ...]:
    """From an image ViT's encoder to the encoder over space, or over space and time."""
    return (
        Rule((f"encoder/{_TABLE}",), (f"{encoder}/{_TABLE}",), ResizedGrid()),
        leaf(f"encoder/{{rest:(?!{_TABLE}$).+}}", f"{encoder}/{{rest}}"),
    )


TRANSFERS = {
    # Section 3.4 of the paper: kernels in the central frame, positions repeated over time. With
    # temporal_init="zeros" model 3 starts as the image model, as there.
    "vit": _Start(
        arguments=lambda image: {name: image[name] for name in _FIELDS if name in image},
        fresh={
            "head/{leaf:.+}": "the classes of images are not those of clips",
            "temporal_encoder/{leaf:.+}": _NEW,
            "encoder/block_{i}/{part:temporal_norm|temporal_attention}/{leaf:.+}": _NEW,
        },
        dropped={
            "head/{leaf:.+}": "the image classifier's own head",
            "encoder/class_token": _NO_TOKEN,
            "encoder/class_position_embedding": _NO_TOKEN,
        },
        clip=lambda image: (FRAMES, *image[1:]),
        rules=(
            Rule(("patch_embed/kernel",), ("patch_embed/kernel",), _CentralFrame()),
            leaf("patch_embed/bias", "patch_embed/bias"),
            *_image_rules("encoder"),
            *_image_rules("spatial_encoder"),
        ),
    ),
    # One's own weights, for clips of other frames and size.
    "vivit": _Start(
        arguments=dict,
        fresh={},
        rules=(
            Rule((f"{{of:.+}}/{_TABLE}",), (f"{{of}}/{_TABLE}",), ResizedGrid()),
            leaf(f"{{path:(?!.*/{_TABLE}$).+}}", "{path}"),
        ),
    ),
}
