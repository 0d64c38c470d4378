"""The folder of a run: self-contained, readable without the code, refused to another recipe."""

import contextlib
import dataclasses
import errno
import itertools
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import jax
import tqdm

from jaxvid.core.appending import GrowingFile
from jaxvid.core.errors import CheckpointError, ConfigError
from jaxvid.core.files import write_json
from jaxvid.core.places import Place, is_remote, storage_errors

log = logging.getLogger("jaxvid")

# What may change between two starts: where the data lies and how it is read, the devices, the length
# of the run, evaluation, saving, logging. Everything else makes it another run.
_MAY_CHANGE = (
    "run.epochs",
    "run.steps",
    "run.log_every_steps",
    "run.tensorboard",
    "run.nonfinite_limit",
    "run.compilation_cache",
    "run.watchdog_seconds",
    "run.deterministic",
    "run.profile_steps",
    "data.root",
    "data.store",
    "data.in_memory",
    "data.memory_gib",
    "data.threads",
    "data.workers",
    "data.prefetch_batches",
    "data.deadline_seconds",
    "data.on_error",
    "data.max_skipped_share",
    "data.val_split",
    "mesh.*",
    "eval.*",
    "checkpoint.*",
    "compile.*",
)
_PACKAGES = (
    "jaxvid",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "av",
    "decord",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Description:
    """What a workdir says of its run: config.json, classes.json {"0": name, …}, and task.json, what a
    prediction has to know besides. kind: "classify", "multilabel", "multihead", "masked"; heads: {head:
    its number of classes}, the classes of classes.json in a row; feature_size: the numbers of a row
    of features, 0 where videos were seen."""

    config: dict
    class_names: Sequence[str]
    kind: str = "classify"
    heads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    feature_size: int = 0

    def write(self, workdir: Place) -> None:
        """With environment.json. Raises ConfigError when the folder cannot be written."""
        names = {str(i): name for i, name in enumerate(self.class_names)}
        task = {"kind": self.kind, "heads": dict(self.heads), "feature_size": self.feature_size}
        with _writing(workdir):
            write_json(workdir / "config.json", self.config)
            write_json(workdir / "environment.json", environment())
            write_json(workdir / "classes.json", names)
            write_json(workdir / "task.json", task)


def open_for_training(workdir: Place, described: Description, difference: Callable) -> None:
    """Checks that a run that is there is this one, or writes what a new one is.

    `difference(old, new)` lists changed fields. A run that never came to a checkpoint has nothing to
    lose and may be another. What a run that goes on says of itself is written once it does: a refused
    start leaves it as it was. Raises CheckpointError with the difference, ConfigError when the folder
    cannot be written.
    """
    path = workdir / "config.json"
    with _writing(workdir):
        begun = any((workdir / "checkpoints").glob("[0-9]*"))
    if not begun:
        described.write(workdir)
        return
    refuse_another_recipe(workdir, described.config, difference)
    refuse_other_classes(workdir, described.class_names)
    with _writing(workdir):
        write_json(path, read_json(path))  # a folder that cannot be written is said now


@contextlib.contextmanager
def _writing(workdir: Place):
    try:
        with storage_errors(workdir):
            yield
    except OSError as error:
        raise ConfigError(
            f"--workdir {workdir} cannot be written ({_reason(error)}); {_advice(error)}"
        ) from error


def _advice(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "make room, or choose another disk" if full else "choose a folder of yours"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def refuse_another_recipe(workdir: Place, config: dict, difference: Callable) -> None:
    """Raises CheckpointError when the workdir's config differs in more than may change."""
    path = workdir / "config.json"
    if not path.exists():
        raise CheckpointError(f"{workdir} is not the workdir of a run: it has no config.json")
    changed = [
        line
        for line in difference(read_json(path), config)
        if not _may_change(line.partition(":")[0])
    ]
    if changed:
        raise CheckpointError(
            f"{workdir} belongs to a run with another recipe:\n  "
            + "\n  ".join(changed)
            + "\n(run's values -> yours). Give another --workdir, or the run's own recipe"
        )


def read_json(path: Place) -> dict:
    """What a workdir says of its run. Raises CheckpointError for a file that is no JSON object."""
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{path} is no JSON ({error}); put it back from a copy, or give another --workdir"
        ) from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{path} holds a {type(told).__name__}, expected a JSON object")
    return told


def _may_change(field: str) -> bool:
    return any(field == f or (f.endswith("*") and field.startswith(f[:-1])) for f in _MAY_CHANGE)


def refuse_other_classes(workdir: Place, class_names: Sequence[str]) -> None:
    """Raises CheckpointError when the run's classes have other names, or another order, than these."""
    path = workdir / "classes.json"
    if path.exists():
        check_classes(str(workdir), [*read_json(path).values()], class_names)


def check_classes(what: str, known: Sequence[str], class_names: Sequence[str]) -> None:
    """Raises CheckpointError unless a checkpoint's classes are those of the data, in their order."""
    both = enumerate(itertools.zip_longest(known, class_names, fillvalue="none"))
    first = next(((i, *pair) for i, pair in both if pair[0] != pair[1]), None)
    if first:
        raise CheckpointError(
            f"{what} has {len(known)} classes and the data have {len(class_names)}; the first that "
            f"differs is class {first[0]}: {first[1]!r} there, {first[2]!r} here. Give the data's classes "
            "the names and the order of the checkpoint's, or train in another --workdir"
        )


def environment() -> dict:
    """Versions, devices, command and, inside a checkout, the commit."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "devices": [str(d) for d in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "device_kind": jax.devices()[0].device_kind,
        "processes": jax.process_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout the package runs from; None for an installed package."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


class _BarHandler(logging.StreamHandler):
    """Prints above a progress bar instead of through it."""

    def emit(self, record):
        tqdm.tqdm.write(self.format(record), file=sys.stderr)


class _FileHandler(logging.Handler):
    """Appends to a file; what may be the last words is in a bucket at once."""

    def __init__(self, file: GrowingFile):
        super().__init__()
        self._file = file

    def emit(self, record):
        try:
            self._file.add(self.format(record) + "\n")
            if record.levelno >= logging.WARNING:
                self._file.flush()
        except OSError:  # said on stderr, and the run goes on
            self.handleError(record)

    def close(self):
        try:
            self._file.flush()
        except OSError as error:  # what a run has done is not undone by it
            log.warning("the last lines of the log are not written: %s", error)
        super().close()


def start_logging(workdir: Place | None, *, main: bool) -> None:
    """jaxvid's log to stderr and, on the main host, to workdir/log.txt (appended)."""
    logger = logging.getLogger("jaxvid")
    logger.setLevel(logging.INFO if main else logging.WARNING)
    logger.propagate = False
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain talk to their own makers
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [_BarHandler()]
    if workdir is not None and main:
        if not is_remote(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        handlers.append(_FileHandler(GrowingFile(workdir / "log.txt")))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
