"""The only place where a name becomes code: a name is a file of a folder, or a dotted path."""

import functools
import importlib
import pkgutil
from types import ModuleType

from jaxvid.core.errors import UnknownNameError, nearest, unknown

FOLDERS = {
    "model": "jaxvid.models",
    "dataset": "jaxvid.data.datasets",
    "transform": "jaxvid.data.transforms",
    "objective": "jaxvid.objectives",
    "conversion": "jaxvid.convert",
}


def names(kind: str) -> list[str]:
    """All names of a kind ("model", "dataset", …), sorted: the files of its folder.

    A conversion table bears its model's name; the other files of convert/ are its machinery.
    """
    if kind == "conversion":
        return sorted({*_files(kind)} & {*_files("model")})
    return list(_files(kind))


@functools.cache
def _files(kind: str) -> tuple[str, ...]:
    package = importlib.import_module(FOLDERS[kind])
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"))


def module(kind: str, name: str) -> ModuleType:
    """The module of that name; `a.b.c` with a dot is a user's own module, imported as it stands.

    Raises UnknownNameError with the nearest name and the whole list.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise UnknownNameError(
                    f"{kind} {name!r}: no module {error.name!r} can be imported; a dotted name is "
                    "the path of your own module and must be importable (PYTHONPATH)"
                ) from error
            raise
    known = names(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return importlib.import_module(f"{FOLDERS[kind]}.{name}")


def variant(model_name: str, variants: dict, name: str) -> dict:
    """The row of a model's VARIANTS table, copied."""
    if name not in variants:
        raise UnknownNameError(
            f"model {model_name!r} has no variant {name!r}.{nearest(name, variants)} "
            f"Known: {', '.join(variants)}."
        )
    return dict(variants[name])
