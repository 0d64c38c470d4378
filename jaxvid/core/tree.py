"""Nested dicts of arrays and their flat form, {"a/b/c": leaf}; no jax needed."""

from collections.abc import Callable, Mapping
from typing import Any


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a/b": x}; empty dicts vanish."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, path + "/"))
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict:
    """{"a/b": x} -> {"a": {"b": x}}"""
    tree: dict = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def map_with_path(function: Callable[[str, Any], Any], tree: Mapping) -> dict:
    """Applies function(path, leaf) to every leaf of a nested dict."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})
