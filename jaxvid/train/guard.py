"""What ends a run early: too many clips that cannot be decoded, too many steps that are not finite,
no progress on the chosen metric. Each keeps its count through a checkpoint."""

import logging
from collections.abc import Mapping

import numpy as np

from jaxvid.core.batch import MASK, ROW
from jaxvid.core.errors import DataError, NonFiniteLossError
from jaxvid.core.record import DatasetIndex

log = logging.getLogger("jaxvid")
_LISTED = 10


class SkippedClips:
    """Counts masked training rows; more than `max_share` of the clips seen is fatal."""

    def __init__(self, index: DatasetIndex, *, max_share: float, min_clips: int = 100):
        self._index, self._max_share, self._min_clips = index, max_share, min_clips
        self.seen = self.skipped = 0
        self._files: dict[str, int] = {}

    def observe(self, batch: Mapping[str, np.ndarray]) -> None:
        """Takes one host batch; raises DataError with the files once the share is too large."""
        missing = batch[ROW][~batch[MASK]]
        self.seen += len(batch[MASK])
        self.skipped += len(missing)
        for row in missing.tolist():
            path = self._index.records[row].path
            self._files[path] = self._files.get(path, 0) + 1
        enough = self.seen >= self._min_clips or self.skipped == self.seen
        if len(missing) and enough and self.skipped > self._max_share * self.seen:
            files = "\n  ".join(list(self._files)[:_LISTED])
            raise DataError(
                f"{self.skipped} of {self.seen} clips could not be decoded, more than "
                f"data.max_skipped_share={self._max_share}. {len(self._files)} files, the first:\n"
                f"  {files}\nThe log has each one's reason; mend or remove them, or raise the share"
            )


class NonFiniteSteps:
    """Counts steps that were skipped because loss or gradient was not finite."""

    def __init__(self, index: DatasetIndex, *, limit: int):
        self._index, self._limit = index, limit
        self.in_a_row = 0

    def observe(self, step: int, nonfinite: bool, rows: np.ndarray) -> None:
        """Raises NonFiniteLossError with the batch's rows after `limit` such steps in a row."""
        self.in_a_row = self.in_a_row + 1 if nonfinite else 0
        if not nonfinite:
            return
        log.warning(
            "step %d: loss or gradient is not finite; the step is skipped (%d in a row)",
            step,
            self.in_a_row,
        )
        if self.in_a_row >= self._limit:
            paths = [
                f"{row}: {self._index.records[row].path}" for row in sorted(set(rows.tolist()))
            ]
            raise NonFiniteLossError(
                f"loss or gradient was not finite for {self.in_a_row} steps in a row, the last is "
                f"step {step}. Lower optim.learning_rate, set optim.clip_norm, or use "
                "model.dtype='float32'. The rows of this batch:\n  " + "\n  ".join(paths)
            )


class EarlyStop:
    """Ends a run when `metric` has not improved for `patience` evaluations (0 = never)."""

    def __init__(self, *, metric: str, mode: str, patience: int):
        self.metric, self._sign, self._patience = metric, 1 if mode == "max" else -1, patience
        self.best: float | None = None
        self.best_step: int | None = None
        self.without_progress = 0

    @property
    def reached(self) -> bool:
        """True when it is time to stop."""
        return bool(self._patience) and self.without_progress >= self._patience

    def observe(self, step: int, numbers: Mapping[str, float]) -> None:
        """Takes the numbers of one evaluation; those without the metric change nothing."""
        value = numbers.get(self.metric)
        if value is None:
            return
        if self.best is None or self._sign * value > self._sign * self.best:
            self.best, self.best_step, self.without_progress = value, step, 0
        else:
            self.without_progress += 1

    def get_state(self) -> dict:
        """For the checkpoint."""
        return {"best": self.best, "best_step": self.best_step, "count": self.without_progress}

    def set_state(self, state: Mapping) -> None:
        """From the checkpoint."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.without_progress = state["count"]
