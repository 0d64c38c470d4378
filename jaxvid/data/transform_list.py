"""A list of transforms as a config spells it, made into transforms; needs no data to check it.

build_transforms([{"name": "short_side_resize", "size": 256}, {"name": "centre_crop", "size": 224}])
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import grain

from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, nearest

Transform = grain.transforms.Map | grain.transforms.RandomMap


def build_transforms(specs: Sequence[Mapping[str, Any]]) -> tuple[Transform, ...]:
    """One transform for each {"name": file in data/transforms or dotted module, **its options}.

    Raises UnknownNameError for a name, ConfigError for anything else that is wrong: a spec without
    a name, an option the transform does not have (with the nearest one), one it needs and does not
    get, a value out of its range, a module whose `build` is missing or gives something else.
    """
    return tuple(_build(number, spec) for number, spec in enumerate(specs))


def _build(number: int, spec: Mapping[str, Any]) -> Transform:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ConfigError(
            f"transform number {number} of the list is {spec!r}, expected a dict with a name, "
            'such as {"name": "centre_crop", "size": 224}'
        )
    options = dict(spec)
    name = options.pop("name")
    module = lookup.module("transform", name)
    if not hasattr(module, "build"):
        raise ConfigError(
            f"transform {name!r}: module {module.__name__} has no 'build'; "
            "end it with the line: build = YourTransform"
        )
    _check_options(name, inspect.signature(module.build), options)
    transform = module.build(**options)
    if not isinstance(transform, Transform):
        raise ConfigError(
            f"transform {name!r} builds a {type(transform).__name__}, expected a "
            "grain.transforms.Map or grain.transforms.RandomMap"
        )
    return transform


def _check_options(name: str, signature: inspect.Signature, options: Mapping[str, Any]) -> None:
    parameters = signature.parameters.values()
    known = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in options:
        if option not in known and not takes_any:
            raise ConfigError(
                f"transform {name!r} has no option {option!r}.{nearest(option, known)} "
                f"Known: {', '.join(sorted(known))}."
            )
    missing = [
        n
        for n in known
        if n not in options and signature.parameters[n].default is inspect.Parameter.empty
    ]
    if missing:
        raise ConfigError(f"transform {name!r} needs {', '.join(map(repr, missing))}")
