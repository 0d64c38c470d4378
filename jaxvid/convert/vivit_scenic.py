"""The original ViViT: keys and configs of google-research/scenic, projects/vivit.

Keys are '/'-joined paths of the parameters (jaxvid/convert/flax_file.py). A config is
`config.model` of a run together with `config.dataset_configs`, or the arguments of the module's
constructor; what it leaves out, the clip above all, is told by the shapes.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.layout import Operation
from jaxvid.convert.position_row import PositionRow
from jaxvid.convert.rules import Entry, Rule, leaf
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConfigError, ConversionError

SIZE = 224  # of the published checkpoints
SPACETIME, ENCODER = "spacetime", "factorised_encoder"
SELF_ATTENTION, DOT_PRODUCT = "factorised_self_attention", "factorised_dot_product"


_TYPES = {
    "spacetime": SPACETIME,
    "factorized_encoder": ENCODER,
    "factorized_self_attention_block": SELF_ATTENTION,
    "factorized_dot_product_attention": DOT_PRODUCT,
}
_POOLS = {"token": "token", "gap": "mean"}
_EMBEDDINGS = ("3d_conv", "temporal_sampling")
_COUNTS = ("num_layers", "num_heads", "mlp_dim")
# What the model has in one form only.
_FORM = {"representation_size": None, "positional_embedding": "learned_1d"}


# --- keys -----------------------------------------------------------------------------------------


def table_rule(key: str, path: str, grid: tuple[int, ...] | None, token: bool) -> Rule:
    """The row of positions, its first for the class token."""
    paths = (f"{path}/class_position_embedding",) if token else ()
    operation: Operation = PositionRow(grid, token)
    return Rule((key,), (*paths, f"{path}/position_embedding"), operation)


def _blocks(key: str, path: str) -> tuple[Entry, ...]:
    """Of models 1, 2 and 4; also of image ViTs."""
    return (
        leaf(f"{key}/LayerNorm_0/{{l:scale|bias}}", f"{path}/norm1/{{l}}"),
        leaf(f"{key}/LayerNorm_1/{{l:scale|bias}}", f"{path}/norm2/{{l}}"),
        leaf(f"{key}/MultiHeadDotProductAttention_0/{{rest:.+}}", f"{path}/attention/{{rest}}"),
        leaf(f"{key}/MlpBlock_0/Dense_0/{{l:kernel|bias}}", f"{path}/mlp/fc1/{{l}}"),
        leaf(f"{key}/MlpBlock_0/Dense_1/{{l:kernel|bias}}", f"{path}/mlp/fc2/{{l}}"),
    )


def _factorised_blocks(key: str, path: str) -> tuple[Entry, ...]:
    attention = "MultiHeadDotProductAttention"
    return (
        leaf(f"{key}/LayerNorm_time/{{l:scale|bias}}", f"{path}/temporal_norm/{{l}}"),
        leaf(f"{key}/LayerNorm_space/{{l:scale|bias}}", f"{path}/norm1/{{l}}"),
        leaf(f"{key}/LayerNorm_mlp/{{l:scale|bias}}", f"{path}/norm2/{{l}}"),
        leaf(f"{key}/{attention}_time/{{rest:.+}}", f"{path}/temporal_attention/{{rest}}"),
        leaf(f"{key}/{attention}_space/{{rest:.+}}", f"{path}/attention/{{rest}}"),
        leaf(f"{key}/MlpBlock/Dense_0/{{l:kernel|bias}}", f"{path}/mlp/fc1/{{l}}"),
        leaf(f"{key}/MlpBlock/Dense_1/{{l:kernel|bias}}", f"{path}/mlp/fc2/{{l}}"),
    )


def _encoder(key: str, path: str, token: str | None, grid, blocks) -> tuple[Entry, ...]:
    """token: key of the class token, None without one."""
    place = f"{key}/posembed_input/pos_embedding"
    return (
        *blocks(f"{key}/encoderblock_{{i}}", f"{path}/block_{{i}}"),
        leaf(f"{key}/encoder_norm/{{l:scale|bias}}", f"{path}/norm/{{l}}"),
        *((leaf(token, f"{path}/class_token", "1 1 d -> d"),) if token else ()),
        table_rule(place, path, grid, token is not None),
    )


def entries(attention: str, token: bool, grid, frames_alone: bool) -> tuple[Entry, ...]:
    """grid: (t, h, w). frames_alone: patches of single frames, embedded by a 2D kernel."""
    kernel = "h w i o -> 1 h w i o" if frames_alone else None
    ends = (
        leaf("embedding/kernel", "patch_embed/kernel", kernel),
        leaf("embedding/bias", "patch_embed/bias"),
        leaf("output_projection/{l:kernel|bias}", "head/{l}"),
    )
    if attention == ENCODER:
        parts = (("Spatial", "spatial", grid[1:]), ("Temporal", "temporal", grid[:1]))
        encoders = [
            _encoder(
                f"{theirs}Transformer",
                f"{ours}_encoder",
                f"cls_{theirs}Transformer" if token else None,
                of_part,
                _blocks,
            )
            for theirs, ours, of_part in parts
        ]
        return (*ends, *encoders[0], *encoders[1])
    blocks = _factorised_blocks if attention == SELF_ATTENTION else _blocks
    key = "cls" if token else None
    return (*ends, *_encoder("Transformer", "encoder", key, grid, blocks))


def rules_of(config: Mapping[str, Any]) -> tuple[Entry, ...]:
    """config: complete."""
    told = arguments_of(config)
    frames, height, width, _ = clip_of(config)
    patch = told["patch_size"]
    frames = told["sampled_frames"] or frames
    grid = (frames // told["tubelet_size"], height // patch, width // patch)
    frames_alone = len(config["patches"]["size"]) == 2
    return entries(told["attention"], told["pool"] == "token", grid, frames_alone)


# --- config ---------------------------------------------------------------------------------------


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config of a run, or its `model`, in the words of the module's constructor."""
    model, data = config.get("model", config), config.get("dataset_configs", {})
    plain = {
        name: data[name] for name in ("num_frames", "crop_size", "num_classes") if name in data
    }
    plain |= {name: value for name, value in model.items() if name != "dataset_configs"}
    for part in ("spatial", "temporal"):
        nested = plain.pop(f"{part}_transformer", None) or {}
        plain |= {f"{part}_{name}": nested[name] for name in _COUNTS if name in nested}
    return plain


