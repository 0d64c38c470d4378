"""Reads what `torch.save` wrote (.pth, .pt, .bin) without torch, and runs nothing from the file.

A pickle can name any function to call; this reader knows the few that rebuild plain tensors and
plain Python values, and refuses the rest. Tensors come out as numpy arrays (bfloat16 through
ml_dtypes). Both formats are read: the zip archive of torch >= 1.6, and the stream of pickles before
it. The only file of jaxvid that imports torch: to write, and to read the rare tensor kinds
(quantised, sparse) with torch's own restricted unpickler where torch is installed.
"""

import argparse
import collections
import dataclasses
import functools
import importlib.util
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxvid.core.errors import ConversionError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "Double": np.dtype("<f8"),
    "Float": np.dtype("<f4"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}
_DTYPE_NAMES = ["float64", "float32", "float16", "bfloat16", "bool"]
_DTYPE_NAMES += ["int64", "int32", "int16", "int8", "uint8"]
_SAFE_BUILTINS = (set, frozenset, list, dict, tuple, int, float, bool, complex, slice)
WRAPPERS = ("model", "module", "state_dict", "model_state_dict", "model_state", "net", "weights")
WRAPPERS += ("model_ema", "state_dict_ema", "ema_state_dict")  # where nothing else is there


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A stretch of numbers of the file, read when a tensor asks for it."""

    dtype: np.dtype
    read: Callable[[], bytes]


@dataclasses.dataclass(frozen=True)
class TorchTensor:
    """A tensor of the file; `numpy()` reads it. Optimizer moments that nobody asks for cost nothing."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    @property
    def dtype(self) -> np.dtype:
        return self.storage.dtype

    def numpy(self) -> np.ndarray:
        flat = np.frombuffer(self.storage.read(), self.dtype)
        reach = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        inside = min((0, self.offset, *self.shape, *self.strides)) == 0
        if not inside or (0 not in self.shape and self.offset + reach >= flat.size):
            raise ConversionError(
                f"a tensor of shape {self.shape} reaches past its storage of {flat.size} elements: "
                "the file is damaged"
            )
        strides = [step * self.dtype.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()


class _NotAllowed(Exception):
    """The file names something outside the list."""


def _tensor(storage, offset, shape, strides, *_) -> TorchTensor:
    return TorchTensor(storage, int(offset), tuple(shape), tuple(strides))


def _parameter(data, *_) -> TorchTensor:
    return data


class _Dtype:
    """A numpy dtype by its text. numpy's own takes flags from the file and trusts them."""

    def __init__(self, text: str, *_: Any):
        if not re.fullmatch("[biufc][1-9][0-9]?", text):
            raise _NotAllowed(f"numpy numbers of kind {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray:
    """A numpy array of the file; `numpy()` gives it."""

    def __init__(self, *_: Any):
        self._parts = (1, (0,), _Dtype("f4"), False, b"")

    def __setstate__(self, state: tuple) -> None:
        self._parts = state

    def numpy(self) -> np.ndarray:
        _, shape, kind, by_columns, raw = self._parts
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        order = "F" if by_columns else "C"
        return np.frombuffer(raw, kind.dtype).reshape(shape, order=order).copy()


def _scalar(kind: _Dtype, raw: bytes | str) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, kind.dtype)[0]


class _Bystander(dict):
    """What a trainer leaves beside the weights and nobody here reads: a dict's items, nothing else."""

    def __setstate__(self, state: Any) -> None:
        pass


def _attribute(of: Any, name: str) -> Any:
    """getattr, of bystanders alone (MMEngine's histories name their own statistics)."""
    if of is _Bystander:
        return None
    raise _NotAllowed(f"getattr of {type(of).__name__}")


# What unpickling bytes that are no pickle, or half of one, ends in.
_DAMAGE = (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError)
_DAMAGE += (struct.error, zipfile.BadZipFile)
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PATHLIB = ("pathlib", "pathlib._local")  # the latter of Python 3.13
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "Counter"): dict,
    **{(m, "PosixPath"): lambda *parts: str(PurePosixPath(*parts)) for m in _PATHLIB},
    **{(m, "WindowsPath"): lambda *parts: str(PureWindowsPath(*parts)) for m in _PATHLIB},
    ("argparse", "Namespace"): argparse.Namespace,
    ("_codecs", "encode"): lambda text, encoding: str(text).encode("latin1"),
    ("mmengine.logging.history_buffer", "HistoryBuffer"): _Bystander,
    ("mmengine.config.config", "ConfigDict"): _Bystander,
    **{(m, "getattr"): _attribute for m in ("builtins", "__builtin__")},
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): object,  # only ever the first argument of _reconstruct
    **{(module, "scalar"): _scalar for module in _NUMPY},
    **{(module, "_reconstruct"): NumpyArray for module in _NUMPY},
    **{("torch", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()},
    **{("torch", name): name for name in _DTYPE_NAMES},
    **{(m, t.__name__): t for m in ("builtins", "__builtin__") for t in _SAFE_BUILTINS},
}


