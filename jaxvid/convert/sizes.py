"""Sizes as references say them, and counts of numbered keys."""

import re
from collections.abc import Mapping
from typing import Any

from jaxvid.core.errors import ConfigError, ConversionError


def count(keys: Mapping[str, Any], pattern: str) -> int:
    """One more than the largest number the pattern's group matches among the keys."""
    numbers = [int(m[1]) for key in keys if (m := re.match(pattern, key))]
    return max(numbers, default=-1) + 1


def square(size: Any, name: str) -> int:
    """16 or [16, 16] -> 16. Raises ConversionError for a rectangle."""
    sizes = {int(n) for n in (size if isinstance(size, list | tuple) else [size])}
    if len(sizes) != 1:
        raise ConversionError(f"{name} {size}: the model has squares only")
    return sizes.pop()


def heads(width: int, published: Mapping[int, int], told: Mapping[str, Any]) -> int:
    """num_heads as told, or that of the published encoder of this width; weights do not tell it.

    Raises ConfigError for another width.
    """
    found = told.get("num_heads") or published.get(width)
    if found is None:
        raise ConfigError(
            f"an encoder of width {width} is none of the published ones "
            f"({', '.join(map(str, published))}), and weights do not tell the number of heads: "
            "give config={'num_heads': …}"
        )
    return found
