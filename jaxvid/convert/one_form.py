"""What a reference's config says and our model has in one form only."""

from collections.abc import Mapping
from typing import Any

from jaxvid.core.errors import ConversionError


def plain(value: Any) -> Any:
    """Lists as tuples, at any depth, and classes such as torch.nn.ReLU by name: forms to compare."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.__name__ if isinstance(value, type) else value


def refuse_others(arch: str, config: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raises ConversionError unless what the config says is what the model has in one form only."""
    wrong = [name for name, form in fixed.items() if config.get(name, form) != form]
    if wrong:
        raise ConversionError(
            f"{arch}: {', '.join(f'{name}={config[name]!r}' for name in wrong)}: the model has only "
            f"{', '.join(f'{name}={fixed[name]!r}' for name in wrong)}"
        )
