"""Where a run may lie: a folder of this machine, or one in a bucket (gs://…, s3://…)."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
from etils import epath

from jaxvid.core.errors import ConfigError

Place = Path | epath.Path
_NEEDED = {"gs": "gcsfs", "s3": "s3fs"}


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
    kind = text.partition("://")[0]
    if kind not in _NEEDED:
        raise ConfigError(
            f"{what} {text}: checkpoints can be written to folders and to gs:// and s3:// buckets. "
            "For other storage, mount it and give the mounted folder"
        )
    if importlib.util.find_spec(_NEEDED[kind]) is None:
        raise ConfigError(
            f"{what} {text}: reading and writing {kind}:// buckets needs {_NEEDED[kind]}; "
            "pip install 'jaxvid[cloud]', or give a folder of this machine"
        )
    # Other hosts, and other libraries of this one, write there too: what was listed once is old.
    fsspec.config.conf.setdefault(kind, {}).setdefault("use_listings_cache", False)
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
