"""Where numbers go: metrics.jsonl, TensorBoard, the progress bar, the log. Only the main host
writes."""

import json
import logging
import math
import sys

import tqdm
from tensorboardX import SummaryWriter

from jaxvid.core.appending import GrowingFile
from jaxvid.core.places import Place
from jaxvid.train import event_files

log = logging.getLogger("jaxvid")


class MetricsWriter:
    """Appends one JSON object a line to `workdir`/metrics.jsonl and the same numbers to TensorBoard.

    On a resumed run `drop_after(step)` removes the lines of steps that are about to be run again, so
    that each step stands in the file once. Non-finite numbers are written as null.
    """

    def __init__(self, workdir: Place, *, tensorboard: bool = True, enabled: bool = True):
        self._file = GrowingFile(workdir / "metrics.jsonl")
        self._enabled = enabled
        self._board = None
        if enabled and tensorboard:
            event_files.enable()
            self._board = SummaryWriter(str(workdir / "tensorboard"), flush_secs=30)

    def drop_after(self, step: int) -> None:
        """Keeps only whole lines of steps <= `step`."""
        text = self._file.read() if self._enabled else ""
        if text:
            kept = [line for line in text.splitlines() if _step_of(line) <= step]
            self._file.replace("".join(line + "\n" for line in kept))

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """One line {"step", "split", **numbers}."""
        if not self._enabled:
            return
        clean = {k: (float(v) if math.isfinite(v) else None) for k, v in numbers.items()}
        self._file.add(json.dumps({"step": step, "split": split, **clean}) + "\n")
        if self._board:
            for name, value in clean.items():
                if value is not None:
                    self._board.add_scalar(f"{split}/{name}", value, step)

    def flush(self) -> None:
        """Until here a run can go on: what was written so far is in the file, also in a bucket."""
        self._file.flush()

    def close(self) -> None:
        """Flushes the file and TensorBoard."""
        self._file.flush()
        if self._board:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # a line cut short by a killed run
        return math.inf


class Progress:
    """A bar on stderr: steps, rate, remaining time, data-wait share and the latest numbers.

    When stderr is no terminal (a log file, a cluster) it prints a line every `log` call instead.
    """

    def __init__(self, total: int, start: int, *, enabled: bool, what: str = "train"):
        self._total, self._what, self._enabled = total, what, enabled
        interactive = enabled and sys.stderr.isatty()
        self._bar = (
            tqdm.tqdm(total=total, initial=start, desc=what, unit="step", dynamic_ncols=True)
            if interactive
            else None
        )

    def step(self) -> None:
        """One step further."""
        if self._bar is not None:
            self._bar.update()

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Shows the numbers of a window."""
        shown = ", ".join(f"{k} {_short(v)}" for k, v in numbers.items())
        if self._bar is not None:
            self._bar.set_postfix_str(shown)
        elif self._enabled:
            rate = numbers.get("steps/s", 0.0)
            left = f", {_clock((self._total - step) / rate)} left" if rate else ""
            log.info("%s %d/%d: %s%s", self._what, step, self._total, shown, left)

    def close(self) -> None:
        """Leaves the finished bar on its line."""
        if self._bar is not None:
            self._bar.close()


def _short(value: float) -> str:
    return f"{value:.4g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
