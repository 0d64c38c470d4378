"""MViT of PySlowFast, versions 1 and 2; the config is that of its YAML files, as nested dicts.

Of MViTv2-B and -L it has the only published video weights. A checkpoint of its own training carries its
config as YAML in `cfg`, which is used where no other is given.
"""

import ast
import math
from collections.abc import Mapping
from typing import Any

import yaml

from jaxvid.convert.mvit_common import (
    BLOCK,
    NORMS,
    PARTS,
    PATH,
    PUBLISHED,
    patch_fields,
    plans,
    pool,
    relative_tables,
    shape,
    tables_of_places,
)
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.rules import Entry, conv, fused_heads, heads_in, heads_out, linear, norm
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.sizes import count
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConversionError
from jaxvid.nn.pooled_attention import ONE

Config = Mapping[str, Any]
_IMAGENET = {"MEAN": (0.485, 0.456, 0.406), "STD": (0.229, 0.224, 0.225)}
_ATTENTION = f"{BLOCK}.attn"
_FUSED = fused_heads(f"{_ATTENTION}.qkv", f"{PATH}/attention")
_SEPARATE = tuple(
    entry
    for p, name in PARTS.items()
    for entry in heads_in(f"{_ATTENTION}.{p}", f"{PATH}/attention/{name}")
)


def _entries(projections: tuple[Entry, ...]) -> tuple[Entry, ...]:
    pools = [pool(f"{_ATTENTION}.pool_{p}", f"{_ATTENTION}.norm_{p}", p) for p in PARTS]
    return (
        *conv("patch_embed.proj", "patch_embed"),
        *tables_of_places(""),
        *NORMS,
        *projections,
        *heads_out(f"{_ATTENTION}.proj", f"{PATH}/attention/out"),
        *(entry for pool in pools for entry in pool),
        *relative_tables(_ATTENTION),
        *linear(f"{BLOCK}.mlp.{{fc:fc1|fc2}}", f"{PATH}/mlp/{{fc}}"),
        *linear(f"{BLOCK}.proj", f"{PATH}/projection"),
        *norm("norm", "norm"),
        *linear("head.projection", "head"),
    )


# --- config ---------------------------------------------------------------------------------------

# What slowfast/config/defaults.py says, of what decides the model and its pixels.
_DEFAULTS = {
    "TRAIN": {"DATASET": "kinetics"},
    "DATA": {
        "NUM_FRAMES": 8,
        "SAMPLING_RATE": 8,
        "TRAIN_CROP_SIZE": 224,
        "TRAIN_JITTER_SCALES": (256, 320),
        "INPUT_CHANNEL_NUM": (3, 3),
        "MEAN": (0.45, 0.45, 0.45),
        "STD": (0.225, 0.225, 0.225),
    },
    "MODEL": {"NUM_CLASSES": 400, "DROPOUT_RATE": 0.5},
    "MVIT": {
        "CLS_EMBED_ON": True,
        "PATCH_KERNEL": (3, 7, 7),
        "PATCH_STRIDE": (2, 4, 4),
        "PATCH_PADDING": (2, 4, 4),
        "EMBED_DIM": 96,
        "NUM_HEADS": 1,
        "MLP_RATIO": 4.0,
        "QKV_BIAS": True,
        "DROPPATH_RATE": 0.1,
        "DROPOUT_RATE": 0.0,
        "DEPTH": 16,
        "DIM_MUL": (),
        "HEAD_MUL": (),
        "POOL_KV_STRIDE": (),
        "POOL_KV_STRIDE_ADAPTIVE": None,
        "POOL_Q_STRIDE": (),
        "POOL_KVQ_KERNEL": None,
        "USE_ABS_POS": True,
        "SEP_POS_EMBED": False,
        "REL_POS_SPATIAL": False,
        "REL_POS_TEMPORAL": False,
        "RESIDUAL_POOLING": False,
        "DIM_MUL_IN_ATT": False,
        "SEPARATE_QKV": False,
    },
}
_FIXED = {
    "MODE": "conv",
    "NORM": "layernorm",
    "NORM_STEM": False,
    "PATCH_2D": False,
    "POOL_FIRST": False,
    "LAYER_SCALE_INIT_VALUE": 0.0,
    "USE_MEAN_POOLING": False,
    "USE_FIXED_SINCOS_POS": False,
}
# MVIT's word -> the model's field, both with the same meaning.
_FIELDS = {
    "EMBED_DIM": "width",
    "NUM_HEADS": "num_heads",
    "DEPTH": "depth",
    "MLP_RATIO": "mlp_ratio",
    "CLS_EMBED_ON": "class_token",
    "PATCH_KERNEL": "patch_kernel",
    "POOL_KVQ_KERNEL": "pool_kernel",
    "DROPOUT_RATE": "dropout",
    "DROPPATH_RATE": "drop_path_rate",
    "RESIDUAL_POOLING": "residual_pooling",
    "DIM_MUL_IN_ATT": "project_in_attention",
}
# (USE_ABS_POS, SEP_POS_EMBED, REL_POS_SPATIAL, REL_POS_TEMPORAL)
_POSITIONS = {
    "separable": (True, True, False, False),
    "joint": (True, False, False, False),
    "relative": (False, False, True, True),
}
_PLACES = ("USE_ABS_POS", "SEP_POS_EMBED", "REL_POS_SPATIAL", "REL_POS_TEMPORAL")


