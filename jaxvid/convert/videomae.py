"""VideoMAE's classifier: Hugging Face's checkpoints and those of the original repositories.

Hugging Face: VideoMAEForVideoClassification, in the key names of transformers 4 (q_bias, v_bias, as
published) and of 5 (query.bias, key.bias, value.bias). Original: MCG-NJU/VideoMAE modeling_finetune.py
and OpenGVLab/VideoMAEv2, whose folders on the hub (OpenGVLab/VideoMAEv2-Base, …) have the original's
keys and code of their own: hf/videomaev2 with a head, hf/videomaev2_encoder as they are published.
MMAction2's: videomae_mmaction.py. The pretraining checkpoints start the classifier through TRANSFERS.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import videomae_mmaction
from jaxvid.convert.bare import NO_HEAD, bare
from jaxvid.convert.hf_folder import num_labels
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import (
    Entry,
    Waive,
    conv,
    fused_heads,
    heads_in,
    heads_out,
    leaf,
    linear,
    norm,
)
from jaxvid.convert.sizes import count, heads, square
from jaxvid.convert.source import WRAPPERS, Clip, Source, Transfer
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
EXPORT = "hf/videomae"
HF_EPS, TORCH_EPS, ORIGINAL_EPS = 1e-12, 1e-5, 1e-6
EXACT_GELU = ("gelu", "gelu_python")  # two of Hugging Face's words for the same function
KEY_BIAS = "a key bias adds one number to all scores of a query and cancels in the softmax"
SSV2_CLASSES = 174

# --- Hugging Face ---------------------------------------------------------------------------------


def hf_blocks(key: str, path: str) -> tuple[Entry, ...]:
    """The layers of an encoder or a decoder."""
    attention = f"{key}.attention.attention"
    return (
        leaf(f"{attention}.q_bias", f"{path}/attention/query/bias", "(h d) -> h d"),
        leaf(f"{attention}.v_bias", f"{path}/attention/value/bias", "(h d) -> h d"),
        *heads_in(f"{attention}.{{p:query|key|value}}", f"{path}/attention/{{p}}"),
        Waive(f"{attention}.key.bias", KEY_BIAS),
        *heads_out(f"{key}.attention.output.dense", f"{path}/attention/out"),
        *linear(f"{key}.intermediate.dense", f"{path}/mlp/fc1"),
        *linear(f"{key}.output.dense", f"{path}/mlp/fc2"),
        *norm(f"{key}.layernorm_before", f"{path}/norm1"),
        *norm(f"{key}.layernorm_after", f"{path}/norm2"),
    )


HF_ENCODER = (
    *conv("videomae.embeddings.patch_embeddings.projection", "encoder/patch_embed"),
    *hf_blocks("videomae.encoder.layer.{i}", "encoder/block_{i}"),
    *norm("videomae.layernorm", "encoder/norm"),
)


def hf_encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What classifier and autoencoder have in common. Defaults are VideoMAEConfig's."""
    if config.get("hidden_act", "gelu") not in EXACT_GELU:
        raise ConversionError(
            f"hidden_act {config['hidden_act']!r}: the model has 'gelu' (erf) only"
        )
    width = config.get("hidden_size", 768)
    return {
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_ratio": config.get("intermediate_size", 3072) / width,
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "tubelet_size": int(config.get("tubelet_size", 2)),
        "channels": config.get("num_channels", 3),
        "qkv_bias": "qv" if config.get("qkv_bias", True) else "none",
        "norm_eps": config.get("layer_norm_eps", HF_EPS),
        "layer_scale": None,
    }


def _hf_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **hf_encoder_arguments(config),
        "num_classes": num_labels(dict(config)),
        "pool": "mean" if config.get("use_mean_pooling", True) else "token",
        "fc_norm_eps": TORCH_EPS,
        "cosine_attention": False,
    }


def hf_clip(config: Mapping[str, Any]) -> Clip:
    """(T, H, W, C) of the configured input. Raises ConversionError unless it is whole patches."""
    size = square(config.get("image_size", 224), "image_size")
    clip = config.get("num_frames", 16), size, size, config.get("num_channels", 3)
    patch = square(config.get("patch_size", 16), "patch_size")
    return whole_patches(clip, int(config.get("tubelet_size", 2)), patch)


