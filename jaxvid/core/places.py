"""Where a run may lie: a folder of this machine, or one in a bucket (gs://…)."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from jaxvid.core.errors import ConfigError

Place = Path | epath.Path
_BUCKETS = "gs://"
_NEEDED = "gcsfs"


def place(name: str | os.PathLike, what: str = "--workdir") -> Place:
    """`as_given`, made absolute."""
    path = as_given(name, what)
    return path.absolute() if isinstance(path, Path) else path


def as_given(name: str | os.PathLike, what: str) -> Place:
    """A path on this machine, `~` expanded, or in a bucket; `what` asked for it, in words.

    Both kinds have exists, is_file, is_dir, glob, read_text, `/` and str. Raises ConfigError for
    storage that checkpoints cannot be written to, or whose library is missing.
    """
    text = os.fspath(name)
    if not is_remote(text):
        return Path(text).expanduser()
    if not text.startswith(_BUCKETS):
        raise ConfigError(
            f"{what} {text}: checkpoints can be written to folders and to gs:// buckets. For other "
            "storage, mount the bucket (s3fs, JuiceFS, FSx for Lustre) and give the mounted folder"
        )
    if importlib.util.find_spec(_NEEDED) is None:
        raise ConfigError(
            f"{what} {text}: reading and writing buckets needs {_NEEDED}; "
            "pip install 'jaxvid[cloud]', or give a folder of this machine"
        )
    return epath.Path(text.rstrip("/"))


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike) -> Iterator[None]:
    """What the libraries of buckets raise (HTTP, networks, credentials) becomes an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{os.fspath(path)}: {type(error).__name__}: {reason}") from error


def is_remote(path: str | os.PathLike) -> bool:
    """Whether it is an address such as gs://bucket/folder."""
    return "://" in os.fspath(path)
