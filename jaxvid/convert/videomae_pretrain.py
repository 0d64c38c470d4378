"""VideoMAE's masked pretraining: Hugging Face's VideoMAEForPreTraining and the original repository's
modeling_pretrain.py. Blocks and most of the config are those of jaxvid/convert/videomae.py."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvid.convert.apply import ShapeOnly
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import conv, leaf, linear, norm
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import Clip, Source
from jaxvid.convert.videomae import (
    HF_ENCODER,
    TORCH_EPS,
    guess_blocks,
    hf_blocks,
    hf_clip,
    hf_encoder_arguments,
    hf_encoder_config,
    named,
    original_block_arguments,
    original_blocks,
    plain_blocks,
)
from jaxvid.core.errors import ConversionError

HEAD = ()
EXPORT = "hf/videomae_pretrain"
FRAMES = 16  # the original's patch embedding takes no other number

_BETWEEN = (
    leaf("mask_token", "mask_token", "1 1 d -> d"),
    *linear("encoder_to_decoder", "encoder_to_decoder"),
    *norm("decoder.norm", "decoder/norm"),
    *linear("decoder.head", "decoder/head"),
)
_HF = (*HF_ENCODER, *hf_blocks("decoder.decoder_layers.{i}", "decoder/block_{i}"), *_BETWEEN)
_ORIGINAL = (
    *conv("encoder.patch_embed.proj", "encoder/patch_embed"),
    *original_blocks("encoder.blocks.{i}", "encoder/block_{i}"),
    *norm("encoder.norm", "encoder/norm"),
    *original_blocks("decoder.blocks.{i}", "decoder/block_{i}"),
    *_BETWEEN,
)


def example_inputs(arguments: Mapping[str, Any], clip: Clip) -> dict[str, ShapeOnly]:
    """Inputs that initialise the model: one clip and its mask."""
    frames, height, width, _ = clip
    patch = arguments["patch_size"]
    tokens = frames // arguments["tubelet_size"] * (height // patch) * (width // patch)
    return {
        "video": ShapeOnly((1, *clip), np.dtype("float32")),
        "tube_mask": ShapeOnly((1, tokens), np.dtype("bool")),
    }


def _hf_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("decoder_hidden_size", 384)
    return {
        **hf_encoder_arguments(config),
        "encoder_norm": not config.get("use_mean_pooling", True),
        "decoder_width": width,
        "decoder_depth": config.get("decoder_num_hidden_layers", 4),
        "decoder_num_heads": config.get("decoder_num_attention_heads", 6),
        "decoder_mlp_ratio": config.get("decoder_intermediate_size", 1536) / width,
        "decoder_norm_eps": TORCH_EPS,
        "decoder_head_bias": True,
    }


def _hf_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    width = arguments["decoder_width"]
    return {
        **hf_encoder_config(arguments, clip),
        "use_mean_pooling": not arguments["encoder_norm"],
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": arguments["decoder_depth"],
        "decoder_num_attention_heads": arguments["decoder_num_heads"],
        "decoder_intermediate_size": round(width * arguments["decoder_mlp_ratio"]),
    }


def _original_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    config = named(config, prefix="encoder_")
    arguments = original_block_arguments(config, config.get("encoder_embed_dim", 768))
    width = config.get("decoder_embed_dim", arguments["width"] // 2)
    pixels = arguments["tubelet_size"] * arguments["patch_size"] ** 2 * arguments["channels"]
    if config.get("decoder_num_classes", pixels) != pixels:
        raise ConversionError(
            f"decoder_num_classes {config['decoder_num_classes']}: the model paints whole tubelets, "
            f"{pixels} numbers each"
        )
    return {
        **arguments,
        "depth": config.get("encoder_depth", 12),
        "num_heads": config.get("encoder_num_heads", 12),
        "encoder_norm": True,
        "decoder_width": width,
        "decoder_depth": config.get("decoder_depth", 8),
        "decoder_num_heads": config.get("decoder_num_heads", _decoder_heads(width)),
        "decoder_mlp_ratio": int(width * config.get("mlp_ratio", 4)) / width,
        "decoder_norm_eps": arguments["norm_eps"],
        "decoder_head_bias": True,
    }


def _original_clip(config: Mapping[str, Any]) -> Clip:
    size = square(named(config).get("img_size", 224), "img_size")
    return FRAMES, size, size, config.get("encoder_in_chans", 3)


def _original_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "img_size": clip[1],
        "encoder_in_chans": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "tubelet_size": arguments["tubelet_size"],
        "encoder_embed_dim": arguments["width"],
        "encoder_depth": arguments["depth"],
        "encoder_num_heads": arguments["num_heads"],
        "decoder_embed_dim": arguments["decoder_width"],
        "decoder_depth": arguments["decoder_depth"],
        "decoder_num_heads": arguments["decoder_num_heads"],
        "mlp_ratio": arguments["mlp_ratio"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "init_values": arguments["layer_scale"] or 0.0,
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    heads = {"num_heads": told.get("encoder_num_heads") or told.get("num_heads")}
    encoder = guess_blocks(shapes, {**told, **heads}, "encoder.")
    width = shapes["mask_token"][-1]
    return {
        **{name: encoder[name] for name in ("img_size", "patch_size", "tubelet_size", "mlp_ratio")},
        **{name: encoder[name] for name in ("qkv_bias", "init_values")},
        "encoder_in_chans": encoder["in_chans"],
        "encoder_embed_dim": encoder["embed_dim"],
        "encoder_depth": encoder["depth"],
        "encoder_num_heads": encoder["num_heads"],
        "decoder_embed_dim": width,
        "decoder_depth": count(shapes, r"decoder\.blocks\.(\d+)\."),
        "decoder_num_heads": told.get("decoder_num_heads") or _decoder_heads(width),
    }


def _decoder_heads(width: int) -> int:
    """Heads of 64, as published; of 80 in the huge model, whose decoder is 640 wide."""
    return 8 if width == 640 else max(1, width // 64)


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """As the pretraining on Kinetics."""
    pixels = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return {**pixels, "sampling": "dense", "stride_frames": 4}


SOURCES = {
    "hf/videomae_pretrain": Source(
        entries=_HF,
        arguments=_hf_arguments,
        clip=hf_clip,
        config=_hf_config,
        prepare_save=plain_blocks,
        preprocessing=_preprocessing,
        model_type="videomae",
        architectures=("VideoMAEForPreTraining",),
        processor="VideoMAEImageProcessor",
    ),
    "videomae/pretrain": Source(
        entries=_ORIGINAL,
        arguments=_original_arguments,
        clip=_original_clip,
        config=_original_config,
        guess=_guess,
        preprocessing=_preprocessing,
    ),
}
