"""What the tables of MMAction2's recognisers have in common.

The config is MMAction2's `model` dict, {"backbone": {…}, "cls_head": {"num_classes": 400, …},
"data_preprocessor": {"mean": […], "std": […]}}, or the fields of all three in one. What is not said is
the default of the class of that name. Dropout and stochastic depth are the recipe's, and left aside.
"""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.core.errors import ConversionError

Config = Mapping[str, Any]
Forms = Mapping[str, tuple[Any, ...]]  # field -> what the model has, the class's default first


def part(config: Config, name: str) -> Config:
    """ "backbone", "cls_head" or "data_preprocessor"; the whole config where it is flat."""
    return config.get(name, config)


def refuse_other_forms(fields: Config, forms: Forms) -> None:
    """Raises ConversionError for what the model has in some forms only. fields: of one part."""
    for field, known in forms.items():
        value = fields.get(field, known[0])
        if isinstance(value, Mapping):
            value = dict(value)
        if (tuple(value) if isinstance(value, list) else value) not in known:
            raise ConversionError(
                f"{field} {value!r}: the model has only {' or '.join(map(repr, known))}"
            )


def layer_norm_eps(backbone: Config) -> float:
    """Of norm_cfg. Raises ConversionError unless it is a LayerNorm's."""
    norm = backbone.get("norm_cfg") or {"type": "LN", "eps": 1e-6}
    if norm.get("type") != "LN":
        raise ConversionError(f"norm_cfg {dict(norm)!r}: the model has type 'LN' only")
    return norm.get("eps", 1e-5)  # torch's own


def pixels(
    config: Config, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> dict[str, Any]:
    """mean and std of pixels in 0…1, from data_preprocessor's of 0…255; without it those given."""
    told = part(config, "data_preprocessor")
    if "mean" not in told or "std" not in told:
        return {"mean": mean, "std": std}
    return {name: tuple(round(x / 255, 9) for x in told[name]) for name in ("mean", "std")}


def in_parts(backbone: Config, num_classes: int, **head: Any) -> dict[str, Any]:
    """The config of a recogniser."""
    return {"backbone": dict(backbone), "cls_head": {"num_classes": num_classes, **head}}
