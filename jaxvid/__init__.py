"""jaxvid: video classification in JAX and Flax. See README.md.

    model = jaxvid.create_model("videomae", variant="S", num_classes=2)
    model, variables, info = jaxvid.from_pretrained(path, num_classes=2)

The names below are looked up when first used: importing jaxvid alone imports neither jax nor flax.
"""

import importlib
import os
from typing import Any

from jaxvid.core import xla_flags

xla_flags.set_flags(os.environ)

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "create_model",
    "from_pretrained",
    "from_state_dict",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = "jaxvid.saving" if name == "save_pretrained" else "jaxvid.pretrained"
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'jaxvid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