class _Unpickler(pickle.Unpickler):
    """Builds only what `_ALLOWED` names; `storage` answers the references to tensor data."""

    def __init__(self, file: BinaryIO, storage: Callable[[tuple], _Storage] | None = None):
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _NotAllowed(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        if self._storage is None or not isinstance(pid, tuple) or pid[0] != "storage":
            raise pickle.UnpicklingError(f"a reference of unknown kind: {pid!r}")
        return self._storage(pid[1:])


def read(path: str | Path) -> Any:
    """The object that was saved: dicts, lists, plain values, TorchTensor and NumpyArray.

    Raises ConversionError when the file is no checkpoint, is cut short, or names anything that is
    not a tensor or a plain value.
    """
    path = Path(path)
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except ConversionError:
        raise
    except _NotAllowed as error:
        if str(error).startswith("torch.") and importlib.util.find_spec("torch"):
            return _read_with_torch(path)
        raise ConversionError(
            f"{path}: the file names {error}, which is neither a tensor nor a plain value. Loading "
            "it could run foreign code, so it is refused. Where you trust the file, open it with "
            "torch and save its state_dict() alone, best as .safetensors."
        ) from None
    except _DAMAGE as error:
        raise ConversionError(
            f"{path}: not a checkpoint that torch.save wrote, or cut short ({error or 'no data'})"
            + _hint(path)
        ) from error


def _hint(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer: fetch the real file with `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "; it is a web page: the download went wrong"
    return ""


def _read_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise ConversionError(
            f"{path}: a TorchScript program, not a checkpoint; save its state_dict() with torch"
        )
    pickles = [name for name in names if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise ConversionError(
            f"{path}: a zip file, but not one that torch.save wrote (no data.pkl)"
        )
    root = pickles[0].removesuffix("data.pkl")
    read_entry = functools.lru_cache(1)(archive.read)  # tensors that share a storage come in a row
    swapped = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"

    def storage(pid: tuple) -> _Storage:
        dtype, key = pid[0], pid[1]
        dtype = dtype.newbyteorder(">") if swapped else dtype
        return _Storage(dtype, lambda: read_entry(f"{root}data/{key}"))

    with archive.open(pickles[0]) as file:
        return _Unpickler(file, storage).load()


def _read_legacy(path: Path) -> Any:
    """magic, protocol and machine, the object, the list of storages, then their bytes in order."""
    places: dict[str, tuple[int, int]] = {}  # storage key -> first byte, number of bytes
    dtypes: dict[str, np.dtype] = {}

    def read_bytes(key: str, skip: int, size: int | None) -> bytes:
        start, length = places[key]
        with path.open("rb") as file:
            file.seek(start + skip)
            return file.read(length if size is None else size)

    def storage(pid: tuple) -> _Storage:
        dtype, key, view = pid[0], str(pid[1]), pid[4] if len(pid) > 4 else None
        dtypes[key] = dtype
        if view is None:
            return _Storage(dtype, lambda: read_bytes(key, 0, None))
        skip, size = view[1] * dtype.itemsize, view[2] * dtype.itemsize
        return _Storage(dtype, lambda: read_bytes(key, skip, size))

    with path.open("rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("it does not begin as torch.save begins")
        _, machine = _Unpickler(file).load(), _Unpickler(file).load()
        if not machine.get("little_endian", True):
            raise ConversionError(f"{path}: written on a big-endian machine by torch < 1.6")
        saved = _Unpickler(file, storage).load()
        for key in map(str, _Unpickler(file).load()):
            (count,) = struct.unpack("<q", file.read(8))
            places[key] = (file.tell(), count * dtypes[key].itemsize)
            file.seek(places[key][1], 1)
    return saved


def state_dict(saved: Any, path: str | Path = "the file") -> tuple[dict[str, np.ndarray], dict]:
    """The weights within a saved object, as arrays, and everything that lay beside them.

    Unwraps {"model": …}, {"module": …}, {"state_dict": …} and their like, nested if need be.
    Raises ConversionError when there are no weights, naming what there is.
    """
    beside: dict = {}
    while wrapper := _wrapper(saved):
        beside.update({key: value for key, value in saved.items() if key != wrapper})
        saved = saved[wrapper]
    if not isinstance(saved, Mapping) or not any(_is_tensor(v) for v in saved.values()):
        found = ", ".join(map(str, saved)) if isinstance(saved, Mapping) else type(saved).__name__
        raise ConversionError(
            f"{path}: no weights found: expected key -> tensor, or that under one of "
            f"{', '.join(WRAPPERS)}; there is: {found}"
        )
    weights = {}
    for key, value in saved.items():
        lazy = isinstance(value, TorchTensor | NumpyArray)
        weights[str(key)] = value.numpy() if lazy else np.asarray(value)
    return weights, beside


def _wrapper(saved: Any) -> str | None:
    """The key under which a dict of weights lies within this one, None when this may be it."""
    if not isinstance(saved, Mapping):
        return None
    return next((name for name in WRAPPERS if isinstance(saved.get(name), Mapping)), None)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TorchTensor | NumpyArray | np.ndarray)


def _read_with_torch(path: Path) -> Any:
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            value = value.dequantize() if value.is_quantized else value.to_dense()
            return value.to(torch.float32 if value.is_floating_point() else value.dtype).numpy()
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        return plain(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ConversionError(f"{path}: torch refuses the file too: {error}") from error


def write(path: str | Path, state: Mapping[str, np.ndarray], wrapper: str = "model") -> None:
    """Writes {wrapper: state} as torch.save does. Raises ModuleNotFoundError without torch."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: writing .pth needs torch (pip install 'jaxvid[torch]'); a .safetensors file "
            "with the same keys needs nothing"
        ) from error
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    torch.save({wrapper: tensors}, path)
