"""Memory of batches that nobody holds any more, kept for the next ones.

A batch is tens of megabytes. Given back to the system and asked for again, as NumPy does it, its pages
are cleared each time: 1 to 2 of the 6 ms that a clip of a store takes on two cores.
"""

import math
import threading
import weakref

import numpy as np


class Buffers:
    """Arrays to write into, each in memory that no living array uses; safe for many threads.

    As many stay as were held at once: a batch of one shape follows the other.
    """

    def __init__(self):
        self._free: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array with any content; its memory comes back when it, and all views of it, are gone."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            free = self._free.setdefault(size, [])
            memory = free.pop() if free else np.empty(size, np.uint8)
        lease = _Lease(memory)
        weakref.finalize(lease, free.append, memory).atexit = False
        return np.asarray(lease).view(dtype).reshape(shape)


class _Lease:
    """What arrays in the memory refer to as their base: it lives exactly as long as the last one."""

    def __init__(self, memory: np.ndarray):
        self.__array_interface__ = memory.__array_interface__
