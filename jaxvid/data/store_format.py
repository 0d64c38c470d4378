"""What a prepared store looks like on disk: a folder that can be copied to any machine.

    STORE/store.json                   how it was made: Settings
    STORE/shards/TIME-X.array_record   frames of some videos, one JPEG a record
    STORE/shards/TIME-X.json           which videos these are, and where: StoredVideo
    STORE/index/SPLIT-X.jsonl          the clips of a split and their labels: data/store_index.py

A shard without its .json does not count: it is written last, so a run that was killed leaves
nothing half. Where two shards hold the same video the later one counts. Record 0 of a shard says
how it was made. The sound of a video, if it was asked for, follows its frames: 16-bit PCM, one
channel, AUDIO_SECONDS a record (a thirtieth of the frames' bytes, and quicker to read than any
codec). Where optical flow was asked for, each frame is followed by its own (data/stored_flow.py).
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Self

from jaxvid.core.errors import DataError
from jaxvid.core.files import write_json
from jaxvid.core.record import VideoMeta

VERSION = 1
SETTINGS_FILE, SHARDS = "store.json", "shards"
RECORDS = ".array_record"
AUDIO_SECONDS = 10
NO_FLOW = "none"
_ENDS = 65536  # bytes of a file's start and of its end that tell whether it is the same file


@dataclasses.dataclass(frozen=True)
class Settings:
    """How all videos of a store were made.

    dataset: its name. root: folder to which the names of the videos are relative, as it was then.
    short_side: pixels, None: as in the files. quality: of the JPEGs (decode/jpeg.py). decoder:
    that read the files. audio_rate: samples a second, 0: no sound was kept. flow: method of
    decode/flow.py, or "none".
    """

    dataset: str
    root: str
    short_side: int | None
    quality: int
    decoder: str
    audio_rate: int = 0
    flow: str = NO_FLOW

    def write(self, folder: Path, made_by: dict) -> None:
        """As store.json, with the version and `made_by` for people to read."""
        told = {"version": VERSION, **dataclasses.asdict(self), "made_by": made_by}
        write_json(Path(folder) / SETTINGS_FILE, told)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises DataError for a folder that holds no store, or one of a later version."""
        path = Path(folder) / SETTINGS_FILE
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:
            raise DataError(
                f"{folder}: no store is there ({SETTINGS_FILE} is missing); make one with: "
                "jaxvid data prepare"
            ) from None
        except ValueError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not isinstance(told, dict) or told.get("version") != VERSION:
            version = told.get("version") if isinstance(told, dict) else None
            raise DataError(
                f"{path}: the store has version {version!r}, this jaxvid reads {VERSION}; "
                "prepare it again, or read it with the jaxvid that made it"
            )
        fields = [f for f in dataclasses.fields(cls) if f.name != "flow" or "flow" in told]
        return cls(**{f.name: told[f.name] for f in fields})


@dataclasses.dataclass(frozen=True)
class StoredVideo:
    """Where one video lies in a shard, and its facts.

    key: its name, see `key_of`. digest: see `digest_of`. first: record of frame 0; its num_frames
    frames follow each other, then its sound. missing: how many of the last frames are repeats of
    one. records_a_frame: 2 where each frame is followed by its flow. audio_records: 0 for none.
    failed: why it could not be decoded, "" if it could. The rest as in VideoMeta.
    """

    key: str
    digest: str
    first: int = 0
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    duration_seconds: float = 0.0
    rotation_degrees: int = 0
    missing: int = 0
    audio_records: int = 0
    records_a_frame: int = 1
    failed: str = ""
    frame_seconds: Sequence[float] = ()

    @property
    def meta(self) -> VideoMeta:
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(VideoMeta)}
        return VideoMeta(**facts | {"frame_seconds": tuple(self.frame_seconds)})  # JSON's are lists


def write_shard_list(records_file: Path, videos: list[StoredVideo], num_records: int) -> None:
    """The .json of a shard, which makes it count."""
    told = {"records": num_records, "videos": [dataclasses.asdict(v) for v in videos]}
    write_json(records_file.with_suffix(".json"), told)


def read_shard_lists(folder: Path) -> dict[str, tuple[StoredVideo, str]]:
    """{key: (video, name of its shard)} of all shards. Raises DataError where a list is damaged or
    its shard is missing."""
    shards = Path(folder) / SHARDS
    lists = sorted(shards.glob("*.json")) if shards.is_dir() else []
    found = {}
    for path in lists:
        if not path.with_suffix(RECORDS).is_file():
            raise DataError(
                f"{path.with_suffix(RECORDS)}: the shard is missing, its list {path.name} is there; "
                "copy the store again, or remove the list and prepare again"
            )
        try:
            videos = [StoredVideo(**told) for told in json.loads(path.read_text())["videos"]]
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: the list of a shard is damaged ({error})") from error
        found |= {video.key: (video, path.stem) for video in videos}
    return found


def key_of(path: str | os.PathLike, root: str | os.PathLike) -> str:
    """A video's name in the store: its path relative to the set's root with "/" between folders, or
    the whole path where it lies elsewhere."""
    whole, base = os.path.abspath(path), os.path.join(os.path.abspath(root), "")
    return PurePath(whole.removeprefix(base)).as_posix()


def digest_of(path: str | os.PathLike) -> str:
    """Tells one content from another: the hash of a file's size, start and end; of a folder of frames
    "NAMES-PIXELS", the hash of their names and sizes, and that of the first 64 KiB of the first, the
    middle and the last (many formats give all frames one size). Raises OSError."""
    if os.path.isdir(path):
        return _frames_digest(Path(path))
    hashed = hashlib.blake2b(digest_size=12)
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        hashed.update(str(size).encode())
        for start in (0, max(0, size - _ENDS)):
            file.seek(start)
            hashed.update(file.read(_ENDS))
    return hashed.hexdigest()


def same_content(path: str | os.PathLike, kept: str) -> bool:
    """Whether a file, or folder of frames, has the digest that a store kept of it. Older stores kept
    NAMES alone of frames, which then decides, so that they need not be made anew. Raises OSError."""
    now = digest_of(path)
    return kept == (now if "-" in kept else now.partition("-")[0])


def _frames_digest(folder: Path) -> str:
    names, frames = hashlib.blake2b(digest_size=12), hashlib.blake2b(digest_size=12)
    with os.scandir(folder) as entries:
        found = sorted((e.name, e.stat().st_size, e.is_file()) for e in entries)
    for name, size, _ in found:
        names.update(f"{name}\n{size}\n".encode())
    files = [name for name, _, is_file in found if is_file]
    for name in files and (files[0], files[len(files) // 2], files[-1]):
        with open(folder / name, "rb") as file:
            frames.update(file.read(_ENDS))
    return f"{names.hexdigest()}-{frames.hexdigest()}"
