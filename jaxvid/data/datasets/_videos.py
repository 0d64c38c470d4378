"""Where the videos of a list lie, when the list names them by an id only, and times as publishers
write them.

Sets that are scraped from the web come as whatever the download tool made of them: any container,
with a prefix (`v_<id>.mp4`), in one folder, one a split or one a class. An id is looked up by the
file's name without its extension, at any depth.
"""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import DataError
from jaxvid.data.datasets import _files, _listed
from jaxvid.decode.frames import EXTENSIONS as IMAGE_EXTENSIONS

_log = logging.getLogger("jaxvid.data")


class VideoFolder:
    """All video files and folders of frames below a folder, hidden ones left out; listed when first
    needed.

    A folder is a clip when it holds images and neither videos nor folders. Links are followed, each
    folder once. A folder that is not there holds nothing: what is missing is for the reader to
    count.
    """

    def __init__(self, base: str | Path):
        self.base = Path(base)
        self._folders = _listed.Folders()
        self._found: dict[str, list[Path]] | None = None

    def find(self, *stems: str, within: Sequence[str] = (), usual: Sequence[str] = ()) -> Path:
        """The clip called by the first of `stems` that is there, else where it should have been.

        within: names of folders, as written or with `_` for blanks; of several clips of one name
        the one that lies in such a folder is taken, else the first by path. usual: folders below
        this one that are looked into first: where the set's archives put the videos.
        """
        places = [self.base / folder / f"{stem}.mp4" for folder in usual for stem in stems]
        for path in places:
            found = self._folders.clip(str(path))
            if self._folders.has(found):
                return Path(found)
        for stem in stems:
            if found := self._listed().get(stem):
                return _nearest(found, within)
        return (places or [self.base / f"{stems[0]}.mp4"])[0]

    def _listed(self) -> dict[str, list[Path]]:
        if self._found is None:
            self._found = {}
            _collect(self.base, self._found, set(), is_base=True)
            for places in self._found.values():
                places.sort()
            several = sum(len(places) > 1 for places in self._found.values())
            if several:
                _log.info("%s: %d names are there more than once", self.base, several)
        return self._found


def _nearest(places: list[Path], within: Sequence[str]) -> Path:
    wanted = {plain_name(name) for name in within}
    inside = (p for p in places if wanted & {plain_name(part) for part in p.parts[:-1]})
    return next(inside, places[0])


def plain_name(name: str) -> str:
    """A folder's or class's name as it is compared: `_` and blanks are one, case does not matter."""
    return name.replace("_", " ").casefold().strip()


def _collect(folder: Path, found: dict[str, list[Path]], seen: set[str], *, is_base: bool) -> None:
    real = os.path.realpath(folder)
    if real in seen or not folder.is_dir():
        return
    seen.add(real)
    videos, folders, has_images = [], [], False
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, extension = os.path.splitext(entry.name)
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            elif extension.lower() in _files.VIDEO_EXTENSIONS:
                videos.append((stem, Path(entry.path)))
            has_images = has_images or extension.lower() in IMAGE_EXTENSIONS
    if has_images and not videos and not folders and not is_base:
        found.setdefault(folder.name, []).append(folder)
    for stem, path in videos:
        found.setdefault(stem, []).append(path)
    for inner in folders:
        _collect(inner, found, seen, is_base=False)


def seconds(text, where: str) -> float:
    """`12.5`, `01:12.5` or `00:01:12.50` (hours first) in seconds, at least 0.

    Raises DataError that names `where` (file:line) for anything else, NaN and infinities too.
    """
    parts = str(text).strip().split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    fits = 1 <= len(values) <= 3 and all(math.isfinite(v) and v >= 0 for v in values)
    if not fits or any(v >= 60 for v in values[1:]):
        raise DataError(
            f"{where}: {text!r} is no time; expected seconds from 0 on, such as 12.5, or HH:MM:SS.ss"
        )
    return sum(value * 60**power for power, value in enumerate(reversed(values)))


def segment(start, end, where: str) -> tuple[float, float]:
    """Both ends in seconds. Raises DataError that names `where` when it is empty or runs backwards."""
    first, last = seconds(start, where), seconds(end, where)
    if last <= first:
        raise DataError(
            f"{where}: the segment from {start} to {end} is empty or runs backwards; its end must lie after "
            "its start"
        )
    return first, last
