"""A model's name, fields and variables, as conversion tables and jaxvid.json speak of them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.convert import apply, source
from jaxvid.core.errors import ConfigError, nearest
from jaxvid.core.tree import flatten
from jaxvid.nn.transformer import unstack_layers


def model_name(model: nn.Module) -> str:
    """ "videomae" of a module of jaxvid/models, the dotted path of the file of anyone else's."""
    return type(model).__module__.removeprefix("jaxvid.models.")


def variable_shapes(model: nn.Module, clip: source.Clip) -> dict:
    """{"params": …, …} as jax.ShapeDtypeStruct, one entry a layer also for scan_layers=True."""
    try:
        hash(model)
    except TypeError:  # a user's own, with arrays for fields
        return _traced_shapes.__wrapped__(model, tuple(clip))
    return jax.tree.map(lambda x: x, _traced_shapes(model, tuple(clip)))


@functools.lru_cache(maxsize=8)
def _traced_shapes(model: nn.Module, clip: source.Clip) -> dict:
    """Kept, as a load asks twice and tracing a deep model takes seconds."""
    return jax.eval_shape(_initialiser(model, clip), jax.random.key(0))


def _initialiser(model: nn.Module, clip: source.Clip):
    """key -> variables of the model in the layout of the tables, one entry a layer."""
    unrolled = model.clone(scan_layers=False) if is_scanned(model) else model

    def init(key):
        return unrolled.init(
            {"params": key, "dropout": key}, _zero_inputs(model, clip), train=False
        )

    return init


def _zero_inputs(model: nn.Module, clip: source.Clip) -> dict[str, jax.Array]:
    name = model_name(model)
    inputs = {"video": apply.ShapeOnly((1, *clip), np.dtype("float32"))}
    if hasattr(table_of(name), "example_inputs"):
        inputs = table_of(name).example_inputs(arguments_of(model), clip)
    return {n: jnp.zeros(x.shape, x.dtype) for n, x in inputs.items()}


def misfits(model: nn.Module, variables: Mapping, clip: source.Clip) -> list[str]:
    """What the variables are that the model has not at this clip, or lack, or have in another shape that
    it cannot run with (some tables it can resize): a line for each."""
    of_model, given = (
        {path: tuple(x.shape) for path, x in flat_variables(tree).items()}
        for tree in (variable_shapes(model, clip), variables)
    )
    wrong = [
        f"{path}: {given.get(path, 'absent')} given, {of_model.get(path, 'absent')} in the model"
        for path in {**of_model, **given}
        if given.get(path) != of_model.get(path)
    ]
    if not wrong or of_model.keys() != given.keys():
        return wrong
    try:
        jax.eval_shape(lambda v: model.apply(v, _zero_inputs(model, clip), train=False), variables)
    except (flax.errors.FlaxError, ValueError, TypeError):
        return wrong
    return []


def initial_leaves(model, clip, paths: list[str], seed: int) -> dict[str, jax.Array]:
    """Initial values of these leaves alone: jit prunes the rest of the model."""
    if not paths:
        return {}
    init = _initialiser(model, clip)

    def pick(key):
        flat = apply.flatten_variables(init(key))
        return {path: flat[path] for path in paths}

    return jax.jit(pick)(jax.random.key(seed))


def field_names(module) -> list[str]:
    fields = dataclasses.fields(module.MODULE)
    return [f.name for f in fields if f.init and f.name not in ("parent", "name")]


def check_fields(module, name: str, overrides) -> None:
    known = field_names(module)
    if wrong := [field for field in overrides if field not in known]:
        raise ConfigError(
            f"model {name!r} has no field {wrong[0]!r}.{nearest(wrong[0], known)} "
            f"Known: {', '.join(known)}."
        )


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """The fields that JSON can hold; dtype and functions are choices of the moment."""
    fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.init}
    return {n: v for n, v in fields.items() if n not in ("parent", "name") and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def table_of(name: str):
    return source.table(name) if source.has_table(name) else None


def is_scanned(model: nn.Module) -> bool:
    return bool(getattr(model, "scan_layers", False))


def is_stacked(tree: Mapping) -> bool:
    return any("blocks" in path.split("/") for path in flatten(tree))


def flat_variables(variables: Mapping) -> dict[str, Any]:
    """Flat paths of all collections, one entry a layer."""
    return apply.flatten_variables({**variables, "params": unstacked(variables.get("params", {}))})


def unstacked(tree: Mapping) -> dict:
    """One entry a layer; shapes stay shapes."""
    if not is_stacked(tree):
        return dict(tree)
    if all(hasattr(leaf, "__array__") for leaf in jax.tree.leaves(tree)):
        return unstack_layers(tree)
    return jax.eval_shape(unstack_layers, tree)
