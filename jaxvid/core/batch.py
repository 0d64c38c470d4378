"""The one dict of arrays that travels from the pipeline to the step, and the gate it passes.

video   uint8   (B, V, T, H, W, 3)   RGB 0..255; V views of a clip
features float32 (B, V, T, D)        in place of video, of sets that publish no pixels
audio   float32 (B, V, F, M)         log-mel, optional
flow    float32 (B, V, T, H, W, 2)   pixels a frame, optional
label   int32   (B, L)               padded with -1; label_<head> for multi-head sets
mask    bool    (B,)                 False = padding or skipped row: it counts nowhere, and shows
                                     another clip of the batch
row     int32   (B,)                 index into DatasetIndex.records
"""

from collections.abc import Mapping

import numpy as np

from jaxvid.core.errors import BatchError

VIDEO, AUDIO, FLOW, FEATURES = "video", "audio", "flow", "features"
CONTENT = (VIDEO, AUDIO, FLOW, FEATURES)  # what a model sees
LABEL, MASK, ROW = "label", "mask", "row"
PAD_LABEL = -1
_CHANNELS = {VIDEO: (3, "RGB"), FLOW: (2, "right and down")}

_RANK_AND_DTYPE = {
    VIDEO: (6, np.uint8),
    AUDIO: (4, np.float32),
    FLOW: (6, np.float32),
    FEATURES: (4, np.float32),
    MASK: (1, np.bool_),
    ROW: (1, np.int32),
}


def check_batch(batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns the batch unchanged if it keeps the contract; raises BatchError listing all breaches."""
    wrong = []
    for name in (LABEL, MASK, ROW):
        if name not in batch and not (name == LABEL and any(k.startswith("label_") for k in batch)):
            wrong.append(f"'{name}' is missing (there are: {', '.join(sorted(batch))})")
    if not any(name in batch for name in CONTENT):
        wrong.append("there is none of 'video', 'audio', 'flow', 'features'")
    for name, array in batch.items():
        if name == LABEL or name.startswith("label_"):
            rank, dtype = 2, np.int32
        elif name in _RANK_AND_DTYPE:
            rank, dtype = _RANK_AND_DTYPE[name]
        else:
            wrong.append(f"'{name}' is not a name of the batch")
            continue
        if array.ndim != rank or array.dtype != dtype:
            wrong.append(
                f"'{name}' is {array.dtype} of shape {array.shape}, "
                f"expected {np.dtype(dtype)} with {rank} axes"
            )
    for name, (channels, what) in _CHANNELS.items():
        if name in batch and batch[name].ndim == 6 and batch[name].shape[-1] != channels:
            wrong.append(
                f"'{name}' has {batch[name].shape[-1]} channels, expected {channels} ({what}, last axis)"
            )
    sizes = {name: array.shape[0] for name, array in batch.items() if array.ndim}
    if len(set(sizes.values())) > 1:
        wrong.append(f"the first axes differ: {sizes}")
    if wrong:
        raise BatchError("the batch breaks its contract:\n  " + "\n  ".join(wrong))
    return batch
