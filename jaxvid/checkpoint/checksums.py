"""A checksum of every file of a checkpoint, so that a flipped byte is an error and not other weights.

Buckets keep and compare checksums of their objects themselves; these are for folders.
"""

import json
import zlib
from pathlib import Path

from jaxvid.core.files import write_json

NAME = "checksums.json"
# Orbax stamps this file when it gives the checkpoint its final name.
_WRITTEN_LATER = "_CHECKPOINT_METADATA"
_CHUNK = 1 << 24


def write(folder: Path) -> None:
    """Writes checksums.json, {file: [bytes, CRC-32]}, of all files under `folder`. Raises OSError."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    sums = {
        path.relative_to(folder).as_posix(): _measure(path)
        for path in files
        if path.name not in (NAME, _WRITTEN_LATER)
    }
    write_json(folder / NAME, sums)


def find_damage(folder: Path) -> str | None:
    """What differs from what was written, in words; None when nothing does, or nothing is known (a
    checkpoint of an older version)."""
    table = folder / NAME
    if not table.is_file():
        return None
    try:
        expected = json.loads(table.read_bytes())
    except ValueError:
        return f"{NAME} is no JSON"
    for name, (size, crc) in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        there, found = _measure(path)
        if there != size:
            return f"{name} has {there} bytes, {size} were written"
        if found != crc:
            return f"{name} does not hold what was written: CRC-32 {found}, then {crc}"
    return None


def _measure(path: Path) -> tuple[int, str]:
    """(bytes, CRC-32 as eight hexadecimal digits)."""
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, f"{crc:08x}"
