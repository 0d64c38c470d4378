"""One file of weights, or one weights set in several files: whatever the format, key -> array."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxvid.convert import flax_file, safetensors_file, torch_file
from jaxvid.core.errors import ConversionError

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".pyth", ".ckpt", ".tar")
SAFETENSORS_SUFFIX = ".safetensors"
INDEX_SUFFIX = ".index.json"
# In the order Hugging Face itself looks.
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def is_weights_file(path: str | Path) -> bool:
    """Whether the name is one that `read` knows."""
    known = (SAFETENSORS_SUFFIX, INDEX_SUFFIX, *TORCH_SUFFIXES, *flax_file.SUFFIXES)
    return Path(path).name.endswith(known)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """(key -> array, what lay beside the weights: metadata texts, training arguments, …).

    path: .safetensors, a file of torch.save, the index of a sharded set, or what
    jaxvid/convert/flax_file.py knows. Raises ConversionError for other names and damaged files,
    FileNotFoundError for absent ones.
    """
    path = Path(path)
    if path.is_dir() and flax_file.is_folder(path):
        return flax_file.read(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_sharded(path), {}
    if path.suffix == SAFETENSORS_SUFFIX:
        return safetensors_file.read(path)
    if path.suffix in TORCH_SUFFIXES:
        return torch_file.state_dict(torch_file.read(path), path)
    if flax_file.is_file(path):
        return flax_file.read(path)
    raise ConversionError(
        f"{path}: weights of unknown kind {path.suffix!r}; known: {SAFETENSORS_SUFFIX}, "
        f"*{INDEX_SUFFIX}, {', '.join((*TORCH_SUFFIXES, *flax_file.SUFFIXES))}"
    )


def find_in_folder(folder: str | Path) -> Path | None:
    """The weights of a Hugging Face folder: its first file among FOLDER_FILES, or None."""
    candidates = (Path(folder) / name for name in FOLDER_FILES)
    return next((path for path in candidates if path.is_file()), None)


def _read_sharded(index: Path) -> dict[str, np.ndarray]:
    """An index is {"weight_map": {key: file name}}; every key must be in the file it points to."""
    weight_map: Mapping[str, str] = json.loads(index.read_text())["weight_map"]
    names = sorted(set(weight_map.values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise ConversionError(
            f"{index}: {len(absent)} of {len(names)} shards are not there: {', '.join(absent)}"
        )
    state: dict[str, np.ndarray] = {}
    for name in names:
        state.update(read(index.parent / name)[0])
    lost = [key for key in weight_map if key not in state]
    if lost:
        raise ConversionError(f"{index}: {len(lost)} keys are in no shard: {', '.join(lost)}")
    return state