def _complete(config: Config) -> dict[str, dict[str, Any]]:
    """The sections of _DEFAULTS with what the config says in them. Raises ConversionError."""
    found = {}
    for section, defaults in _DEFAULTS.items():
        given = config.get(section) or {}
        if not isinstance(given, Mapping):
            raise ConversionError(
                f"{section}={given!r}: expected a section of PySlowFast's YAML, as a dict"
            )
        found[section] = {**defaults, **{name: _value(x) for name, x in given.items()}}
    if (config.get("MODEL") or {}).get("MODEL_NAME", "MViT") != "MViT":
        raise ConversionError(
            f"MODEL.MODEL_NAME={config['MODEL']['MODEL_NAME']!r}: expected 'MViT'"
        )
    if "MVIT" not in config:
        raise ConversionError(
            f"the config has no section MVIT, only {', '.join(map(str, config)) or 'nothing'}: expected "
            'the nested dicts of a YAML file of PySlowFast, {"MVIT": {"DEPTH": 16, …}, "DATA": {…}}'
        )
    refuse_others("PySlowFast's MViT", found["MVIT"], _FIXED)
    if found["MVIT"].get("REV", {}).get("ENABLE"):
        raise ConversionError("MVIT.REV.ENABLE=True: the model has no reversible blocks")
    return found


def _value(value: Any) -> Any:
    """As PySlowFast reads YAML: "(3, 7, 7)" is a tuple."""
    if isinstance(value, str) and value.startswith(("(", "[")):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ConversionError(f"{value!r} in the config: expected numbers in it") from error
    return plain(value)


def _strides(mvit: Config) -> dict[str, Any]:
    """Where stages start, and by how much. Raises ConversionError for stages of another pattern."""
    rows = {row[0]: row[1:] for row in mvit["POOL_Q_STRIDE"]}
    starts = tuple(sorted(i for i, stride in rows.items() if stride != ONE))
    doubled = tuple((i, 2.0) for i in starts)
    for name in ("DIM_MUL", "HEAD_MUL"):
        if tuple(sorted(mvit[name])) != doubled:
            raise ConversionError(
                f"MVIT.{name}={mvit[name]!r}, POOL_Q_STRIDE={mvit['POOL_Q_STRIDE']!r}: the model "
                "doubles heads and width exactly where queries are pooled"
            )
    if len({rows[i] for i in starts}) > 1:
        raise ConversionError(
            f"MVIT.POOL_Q_STRIDE={mvit['POOL_Q_STRIDE']!r}: the model has one stride for all"
        )
    every = set(rows) == set(range(mvit["DEPTH"]))
    if not every and set(rows) != set(starts):
        raise ConversionError(
            f"MVIT.POOL_Q_STRIDE={mvit['POOL_Q_STRIDE']!r}: the model convolves queries in all of its "
            f"{mvit['DEPTH']} blocks, or only where they are pooled"
        )
    if mvit["POOL_KV_STRIDE_ADAPTIVE"] is None or mvit["POOL_KVQ_KERNEL"] is None:
        raise ConversionError(
            "MVIT.POOL_KV_STRIDE_ADAPTIVE and MVIT.POOL_KVQ_KERNEL must be given: the model pools keys "
            "and values in every block"
        )
    return {
        "stage_starts": starts,
        "stage_stride": rows[starts[0]] if starts else (1, 2, 2),
        "key_stride": mvit["POOL_KV_STRIDE_ADAPTIVE"],
        "pool_every_query": every,
    }


