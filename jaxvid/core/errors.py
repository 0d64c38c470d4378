"""The errors that users meet, and the sentence that names the nearest known word."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A config, a command-line override or an argument is wrong."""


class UnknownNameError(ConfigError):
    """A model, dataset, transform, config key, … of that name does not exist.

    kind: what it would be a name of, in words such as "model" or "split of ucf101"; "" where nobody said.
    """

    def __init__(self, message: str, kind: str = ""):
        super().__init__(message)
        self.kind = kind


class DataError(ValueError):
    """A dataset on disk is not what its reader expects."""


class BatchError(ValueError):
    """A batch breaks the contract of `jaxvid.core.batch`."""


class CheckpointError(RuntimeError):
    """A checkpoint or workdir cannot be used as asked."""


class ConversionError(ValueError):
    """A foreign checkpoint does not fit: keys missing, left over, or of another shape."""


class NonFiniteLossError(FloatingPointError):
    """The loss stayed NaN or infinite for too many steps in a row."""


class DecodeError(RuntimeError):
    """One clip cannot be decoded.

    Attributes: path (str), frame (int | None, the index asked for), backend (str), reason (str).
    """

    def __init__(self, path, frame: int | None, backend: str, reason: str):
        super().__init__(
            path, frame, backend, reason
        )  # all four, so that it pickles across workers
        self.path, self.frame, self.backend, self.reason = str(path), frame, backend, reason

    def __str__(self) -> str:
        at = "" if self.frame is None else f" at frame {self.frame}"
        return f"{self.path}: cannot be decoded{at} by {self.backend}: {self.reason}"


USER_ERRORS = (
    BatchError,
    CheckpointError,
    ConfigError,
    ConversionError,
    DataError,
    DecodeError,
    NonFiniteLossError,
    OSError,  # a path that is not there, a disk that is full: the message names the file
)


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` when a known name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among the known ones: what came, the nearest, the list."""
    known = sorted(str(k) for k in known)
    return UnknownNameError(
        f"unknown {kind} {name!r}.{nearest(name, known)} Known: {', '.join(known)}.", kind
    )
