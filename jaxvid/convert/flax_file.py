"""Checkpoints of Flax and Orbax: a tree on disk to {'/'-joined path: array} of its parameters.

    a file    flax.serialization's msgpack (checkpoint, checkpoint_1000, *.msgpack), or *.npz with
              '/'-joined names, as image ViTs are published
    a folder  an Orbax tree (it has _METADATA), what an Orbax CheckpointManager or Flax's
              save_checkpoint leaves (the last step is taken), or one with a file `checkpoint`

The parameters stand under "params", "model_params" or, from the days of flax.optim, "optimizer/target";
else the tree is taken for the parameters themselves. Optimiser states are not read.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxvid.core.errors import ConversionError
from jaxvid.core.tree import flatten

SUFFIXES = (".msgpack", ".npz")
PLACES = (
    ("params",),
    ("model_params",),
    ("optimizer", "target"),
    ("opt", "target"),
    ("opt", "params"),
    ("target",),
)
STATISTICS = (("batch_stats",), ("model_state", "batch_stats"))
_FILE = re.compile(r"checkpoint(_\d+)?")
_STEP = re.compile(r"(?:checkpoint_)?(\d+)")
_METADATA = "_METADATA"
# Items of a CheckpointManager that may hold the parameters, the likeliest first.
_ITEMS = ("default", "state", "train_state", "params", "model_params")


def is_file(path: str | Path) -> bool:
    """Whether the name is one that `read` knows."""
    path = Path(path)
    return path.suffix in SUFFIXES or _FILE.fullmatch(path.name) is not None


def is_folder(path: str | Path) -> bool:
    """Whether there is a checkpoint of Flax or Orbax in this folder."""
    return _found(Path(path)) is not None


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """({'/'-joined path in the parameters: array}, {}); statistics under "batch_stats/…".

    Raises FileNotFoundError when there is nothing, ConversionError when it is damaged, is no
    checkpoint, or has no parameters.
    """
    path = Path(path)
    place = _found(path) if path.is_dir() else path
    if place is None or not place.exists():
        raise FileNotFoundError(f"{path}: no checkpoint of Flax or Orbax")
    if place.is_dir():
        return _read_orbax(place), {}
    tree = _read_npz(place) if place.suffix == ".npz" else _read_msgpack(place)
    parts = _parts(tree, place)
    return _arrays({prefix: _at(tree, where) for prefix, where in parts.items()}, place), {}


def _found(folder: Path) -> Path | None:
    """The Orbax tree or the file that this folder is, or holds."""
    if (folder / _METADATA).is_file():
        return folder
    if not folder.is_dir():
        return None
    steps = [(int(m[1]), p) for p in folder.iterdir() if (m := _STEP.fullmatch(p.name))]
    for _, step in sorted(steps, reverse=True):
        if step.is_file() and is_file(step):
            return step
        if step.is_dir() and (inside := _found(step)):
            return inside
    if (folder / "checkpoint").is_file():
        return folder / "checkpoint"
    trees = [p for p in folder.iterdir() if (p / _METADATA).is_file()]
    named = [folder / name for name in _ITEMS if folder / name in trees]
    return (named or (trees if len(trees) == 1 else [None]))[0]


# --- files ----------------------------------------------------------------------------------------


def _read_msgpack(path: Path) -> Mapping[str, Any]:
    data = path.read_bytes()
    try:
        tree = flax.serialization.msgpack_restore(data)
    except (ValueError, TypeError, KeyError) as error:
        raise ConversionError(
            f"{path}: not a checkpoint of Flax, or cut off ({len(data)} bytes): {error}; compare its "
            "size with where it came from and fetch it again"
        ) from error
    if not isinstance(tree, Mapping):
        raise ConversionError(
            f"{path}: not a checkpoint of Flax: it holds {type(tree).__name__}, expected a tree of "
            "names and arrays"
        )
    return tree


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ConversionError(f"{path}: not an npz file of arrays, or cut off: {error}") from error
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


# --- Orbax ----------------------------------------------------------------------------------------


def _read_orbax(folder: Path) -> dict[str, np.ndarray]:
    """Reads the parameters alone, whatever else was saved beside them."""
    folder = folder.absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree = checkpointer.metadata(folder).item_metadata.tree
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise _damaged(folder, error) from error
        parts = _parts(tree, folder)
        wanted: dict[str, Any] = {}
        for where in parts.values():
            node = wanted
            for name in where[:-1]:
                node = node.setdefault(name, {})
            shapes = jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), _at(tree, where))
            if where:
                node[where[-1]] = shapes
            else:
                wanted = shapes
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        options = ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True)
        try:
            restored = checkpointer.restore(folder, options)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, error) from error
    return _arrays({prefix: _at(restored, where) for prefix, where in parts.items()}, folder)


def _damaged(folder: Path, error: Exception) -> ConversionError:
    reason = str(error).splitlines()[0][:300] if str(error) else "no message"
    return ConversionError(
        f"{folder}: this checkpoint of Orbax cannot be read ({type(error).__name__}: {reason}); it is "
        "damaged or not all of it is here"
    )


# --- trees ----------------------------------------------------------------------------------------


def _parts(tree: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """Prefix of keys -> where in the tree its arrays stand. Raises ConversionError without any."""
    places = [where for where in PLACES if _at(tree, where)]
    if not places and any(name.rpartition("/")[2] == "kernel" for name in flatten(tree)):
        places = [()]
    if not places:
        names = ", ".join(list(tree)[:10]) or "nothing"
        raise ConversionError(
            f"{path}: no parameters in this checkpoint; expected them under "
            f"{', '.join('/'.join(where) for where in PLACES)}; there are: {names}"
        )
    where = places[0]
    while set(_at(tree, where)) >= {"params"}:  # {"params": {"params": …, "batch_stats": …}}
        where = (*where, "params")
    statistics = [place for place in STATISTICS if _at(tree, place)]
    return {"": where} | ({"batch_stats/": statistics[0]} if statistics else {})


def _at(tree: Mapping[str, Any], where: Sequence[str]) -> Mapping[str, Any]:
    """The branch of that place; {} when there is none."""
    for name in where:
        branch = tree.get(name)
        if not isinstance(branch, Mapping):
            return {}
        tree = branch
    return tree


def _arrays(branches: Mapping[str, Mapping[str, Any]], path: Path) -> dict[str, np.ndarray]:
    flat = {p + name: x for p, branch in branches.items() for name, x in flatten(branch).items()}
    wrong = [name for name, x in flat.items() if not hasattr(x, "dtype")]
    if wrong:
        raise ConversionError(
            f"{path}: {len(wrong)} of {len(flat)} parameters are not arrays, the first {wrong[0]!r} is "
            f"{flat[wrong[0]]!r}"
        )
    return {name: np.asarray(x) for name, x in flat.items()}