def hf_encoder_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    """The way back from `hf_encoder_arguments` and `hf_clip`."""
    return {
        "image_size": clip[1],
        "num_frames": clip[0],
        "num_channels": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "tubelet_size": arguments["tubelet_size"],
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "intermediate_size": round(arguments["width"] * arguments["mlp_ratio"]),
        "hidden_act": "gelu",
        "layer_norm_eps": arguments["norm_eps"],
        "qkv_bias": arguments["qkv_bias"] != "none",
    }


def _hf_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    mean = arguments["pool"] == "mean"
    return {
        **hf_encoder_config(arguments, clip),
        "use_mean_pooling": mean,
        "num_labels": arguments["num_classes"],
    }


def plain_blocks(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """An equal model without layer scale and key biases, which Hugging Face's VideoMAE has not.

    gamma · (x·W + b) = x·(W·gamma) + b·gamma; a key bias cancels (KEY_BIAS).
    """
    variables = {p: x for p, x in variables.items() if not p.endswith("/attention/key/bias")}
    for path in [p for p in variables if p.endswith(("/gamma_1", "/gamma_2"))]:
        block, _, name = path.rpartition("/")
        branch = {"gamma_1": "attention/out", "gamma_2": "mlp/fc2"}[name]
        gamma = variables.pop(path)
        for part in ("kernel", "bias"):
            scaled = f"{block}/{branch}/{part}"
            variables[scaled] = variables[scaled] * gamma
    bias = "qv" if arguments["qkv_bias"] == "all" else arguments["qkv_bias"]
    return variables, {**arguments, "layer_scale": None, "qkv_bias": bias}


# --- the original repositories --------------------------------------------------------------------


def original_blocks(key: str, path: str) -> tuple[Entry, ...]:
    """The blocks of an encoder or a decoder: one fused projection, biases for q and v beside it."""
    return (
        *fused_heads(f"{key}.attn.qkv", f"{path}/attention"),
        leaf(f"{key}.attn.q_bias", f"{path}/attention/query/bias", "(h d) -> h d"),
        leaf(f"{key}.attn.v_bias", f"{path}/attention/value/bias", "(h d) -> h d"),
        leaf(f"{key}.attn.scale", f"{path}/attention/logit_scale", "h 1 1 -> h"),
        *heads_out(f"{key}.attn.proj", f"{path}/attention/out"),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
        *norm(f"{key}.{{n:norm1|norm2}}", f"{path}/{{n}}"),
        leaf(f"{key}.{{g:gamma_1|gamma_2}}", f"{path}/{{g}}"),
    )


_ORIGINAL_ENCODER = (
    *conv("patch_embed.proj", "encoder/patch_embed"),
    *original_blocks("blocks.{i}", "encoder/block_{i}"),
    *norm("norm", "encoder/norm"),
    *norm("fc_norm", "fc_norm"),
)
_ORIGINAL = (*_ORIGINAL_ENCODER, *linear("head", "head"))

# What the model factories of the repositories are called with, besides qkv_bias. Theirs is the name
# of the patch as well: vit_base_patch16_224, vit_giant_patch14_224.
_NAMED = {
    "small": (384, 12, 6, 4),
    "base": (768, 12, 12, 4),
    "large": (1024, 24, 16, 4),
    "huge": (1280, 32, 16, 4),
    "giant": (1408, 40, 16, 48 / 11),
}
HEADS_OF_WIDTH = {width: heads for width, _, heads, _ in _NAMED.values()}


def named(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config completed by what its "model" (vit_base_patch16_224, …) implies."""
    found = re.search(rf"({'|'.join(_NAMED)})_patch(\d+)_(\d+)", str(config.get("model", "")))
    if not found:
        return dict(config)
    width, depth, heads, ratio = _NAMED[found[1]]
    implied = {"embed_dim": width, "depth": depth, "num_heads": heads}
    implied = {prefix + name: value for name, value in implied.items()}
    geometry = {"img_size": int(found[3]), "patch_size": int(found[2]), "mlp_ratio": ratio}
    return {**geometry, **implied, **config}


def original_block_arguments(
    config: Mapping[str, Any], width: int, *, cosine: bool = False
) -> dict[str, Any]:
    """What classifier and autoencoder have in common. cosine: whether the model has cos_attn."""
    unsupported = ("use_learnable_pos_emb", "qk_scale", "attn_head_dim")
    if not cosine:
        unsupported = ("cos_attn", *unsupported)
    wrong = [name for name in unsupported if config.get(name)]
    if "GELU" not in str(config.get("act_layer", "GELU")):  # a class of torch's, or its name
        wrong.append("act_layer")
    if wrong:
        raise ConversionError(
            f"{', '.join(f'{name}={config[name]!r}' for name in wrong)}: the model has only the form "
            "of the published checkpoints (scaled dot products, fixed sin-cos positions, GELU)"
        )
    return {
        "width": width,
        # The reference cuts the hidden width off to an integer.
        "mlp_ratio": int(width * config.get("mlp_ratio", 4)) / width,
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "tubelet_size": int(config.get("tubelet_size", 2)),
        "channels": config.get("in_chans") or config.get("encoder_in_chans") or 3,
        "qkv_bias": "qv" if config.get("qkv_bias", True) else "none",
        "norm_eps": layer_norm_eps(config),
        "layer_scale": config.get("init_values") or None,
    }


def _original_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    config = named(config)
    arguments = original_block_arguments(config, config.get("embed_dim", 768), cosine=True)
    return {
        **arguments,
        "cosine_attention": bool(config.get("cos_attn", False)),
        "depth": config.get("depth", 12),
        "num_heads": config.get("num_heads", 12),
        "num_classes": config.get("num_classes", 1000),
        "pool": "mean" if config.get("use_mean_pooling", True) else "token",
        "fc_norm_eps": arguments["norm_eps"],
    }


def _original_clip(config: Mapping[str, Any]) -> Clip:
    config = named(config)
    size = square(config.get("img_size", 224), "img_size")
    return config.get("all_frames", 16), size, size, config.get("in_chans", 3)


def _original_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    # norm_layer stays what the repository's factories have: its files carry no epsilon.
    return {
        "img_size": clip[1],
        "all_frames": clip[0],
        "in_chans": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "tubelet_size": arguments["tubelet_size"],
        "embed_dim": arguments["width"],
        "depth": arguments["depth"],
        "num_heads": arguments["num_heads"],
        "mlp_ratio": arguments["mlp_ratio"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "init_values": arguments["layer_scale"] or 0.0,
        "cos_attn": arguments["cosine_attention"],
        "use_mean_pooling": arguments["pool"] == "mean",
        "num_classes": arguments["num_classes"],
    }


def guess_blocks(shapes: Mapping[str, tuple], told: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What the shapes of an encoder's keys (before which stands `key`) tell of its config.

    The number of heads is not among them: `told` has it, or the width is a published one.
    """
    width, channels, tubelet, patch, _ = shapes[f"{key}patch_embed.proj.weight"]
    return {
        "embed_dim": width,
        "in_chans": channels,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "num_heads": heads(width, HEADS_OF_WIDTH, told),
        "depth": count(shapes, rf"{re.escape(key)}blocks\.(\d+)\."),
        "mlp_ratio": shapes[f"{key}blocks.0.mlp.fc1.bias"][0] / width,
        "qkv_bias": f"{key}blocks.0.attn.q_bias" in shapes,
        "init_values": 0.1 if f"{key}blocks.0.gamma_1" in shapes else 0.0,
        "img_size": told.get("input_size", 224),
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **guess_blocks(shapes, told, ""),
        "all_frames": told.get("num_frames", 16),
        "num_classes": shapes["head.weight"][0],
        "use_mean_pooling": "fc_norm.weight" in shapes,
        "cos_attn": "blocks.0.attn.scale" in shapes,
    }


def layer_norm_eps(config: Mapping[str, Any]) -> float:
    """Of 'LayerNorm(eps=1e-6)'; the model factories' 1e-6 when not said."""
    text = str(config.get("norm_layer", ""))
    found = re.search(r"eps=([0-9.eE+-]+)", text)
    if text and not found:
        raise ConversionError(f"norm_layer {text!r}: expected 'LayerNorm(eps=…)'")
    return float(found[1]) if found else ORIGINAL_EPS


def kinetics_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """ImageNet's statistics; dense sampling with stride 4 as on Kinetics, except for the 174 classes
    of Something-Something V2, which VideoMAE samples uniformly over the video."""
    pixels = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    classes = config.get("num_classes") or num_labels(dict(config))
    if classes == SSV2_CLASSES:
        return {**pixels, "sampling": "uniform"}
    return {**pixels, "sampling": "dense", "stride_frames": 4}


_ORIGINAL_SOURCE = Source(
    entries=_ORIGINAL,
    arguments=_original_arguments,
    clip=_original_clip,
    config=_original_config,
    guess=_guess,
    prefixes=(*WRAPPERS, "backbone."),
    preprocessing=kinetics_preprocessing,
)

# --- VideoMAE V2 on the hub -------------------------------------------------------------------------


def _v2_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The original's words for the "model_config" of a folder of VideoMAE V2."""
    said = config.get("model_config")
    if not isinstance(said, Mapping):
        raise ConversionError(
            f"config.json of VideoMAE V2 has a model_config of {said!r}, expected an object with "
            "embed_dim, depth, num_heads, …"
        )
    eps = said.get("layer_norm_eps", ORIGINAL_EPS)
    return {**said, "all_frames": said.get("num_frames", 16), "norm_layer": f"LayerNorm(eps={eps})"}


def _v2_encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _original_arguments(_v2_config(config))
    return {name: x for name, x in arguments.items() if name != "num_classes"}


_V2_FOLDER = Source(
    entries=_ORIGINAL,
    arguments=lambda config: _original_arguments(_v2_config(config)),
    clip=lambda config: _original_clip(_v2_config(config)),
    preprocessing=lambda config: kinetics_preprocessing(_v2_config(config)),
    model_type="VideoMAEv2_Base",  # that of all sizes
    architectures=("VideoMAEv2_Base", "VideoMAEv2"),
)
_V2_ENCODER = dataclasses.replace(
    _V2_FOLDER, entries=_ORIGINAL_ENCODER, arguments=_v2_encoder_arguments, fresh=NO_HEAD
)


# --- the table ------------------------------------------------------------------------------------

_CLASSIFIER = Source(
    entries=(*HF_ENCODER, *norm("fc_norm", "fc_norm"), *linear("classifier", "head")),
    arguments=_hf_arguments,
    clip=hf_clip,
    config=_hf_config,
    prepare_save=plain_blocks,
    preprocessing=kinetics_preprocessing,
    model_type="videomae",
    architectures=("VideoMAEForVideoClassification",),
    processor="VideoMAEImageProcessor",
)
_FC_NORM = {"fc_norm/{leaf:.+}": "the norm of the mean of all tokens comes with the head"}
SOURCES = {
    "hf/videomae": _CLASSIFIER,
    "hf/videomae_encoder": bare(_CLASSIFIER, "VideoMAEModel", {**NO_HEAD, **_FC_NORM}),
    "videomae/finetune": _ORIGINAL_SOURCE,
    "videomaev2/finetune": _ORIGINAL_SOURCE,
    "hf/videomaev2_encoder": _V2_ENCODER,
    "hf/videomaev2": _V2_FOLDER,
    "mmaction/videomae": videomae_mmaction.SOURCE,
}


def _from_pretraining(arguments: Mapping[str, Any]) -> dict[str, Any]:
    own = ("decoder_", "encoder_norm", "num_visible")
    kept = {name: value for name, value in arguments.items() if not name.startswith(own)}
    # The decoder's norm tells whose classifier this becomes: Hugging Face's eps or the original's.
    return {**kept, "pool": "mean", "fc_norm_eps": arguments["decoder_norm_eps"]}


_NOT_IN_CLASSIFIER = "part of the pretraining's decoder, which a classifier has not"
TRANSFERS = {
    "videomae_pretrain": Transfer(
        arguments=_from_pretraining,
        fresh={
            "head/{leaf:.+}": "pretraining has no classes",
            **_FC_NORM,
        },
        dropped={
            "decoder/{leaf:.+}": _NOT_IN_CLASSIFIER,
            "encoder_to_decoder/{leaf:.+}": _NOT_IN_CLASSIFIER,
            "mask_token": _NOT_IN_CLASSIFIER,
            "encoder/norm/{leaf:.+}": "a mean-pool head has its own fc_norm in its place",
        },
    )
}
