"""What the readers of class folders share: which entries are clips, in which order, and what to say.

A clip is a video file or a folder of images, one image a frame. Hidden entries (`.DS_Store`, `._x.mp4`)
do not exist here; other files and folders without images are passed over and counted in the log.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoRecord
from jaxvid.decode.frames import EXTENSIONS as IMAGE_EXTENSIONS
from jaxvid.decode.frames import natural_key

VIDEO_EXTENSIONS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)

SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing", "tst"),
}

_log = logging.getLogger("jaxvid.data")


def entries(folder: Path) -> list[os.DirEntry]:
    """What a folder holds, hidden entries left out, in natural order."""
    with os.scandir(folder) as found:
        return sorted((e for e in found if e.name[0] != "."), key=lambda e: natural_key(e.name))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, in natural order."""
    return [Path(e.path) for e in entries(folder) if e.is_dir()]


def video_files(folder: Path) -> list[Path]:
    """The video files in a folder itself, hidden ones left out, in natural order."""
    return [Path(e.path) for e in entries(folder) if extension(e.name) in VIDEO_EXTENSIONS]


def clip_records(folder: Path, *, base: Path, label: int) -> list[VideoRecord]:
    """The clips of one class folder as records with this label, ids relative to `base`.

    Raises DataError when the folder holds no clip.
    """
    clips, others, imageless = [], [], []
    for entry in entries(folder):
        if entry.is_dir():
            (clips if _holds_images(entry.path) else imageless).append(Path(entry.path))
        else:
            (clips if extension(entry.name) in VIDEO_EXTENSIONS else others).append(
                Path(entry.path)
            )
    if not clips:
        raise DataError(
            f"{folder}: the class folder holds no clip; expected video files (.mp4, .avi, .mkv, "
            f".webm, .mov, …) or, for each clip, a folder of images. It holds {contents(folder)}."
        )
    if imageless:
        _log.warning(
            "%s: %d folders without images passed over, the first is %s; videos count where they lie in "
            "the class folder itself",
            folder,
            len(imageless),
            imageless[0].name,
        )
    if others:
        _log.info(
            "%s: files that are no videos passed over: %s", folder, some([p.name for p in others])
        )
    return [VideoRecord(str(c), c.relative_to(base).as_posix(), (label,)) for c in clips]


def contents(folder: Path, most: int = 10) -> str:
    """In words, what is at a path: that it is missing, a file, empty, or the names in it."""
    if not folder.exists():
        return "nothing, it does not exist"
    if not folder.is_dir():
        return "nothing, it is a file"
    found = entries(folder)
    if not found:
        return "nothing, it is empty"
    names = [e.name + ("/" if e.is_dir() else "") for e in found[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(names) + more


def some(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def split_of(name: str) -> str:
    """ "train", "val" or "test" for a name that usually means it, else an empty string."""
    word = name.strip().lower()
    return next((split for split, words in SPLIT_NAMES.items() if word in words), "")


def refuse_annotations(dataset: str, annotations) -> None:
    """Raises ConfigError when annotations are given to a set whose folder names are the labels."""
    if annotations is not None:
        raise ConfigError(
            f"dataset {dataset!r} has no annotation file, the names of its folders are the labels; "
            f"got annotations={str(annotations)!r}: leave it unset"
        )


def extension(name: str) -> str:
    """A file's ending, in small letters and with its dot."""
    return os.path.splitext(name)[1].lower()


def _holds_images(folder: str) -> bool:
    with os.scandir(folder) as found:
        return any(e.name[0] != "." and extension(e.name) in IMAGE_EXTENSIONS for e in found)