def complete(config: Mapping[str, Any], shapes: Mapping[str, tuple]) -> dict[str, Any]:
    """The plain config with what the shapes tell. Raises ConfigError where neither does."""
    config = _plain(config)
    if "embedding/kernel" not in shapes:
        raise ConversionError(
            "not a checkpoint of scenic/vivit: it has no 'embedding/kernel'. Its "
            f"{len(shapes)} keys: {', '.join(list(shapes)[:5])}, …"
        )
    *window, channels, width = shapes["embedding/kernel"]
    told = {
        "patches": {"size": [*window[-2:], *window[:-2]]},
        "hidden_size": width,
        "num_channels": channels,
        "classifier": "token" if any(key.startswith("cls") for key in shapes) else "gap",
        "attention_config": {"type": _type(shapes, config)},
    }
    if "output_projection/kernel" in shapes:
        told["num_classes"] = shapes["output_projection/kernel"][1]
    for key in ("Transformer", "SpatialTransformer", "TemporalTransformer"):
        part = key.removesuffix("Transformer").lower()
        told |= {f"{part}_{name}".strip("_"): n for name, n in _counts(shapes, key).items()}
    if len(window) == 2:
        told["temporal_encoding_config"] = {"method": "temporal_sampling"}
    known = {name: value for name, value in config.items() if value is not None}
    return _with_clip({**told, **known}, shapes)


def _type(shapes: Mapping[str, tuple], config: Mapping[str, Any]) -> str | None:
    if "attention_config" in config:
        return None
    if any(key.startswith("SpatialTransformer/") for key in shapes):
        return "factorized_encoder"
    if any("/LayerNorm_space/" in key for key in shapes):
        return "factorized_self_attention_block"
    if "cls" in shapes:
        return "spacetime"
    raise ConfigError(
        "scenic/vivit: these shapes fit model 1 and model 4 alike; say which it is: "
        "config={'attention_config': {'type': 'spacetime'}} or 'factorized_dot_product_attention'"
    )


def _counts(shapes: Mapping[str, tuple], key: str) -> dict[str, int]:
    """num_layers, num_heads and mlp_dim of the encoder under this key; {} when there is none."""
    first = [name for name in shapes if name.startswith(f"{key}/encoderblock_0/")]
    if not first:
        return {}
    query = next(name for name in first if name.endswith("/query/kernel"))
    hidden = next(name for name in first if name.endswith("/Dense_0/kernel"))
    start = f"{key}/encoderblock_"
    layers = {name.removeprefix(start).split("/")[0] for name in shapes if name.startswith(start)}
    sizes = (len(layers), shapes[query][1], shapes[hidden][1])
    return dict(zip(_COUNTS, sizes, strict=True))


