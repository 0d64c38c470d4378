"""Weights of image models in models of clips: a kernel repeated over time, frames or flow fields.

    kernel = inflate(kernel, (3, 7, 7, 3, 64))  # of a kernel (7, 7, 3, 64)
    TRANSFERS = {"resnet": Transfer(…, adapt=inflate.adapt)}  # wherever the shapes differ

Repetition is divided by the number of repeats: a clip that stands still gives what its frame gives.
All arrays are numpy, laid out as the models' kernels: (*window, inputs, outputs).
"""

from collections.abc import Sequence

import numpy as np

from jaxvid.core.errors import ConversionError, unknown

WAYS = ("mean", "centre")
Shape = Sequence[int]


def inflate(kernel: np.ndarray, shape: Shape, how: str = "mean") -> np.ndarray:
    """(h, w, i, o) -> `shape` (t, h, w, i, o).

    how: "mean", repeated over t and divided by t (Carreira and Zisserman 2017, Quo Vadis, Action
    Recognition?, section 3); or "centre", at t // 2 alone with zeros elsewhere (Arnab et al. 2021,
    ViViT, section 3.4). Raises ConversionError when the rest of the shape differs.
    """
    if how not in WAYS:
        raise unknown("inflation", how, WAYS)
    if kernel.ndim != 4 or len(shape) != 5 or tuple(shape[1:]) != kernel.shape:
        raise _no_way(kernel, shape, "expected (h, w, i, o) and (t, h, w, i, o)")
    if how == "mean":
        return np.repeat(kernel[None], shape[0], axis=0) / np.asarray(shape[0], kernel.dtype)
    inflated = np.zeros(shape, kernel.dtype)
    inflated[shape[0] // 2] = kernel
    return inflated


def repeat_frames(kernel: np.ndarray, shape: Shape) -> np.ndarray:
    """(*window, i, o) -> `shape` (*window, T·i, o), for T frames side by side as channels, frame by
    frame: repeated over them, divided by T. Raises ConversionError when that is not the shape."""
    if not _differ_in_inputs(kernel, shape) or shape[-2] % kernel.shape[-2]:
        raise _no_way(kernel, shape, "expected a multiple of the input channels and all else equal")
    frames = shape[-2] // kernel.shape[-2]
    repeats = (1,) * (kernel.ndim - 2) + (frames, 1)
    return np.tile(kernel, repeats) / np.asarray(frames, kernel.dtype)


def rgb_to_flow(kernel: np.ndarray, shape: Shape) -> np.ndarray:
    """(*window, 3, o) -> `shape` (*window, 2·L, o), for L flow fields of two components: the mean
    over red, green and blue, once for each channel (Wang et al. 2016, Temporal Segment Networks,
    section 3.2, "cross-modality pre-training"). Raises ConversionError for other shapes."""
    if not _differ_in_inputs(kernel, shape) or kernel.shape[-2] != 3 or shape[-2] % 2:
        raise _no_way(
            kernel, shape, "expected 3 channels, then an even number of them, and all else equal"
        )
    return np.repeat(kernel.mean(-2, keepdims=True, dtype=kernel.dtype), shape[-2], axis=-2)


def adapt(path: str, array: np.ndarray, shape: Shape, how: str = "mean") -> np.ndarray:
    """An array of an image model as the leaf of this shape: as it is, inflated, or over frames.

    path: of the leaf, for the error. how: of `inflate`. Raises ConversionError when there is no such
    way between the shapes.
    """
    return _named(path, array, shape, repeat_frames, how)


def adapt_to_flow(path: str, array: np.ndarray, shape: Shape, how: str = "mean") -> np.ndarray:
    """As `adapt`, for models of optical flow: channels go through `rgb_to_flow`.

    Their number does not tell the two apart (30 are ten frames or fifteen flow fields): the table of
    a conversion does.
    """
    return _named(path, array, shape, rgb_to_flow, how)


def _named(path, array, shape, channels, how) -> np.ndarray:
    try:
        return _through(array, tuple(shape), channels, how)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}" if path else str(error)) from error


def _through(array, shape, channels, how) -> np.ndarray:
    if array.shape == shape:
        return array
    if array.ndim >= 3 and len(shape) >= 3 and array.shape[-2] != shape[-2]:
        array = channels(array, (*array.shape[:-2], *shape[-2:]))
    return array if array.shape == shape else inflate(array, shape, how)


def _differ_in_inputs(kernel: np.ndarray, shape: Shape) -> bool:
    same = len(shape) == kernel.ndim >= 3
    return same and (*shape[:-2], shape[-1]) == (*kernel.shape[:-2], kernel.shape[-1])


def _no_way(kernel: np.ndarray, shape: Shape, expected: str) -> ConversionError:
    return ConversionError(
        f"no inflation of a kernel {kernel.shape} into one of {tuple(shape)}: {expected}"
    )
