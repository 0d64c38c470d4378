"""What MViT's tables of torchvision, PyTorchVideo and PySlowFast have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxvid.convert.layout import Layout
from jaxvid.convert.positions import Line, Map
from jaxvid.convert.rules import Entry, Rule, conv, leaf, norm
from jaxvid.convert.sizes import square
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConversionError
from jaxvid.nn.pooled_attention import BlockPlan, block_plans

PARTS = {"q": "query", "k": "key", "v": "value"}
BLOCK, PATH = "blocks.{i}", "block_{i}"
_PLAN = ("width", "num_heads", "depth", "stage_starts", "stage_stride", "key_stride")
# What weights tell of the published models, which all have the same strides.
PUBLISHED = (
    {"width": 96, "depth": 16, "stage_starts": (1, 3, 14)},
    {"width": 96, "depth": 24, "stage_starts": (2, 5, 21)},
    {"width": 144, "depth": 48, "stage_starts": (2, 8, 44)},
)
_AXES = {"t": "time", "h": "height", "w": "width"}
NORMS = norm(f"{BLOCK}.{{n:norm1|norm2}}", f"{PATH}/{{n}}")


def pool(key: str, norm_key: str, part: str) -> tuple[Entry, ...]:
    """A pooling convolution and the norm after it."""
    pool = f"{PATH}/attention/{PARTS[part]}_pool"
    return (*conv(key, pool), *norm(norm_key, f"{pool}/norm"))


def tables_of_places(before: str) -> tuple[Entry, ...]:
    """The class token and version 1's tables. before: what their keys begin with."""
    return (
        leaf(f"{before}cls_token", "class_token", "1 1 d -> d"),
        Rule((f"{before}pos_embed_spatial",), ("spatial_position_embedding",), Map(batched=True)),
        Rule(
            (f"{before}pos_embed_temporal",),
            ("temporal_position_embedding",),
            Line(Layout("1 l d -> l d")),
        ),
        leaf(f"{before}pos_embed_class", "class_position_embedding", "1 1 d -> d"),
        leaf(f"{before}pos_embed", "position_embedding", "1 l d -> l d"),
    )


def relative_tables(attention: str) -> tuple[Entry, ...]:
    """Version 2's. attention: the attention's key."""
    return tuple(
        Rule(
            (f"{attention}.rel_pos_{a}",),
            (f"{PATH}/attention/relative_{axis}_position_embedding",),
            Line(),
        )
        for a, axis in _AXES.items()
    )


def shape(widths: Sequence[int], starts: Sequence[int]) -> dict[str, Any]:
    """A row such as those of PUBLISHED. widths: of the blocks."""
    return {"width": widths[0], "depth": len(widths), "stage_starts": tuple(starts)}


def plans(arguments: Mapping[str, Any]) -> tuple[BlockPlan, ...]:
    """The blocks of a model with these fields. Raises ConversionError when there is none."""
    told = {name: arguments[name] for name in (*_PLAN, "project_in_attention")}
    try:
        return block_plans(**told)
    except ValueError as error:
        raise ConversionError(f"the model cannot have these blocks: {error}") from error


def published_preprocessing(
    clip: Callable[[Mapping], Clip], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Of the models published for clips of 16×4, 32×3 and 40×3."""
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "short_side": 256}
    stride = 3 if clip(config)[0] in (32, 40) else 4
    return {**pixels, "sampling": "dense", "stride_frames": stride}


def patch_fields(stride: Sequence[int]) -> dict[str, int]:
    """The strides of the convolution that makes tokens."""
    return {"tubelet_size": stride[0], "patch_size": square(stride[1:], "the patches' stride")}
