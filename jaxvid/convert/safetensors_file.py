""".safetensors files: read here (bfloat16 included, mapped rather than copied), written by the
`safetensors` package, whose numpy reader refuses bfloat16.

The format: 8 bytes with the header's length, a JSON header {key: {dtype, shape, data_offsets}} with
an optional "__metadata__" of texts, then the numbers, little-endian.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.numpy

from jaxvid.core.errors import ConversionError

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read_header(path: str | Path) -> tuple[dict[str, dict], dict[str, str], int]:
    """(key -> {dtype, shape, data_offsets}, metadata, first byte of the numbers).

    Raises ConversionError when the file is no safetensors file or is cut short.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= size - 8:
            raise ConversionError(f"{path}: not a safetensors file, or cut short ({size} bytes)")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"{path}: not a safetensors file: {error}") from error
    metadata = header.pop("__metadata__", {})
    end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end > size:
        raise ConversionError(f"{path}: cut short, {size} bytes of {end}; fetch it again")
    return header, metadata, 8 + length


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(key -> array, metadata). The arrays are read-only views of the file, read when used."""
    header, metadata, start = read_header(path)
    unknown = sorted({e["dtype"] for e in header.values()} - _DTYPES.keys())
    if unknown:
        raise ConversionError(f"{path}: numbers of unknown kind {unknown}; known: {list(_DTYPES)}")
    data = np.memmap(path, np.uint8, "r")
    state = {}
    for key, entry in header.items():
        first, last = entry["data_offsets"]
        flat = np.asarray(data[start + first : start + last])
        state[key] = flat.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return state, metadata


def write(
    path: str | Path, state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes key -> array, with texts beside them. Not atomic: write into a temporary folder."""
    # Readers of torch's want the format named.
    texts = {"format": "pt", **(metadata or {})}
    arrays = {key: np.asarray(value, order="C") for key, value in state.items()}
    safetensors.numpy.save_file(arrays, path, texts)
    mask = os.umask(0)  # the package makes files that only their owner can read
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