def _positions(mvit: Config) -> str:
    told = tuple(mvit[name] for name in _PLACES)
    separable = told[1] and told[0]  # without absolute positions it says nothing
    for name, form in _POSITIONS.items():
        if (told[0], separable, *told[2:]) == form:
            return name
    raise ConversionError(
        ", ".join(f"MVIT.{name}={mvit[name]}" for name in _PLACES)
        + ": the model has absolute positions or those relative in space and time, not both or neither"
    )


def _arguments(config: Config) -> dict[str, Any]:
    told = _complete(config)
    mvit = told["MVIT"]
    padding = tuple(k // 2 for k in mvit["PATCH_KERNEL"])
    refuse_others("PySlowFast's MViT", mvit, {"PATCH_PADDING": padding})
    arguments = {
        **{field: mvit[name] for name, field in _FIELDS.items()},
        **_strides(mvit),
        **patch_fields(mvit["PATCH_STRIDE"]),
        "num_classes": told["MODEL"]["NUM_CLASSES"],
        "head_dropout": told["MODEL"]["DROPOUT_RATE"],
        "channels": told["DATA"]["INPUT_CHANNEL_NUM"][0],
        "positions": _positions(mvit),
        "residual_class_token": False,
        "qkv_bias": "all" if mvit["QKV_BIAS"] else "none",
        "norm_eps": 1e-6,
    }
    keys = tuple((i, *plan.key_stride) for i, plan in enumerate(plans(arguments)))
    # The reference writes there what it makes of POOL_KV_STRIDE_ADAPTIVE.
    if mvit["POOL_KV_STRIDE"] not in ((), None, keys):
        raise ConversionError(
            f"MVIT.POOL_KV_STRIDE={mvit['POOL_KV_STRIDE']!r}: expected what POOL_KV_STRIDE_ADAPTIVE="
            f"{mvit['POOL_KV_STRIDE_ADAPTIVE']!r} makes, {keys!r}"
        )
    return arguments


def _clip(config: Config) -> Clip:
    data = _complete(config)["DATA"]
    size = data["TRAIN_CROP_SIZE"]
    return data["NUM_FRAMES"], size, size, data["INPUT_CHANNEL_NUM"][0]


def _preprocessing(config: Config) -> dict[str, Any]:
    told = _complete(config)
    data = told["DATA"]
    dense = {"sampling": "dense", "stride_frames": data["SAMPLING_RATE"]}
    return {
        "mean": data["MEAN"],
        "std": data["STD"],
        "short_side": data["TRAIN_JITTER_SCALES"][0],
        # Its reader of Something-Something takes frames of the whole video.
        **({"sampling": "uniform"} if told["TRAIN"]["DATASET"] == "ssv2" else dense),
    }


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    starts, patch = arguments["stage_starts"], arguments["patch_size"]
    stride = tuple(arguments["stage_stride"])
    doubled = tuple((i, 2.0) for i in starts)
    pooled = range(arguments["depth"]) if arguments["pool_every_query"] else starts
    places = dict(zip(_PLACES, _POSITIONS[arguments["positions"]], strict=True))
    return {
        "DATA": {
            "NUM_FRAMES": clip[0],
            "TRAIN_CROP_SIZE": clip[1],
            "INPUT_CHANNEL_NUM": (arguments["channels"],),
        },
        "MODEL": {
            "NUM_CLASSES": arguments["num_classes"],
            "DROPOUT_RATE": arguments["head_dropout"],
        },
        "MVIT": {
            **{name: arguments[field] for name, field in _FIELDS.items()},
            **places,
            "QKV_BIAS": arguments["qkv_bias"] == "all",
            "DIM_MUL": doubled,
            "HEAD_MUL": doubled,
            "POOL_Q_STRIDE": tuple((i, *(stride if i in starts else ONE)) for i in pooled),
            "POOL_KV_STRIDE_ADAPTIVE": tuple(arguments["key_stride"]),
            "PATCH_STRIDE": (arguments["tubelet_size"], patch, patch),
            "PATCH_PADDING": tuple(k // 2 for k in arguments["patch_kernel"]),
        },
    }


# --- weights alone --------------------------------------------------------------------------------


def _with_projections(config: Config, shapes: Mapping[str, tuple]) -> dict[str, Any]:
    """The config, saying whether queries, keys and values are projected apart."""
    mvit = config.get("MVIT")
    if not isinstance(mvit, Mapping):
        return dict(config)
    return {**config, "MVIT": {**mvit, "SEPARATE_QKV": "blocks.0.attn.q.weight" in shapes}}


def _rules(config: Config) -> tuple[Entry, ...]:
    return _entries(_SEPARATE if config["MVIT"].get("SEPARATE_QKV") else _FUSED)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint's own YAML tells; without it the shapes, with the strides of the published
    models. Raises ConversionError for others."""
    if isinstance(told.get("cfg"), str):
        return _from_yaml(told["cfg"])
    depth = count(shapes, r"blocks\.(\d+)\.")
    separate = "blocks.0.attn.q.weight" in shapes
    rows = [shapes[f"blocks.{i}.attn.{'q' if separate else 'qkv'}.weight"][0] for i in range(depth)]
    inner = [n if separate else n // 3 for n in rows]
    width = shapes["patch_embed.proj.weight"][0]
    starts = tuple(i for i in range(1, depth) if inner[i] != inner[i - 1])
    found = shape([width] * depth, starts)
    words = "POOL_Q_STRIDE and POOL_KV_STRIDE_ADAPTIVE of MVIT"
    refuse_unpublished("PySlowFast's MViT", found, PUBLISHED, words)
    if "pos_embed" in shapes:
        raise ConversionError(
            "PySlowFast's MViT: pos_embed, one table for all places, does not tell frames from pixels: "
            "give config={…} of its YAML file"
        )
    relative = "blocks.0.attn.rel_pos_t" in shapes
    if relative:
        side = (shapes["blocks.0.attn.rel_pos_h"][0] + 1) // 2
        frames = shapes["blocks.0.attn.rel_pos_t"][0] + 1
    else:
        side = math.isqrt(shapes["pos_embed_spatial"][1])
        frames = 2 * shapes["pos_embed_temporal"][1]
    kernel = shapes["blocks.0.attn.pool_k.weight"]
    classes = shapes["head.projection.weight"][0]
    every = "blocks.0.attn.pool_q.weight" in shapes
    doubled = tuple((i, 2.0) for i in starts)
    large = width == 144  # trained on larger frames, with ImageNet's statistics
    scales = {"TRAIN_JITTER_SCALES": (356, 446), **_IMAGENET} if large else {}
    return {
        "TRAIN": {"DATASET": "ssv2" if classes == 174 else "kinetics"},
        "DATA": {
            "NUM_FRAMES": frames,
            "SAMPLING_RATE": 4 if frames == 16 else 3,
            "TRAIN_CROP_SIZE": 4 * side,
            "INPUT_CHANNEL_NUM": (shapes["patch_embed.proj.weight"][1],),
            **scales,
        },
        "MODEL": {"NUM_CLASSES": classes},
        "MVIT": {
            "EMBED_DIM": width,
            "NUM_HEADS": inner[0] // kernel[0],
            "DEPTH": depth,
            "MLP_RATIO": shapes["blocks.0.mlp.fc1.weight"][0] / inner[0],
            "CLS_EMBED_ON": "cls_token" in shapes,
            "QKV_BIAS": f"blocks.0.attn.{'q' if separate else 'qkv'}.bias" in shapes,
            "PATCH_KERNEL": shapes["patch_embed.proj.weight"][2:],
            "PATCH_PADDING": tuple(k // 2 for k in shapes["patch_embed.proj.weight"][2:]),
            "DIM_MUL": doubled,
            "HEAD_MUL": doubled,
            "POOL_KVQ_KERNEL": kernel[2:],
            "POOL_KV_STRIDE_ADAPTIVE": (1, 8, 8),
            "POOL_Q_STRIDE": tuple(
                (i, *((1, 2, 2) if i in starts else ONE))
                for i in (range(depth) if every else starts)
            ),
            **dict(zip(_PLACES, _POSITIONS["relative" if relative else "separable"], strict=True)),
            "RESIDUAL_POOLING": relative,
            # Where the width doubles, the residual is projected by the block that does it.
            "DIM_MUL_IN_ATT": f"blocks.{starts[0]}.proj.weight" in shapes,
        },
    }


def _from_yaml(text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConversionError(f"cfg, beside the weights, is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConversionError(
            f"cfg, beside the weights, is {text[:60]!r}, expected sections of YAML"
        )
    return config


SOURCE = ShapedSource(
    entries=_entries((*_FUSED, *_SEPARATE)),
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
    complete=_with_projections,
    rules=_rules,
)
