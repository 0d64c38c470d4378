"""Sources whose configs leave something to the shapes, or whose rules depend on the config.

A ViViT's table of positions is one row of tokens, and only the clip it was made for tells which of them
are frames; a config of the original code does not say what clip that was.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxvid.convert.rules import Entry
from jaxvid.convert.source import Clip, Source


@dataclasses.dataclass(frozen=True)
class ShapedSource(Source):
    """complete: (its config, key -> shape) -> the config with what the shapes tell besides; None:
    the config tells all. rules: its config -> the rules of such a checkpoint; `entries` are then
    those of all configs together, by which keys are recognised.
    """

    complete: Callable[[Mapping[str, Any], Mapping[str, tuple]], dict[str, Any]] | None = None
    rules: Callable[[Mapping[str, Any]], tuple[Entry, ...]] | None = None


def complete_config(
    source: Source, config: Mapping[str, Any], shapes: Mapping[str, tuple]
) -> Mapping[str, Any]:
    """The config with what the shapes tell, where the source has a way to read them."""
    if isinstance(source, ShapedSource) and source.complete is not None:
        return source.complete(config, shapes)
    return config


def rules_for(source: Source, config: Mapping[str, Any] | None) -> tuple[Entry, ...]:
    """The rules of a checkpoint of this config; None: of any."""
    if config is not None and isinstance(source, ShapedSource) and source.rules is not None:
        return source.rules(config)
    return source.entries


def rules_for_model(source: Source, arguments: Mapping[str, Any], clip: Clip) -> tuple[Entry, ...]:
    """The rules of a checkpoint of a model with these arguments, made for such a clip."""
    if isinstance(source, ShapedSource) and source.config is not None:
        return rules_for(source, source.config(arguments, clip))
    return source.entries