def _with_clip(config: dict[str, Any], shapes: Mapping[str, tuple]) -> dict[str, Any]:
    """num_frames and crop_size, from the tables of positions where they are not said."""
    patch, tubelet = config["patches"]["size"][0], (*config["patches"]["size"], 1)[2]
    token = config["classifier"] == "token"
    encoding = config.get("temporal_encoding_config", {})
    sampled, frames = encoding.get("n_sampled_frames"), config.get("num_frames")
    length = (sampled or frames or 0) // tubelet  # of the table, 0 while unknown
    side = config.get("crop_size", 0) // patch
    spatial, temporal = (
        shapes.get(f"{key}Transformer/posembed_input/pos_embedding")
        for key in ("Spatial", "Temporal")
    )
    if spatial and temporal:
        side, length = math.isqrt(spatial[1] - token), temporal[1] - token
    elif table := shapes.get("Transformer/posembed_input/pos_embedding"):
        length, side = _grid(table[1] - token, length, side, SIZE // patch)
    if not (length and side):
        raise ConfigError(
            "scenic/vivit: give config={'num_frames': …, 'crop_size': …}: the clip that the tables "
            "of positions were made for cannot be told from their shapes"
        )
    if encoding.get("method") == "temporal_sampling":
        config["temporal_encoding_config"] = {**encoding, "n_sampled_frames": length}
    clip = {"num_frames": frames or length * tubelet, "crop_size": side * patch}
    return {**config, **clip}


def _grid(tokens: int, length: int, side: int, usual: int) -> tuple[int, int]:
    """(frames, rows) of so many tokens over squares; zero stands for what is not known.

    With neither known: of the usual number of rows where that divides, else the grid nearest to a
    cube. (0, 0) when there is none.
    """
    squares = [n for n in range(1, math.isqrt(tokens) + 1) if tokens % n**2 == 0]
    if side or length:
        rows = side or math.isqrt(tokens // length)
    elif usual in squares:
        rows = usual
    else:
        rows = min(squares, key=lambda n: abs(math.log(tokens / n**3)))
    fits = rows in squares and (not length or tokens == length * rows**2)
    return (tokens // rows**2, rows) if fits else (0, 0)


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    config = _plain(config)
    attention = config.get("attention_config") or {}
    encoding = config.get("temporal_encoding_config") or {}
    for name, value, known in (
        ("attention_config.type", attention.get("type") or "spacetime", _TYPES),
        ("classifier", config.get("classifier", "gap"), _POOLS),
        ("temporal_encoding_config.method", encoding.get("method", "3d_conv"), _EMBEDDINGS),
        ("spatial_only_baseline", attention.get("spatial_only_baseline", False), (False,)),
        *((name, config.get(name, form), (form,)) for name, form in _FORM.items()),
    ):
        if value not in known:
            raise ConversionError(
                f"scenic/vivit: {name}={value!r}: the model has only "
                f"{', '.join(repr(word) for word in known)}"
            )
    height, width, *tubelet = config["patches"]["size"]
    if height != width:
        raise ConversionError(f"patches.size {[height, width]}: the model has square patches only")
    kind, wide = _TYPES[attention.get("type") or "spacetime"], config["hidden_size"]
    part = "spatial_" if kind == ENCODER else ""
    arguments = {
        "num_classes": config["num_classes"],
        "attention": kind,
        "pool": _POOLS[config.get("classifier", "gap")],
        "width": wide,
        "depth": config[f"{part}num_layers"],
        "num_heads": config[f"{part}num_heads"],
        "mlp_ratio": config[f"{part}mlp_dim"] / wide,
        "patch_size": height,
        "tubelet_size": tubelet[0] if tubelet else 1,
        "sampled_frames": None if tubelet else _sampled(encoding, config),
        "channels": config.get("num_channels", 3),
        "qkv_bias": "all",
        "activation": "gelu_tanh",
        "norm_eps": 1e-6,
    }
    if kind == SELF_ATTENTION:
        arguments["attention_order"] = attention.get("attention_order", "time_space")
    if kind == ENCODER:
        arguments["temporal_depth"] = config["temporal_num_layers"]
        arguments["temporal_num_heads"] = config["temporal_num_heads"]
        arguments["temporal_mlp_ratio"] = config["temporal_mlp_dim"] / wide
    return arguments


def _sampled(encoding: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """None where all frames of the clip are taken."""
    count = encoding.get("n_sampled_frames")
    return None if count == config.get("num_frames") else count


def clip_of(config: Mapping[str, Any]) -> Clip:
    """config: complete."""
    size = config["crop_size"]
    return config["num_frames"], size, size, config.get("num_channels", 3)


def config_of(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    kinds = {ours: theirs for theirs, ours in _TYPES.items()}
    pools = {ours: theirs for theirs, ours in _POOLS.items()}
    kind, width, patch = arguments["attention"], arguments["width"], arguments["patch_size"]
    frames_alone = arguments["tubelet_size"] == 1
    encoding: dict[str, Any] = {"method": "temporal_sampling" if frames_alone else "3d_conv"}
    if frames_alone:
        encoding["n_sampled_frames"] = arguments["sampled_frames"] or clip[0]
    attention = {"type": kinds[kind]}
    if kind == SELF_ATTENTION:
        attention["attention_order"] = arguments["attention_order"]
    part = "spatial_" if kind == ENCODER else ""
    config = {
        "num_classes": arguments["num_classes"],
        "hidden_size": width,
        "patches": {
            "size": [patch, patch, *(() if frames_alone else (arguments["tubelet_size"],))]
        },
        "temporal_encoding_config": encoding,
        "attention_config": attention,
        "classifier": pools[arguments["pool"]],
        "num_channels": arguments["channels"],
        f"{part}num_layers": arguments["depth"],
        f"{part}num_heads": arguments["num_heads"],
        f"{part}mlp_dim": round(width * arguments["mlp_ratio"]),
        "num_frames": clip[0],
        "crop_size": clip[1],
    }
    if kind == ENCODER:
        config["temporal_num_layers"] = arguments["temporal_depth"]
        config["temporal_num_heads"] = arguments["temporal_num_heads"]
        config["temporal_mlp_dim"] = round(width * arguments["temporal_mlp_ratio"])
    return config
