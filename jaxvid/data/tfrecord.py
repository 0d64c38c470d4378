"""TFRecord files without TensorFlow: a length, its checksum, a record, its checksum, again and
again."""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from jaxvid.core.errors import DataError
from jaxvid.data.crc32c import masked_crc32c

_HEADER = struct.Struct("<QI")  # bytes of the record, masked CRC-32C of these eight bytes
_FOOTER = struct.Struct("<I")  # masked CRC-32C of the record


def scan(path: str | Path) -> Iterator[tuple[int, memoryview]]:
    """(where it begins in the file, the record) one after the other, mapped: only what is looked at is
    read from the disk, so the checksums of the records are not compared here (see `read`).

    Raises DataError for a file that cannot be read, is none, or ends within a record.
    """
    try:
        size = os.path.getsize(path)
        if not size:
            return
        with open(path, "rb") as file:
            # Never closed by hand: records that the caller keeps must stay readable.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise DataError(f"{path}: the TFRecord file cannot be read: {error.strerror}") from error
    place = 0
    while place < size:
        length = _length(path, place, bytes(data[place : place + _HEADER.size]))
        start = place + _HEADER.size
        if start + length + _FOOTER.size > size:
            raise DataError(
                f"{path}: the file ends within the record at byte {place}; it was not copied or "
                "downloaded whole, get it again"
            )
        yield place, data[start : start + length]
        place = start + length + _FOOTER.size


def read(path: str | Path, place: int) -> bytes:
    """The record that begins at this byte, both checksums compared.

    Raises DataError for a file that cannot be read, has no record there, or a damaged one.
    """
    try:
        with open(path, "rb") as file:
            file.seek(place)
            length = _length(path, place, file.read(_HEADER.size))
            record, footer = file.read(length), file.read(_FOOTER.size)
    except OSError as error:
        raise DataError(f"{path}: the TFRecord file cannot be read: {error.strerror}") from error
    if len(record) < length or footer != _FOOTER.pack(masked_crc32c(record)):
        raise DataError(
            f"{path}: the record at byte {place} is damaged, its checksum is another; get the file again"
        )
    return record


def _length(path: str | Path, place: int, header: bytes) -> int:
    """Bytes of the record; DataError where no record begins."""
    if len(header) == _HEADER.size:
        length, checksum = _HEADER.unpack(header)
        if checksum == masked_crc32c(header[:8]):
            return length
    raise DataError(
        f"{path}: no record begins at byte {place}: it is no TFRecord file (compressed ones are to be "
        "unpacked first), or damaged"
    )
