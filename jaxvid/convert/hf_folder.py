"""A Hugging Face folder: config.json, preprocessor_config.json, weights in one file or in shards."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvid.convert import preprocessing, weights_file
from jaxvid.core.errors import ConversionError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
VIDEO_PREPROCESSOR = "video_preprocessor_config.json"
PROCESSOR = "processor_config.json"  # of pixels and texts, each in a part of its own
_PROCESSORS = (VIDEO_PREPROCESSOR, PREPROCESSOR, PROCESSOR)  # in transformers' order
_OF_PIXELS = ("video_processor", "image_processor")
SEVERAL_LABELS = "multi_label_classification"  # a problem_type of transformers


@dataclasses.dataclass(frozen=True)
class HfFolder:
    """config: config.json. preprocessing: what video_preprocessor_config.json, else
    preprocessor_config.json, else processor_config.json tells, as in
    jaxvid/convert/preprocessing.py, {} without these files. state: key -> array."""

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    state: dict[str, np.ndarray]


def is_hf_folder(path: str | Path) -> bool:
    """Whether the folder's config.json has a model_type."""
    config = Path(path) / CONFIG
    return config.is_file() and "model_type" in read_json(config)


def read(path: str | Path) -> HfFolder:
    """Reads a folder. Raises ConversionError when there are no weights."""
    path = Path(path)
    weights = weights_file.find_in_folder(path)
    if weights is None:
        raise ConversionError(
            f"{path}: no weights in this folder; expected one of "
            f"{', '.join(weights_file.FOLDER_FILES)}, there are: {_names(path)}"
        )
    return HfFolder(read_json(path / CONFIG), _preprocessing(path), weights_file.read(weights)[0])


def _preprocessing(path: Path) -> dict[str, Any]:
    file = next((path / name for name in _PROCESSORS if (path / name).is_file()), None)
    if file is None:
        return {}
    said = read_json(file)
    part = next((said[name] for name in _OF_PIXELS if said.get(name)), said)
    return preprocessing.from_hf(part, str(file))


def class_names(config: dict[str, Any]) -> list[str] | None:
    """The names in `id2label`, by index; None where there are none but the stand-ins LABEL_0, ….

    Raises ConversionError when it is no object or its indices are not 0..n-1.
    """
    said = config.get("id2label") or {}
    if not isinstance(said, Mapping):
        raise ConversionError(
            f'id2label is a {type(said).__name__}, expected an object {{"0": "name", …}}'
        )
    labels = {int(index): str(name) for index, name in said.items()}
    if not labels or all(name == f"LABEL_{index}" for index, name in labels.items()):
        return None
    if sorted(labels) != list(range(len(labels))):
        raise ConversionError(f"id2label has the indices {sorted(labels)}, expected 0..n-1")
    return [labels[index] for index in range(len(labels))]


def task(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a model of several labels a clip, as `info["task"]` has it (jaxvid/pretrained.py); else
    None."""
    if config.get("problem_type") != SEVERAL_LABELS:
        return None
    return {"kind": "multilabel", "heads": {}, "pooling": "mean"}


def num_labels(config: dict[str, Any]) -> int:
    """The length of `id2label`, else `num_labels`, else 2, as transformers counts."""
    return int(len(config.get("id2label") or {}) or config.get("num_labels") or 2)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ConversionError naming the file when it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _names(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.iterdir())) or "no files"
