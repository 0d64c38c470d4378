"""Files of features to predict from: .npy arrays of numbers a frame, in place of videos."""

import dataclasses

import numpy as np

from jaxvid.core import batch as names
from jaxvid.core.errors import DataError
from jaxvid.data.feature_source import BACKEND, frame_numbers
from jaxvid.decode.deadline import run_with_deadline


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """The pipeline's source of .npy files, float (frames, D) or (D,) each; labels are none.

    num_frames: T, the rows that are taken of a file; feature_size: D; clips: views of a file; all as
    jaxvid/data/feature_source.py.
    """

    paths: tuple[str, ...]
    num_frames: int
    feature_size: int
    clips: int = 1
    deadline_seconds: float = 30.0

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int, rng: None) -> dict[str, np.ndarray]:
        """features float32 (V, T, D), label (1,), mask (), row (). Raises DataError for another
        file."""
        path = self.paths[row]
        found = run_with_deadline(lambda: _read(path), self.deadline_seconds, path, BACKEND)
        found = found[None] if found.ndim == 1 else found
        if found.ndim != 2 or not len(found) or found.shape[1] != self.feature_size:
            raise DataError(
                f"{path}: features of shape {found.shape}, expected (frames, {self.feature_size}): as "
                "many numbers a frame as the model was trained on"
            )
        taken = found[frame_numbers(len(found), self.num_frames, self.clips, None)]
        return self._example(taken.astype(np.float32), True, row)

    def padding(self) -> dict[str, np.ndarray]:
        """A file that stands for none: zeros, mask False, row 0."""
        zeros = np.zeros((self.clips, self.num_frames, self.feature_size), np.float32)
        return self._example(zeros, False, 0)

    def check_deterministic(self) -> None:
        """Nothing is random."""

    def _example(self, features: np.ndarray, mask: bool, row: int) -> dict[str, np.ndarray]:
        label = np.array([names.PAD_LABEL], np.int32)
        return {
            names.FEATURES: features,
            names.LABEL: label,
            names.MASK: np.array(mask),
            names.ROW: np.int32(row),
        }


def _read(path: str) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: no features can be read there ({error}); this model sees features: give it a .npy "
            "file of an array (frames, numbers)"
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fui":
        raise DataError(f"{path}: expected one .npy array of numbers")
    return found
