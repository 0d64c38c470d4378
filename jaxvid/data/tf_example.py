"""tf.Example and tf.SequenceExample, read from the wire format of protocol buffers without TensorFlow.

    context, sequences = parse(record)
    int64s(context["labels"])                     # what stands once
    [byte_strings(f) for f in features(sequences["rgb"])]    # what stands for each frame

Nothing is decoded before it is asked for. Raises ValueError throughout for bytes that are none; the
caller knows which file they are from.
"""

from collections.abc import Iterator

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_KINDS = {_BYTES_LIST: "bytes", _FLOAT_LIST: "floats", _INT64_LIST: "integers"}


def parse(record: bytes | memoryview) -> tuple[dict[str, memoryview], dict[str, memoryview]]:
    """({name: Feature}, {name: FeatureList}) still encoded; the second is empty for a tf.Example, which
    is written as a tf.SequenceExample without sequences."""
    context, sequences = {}, {}
    for number, value in _fields(memoryview(record)):
        if number == 1:
            context |= _map(value)
        elif number == 2:
            sequences |= _map(value)
    return context, sequences


def features(feature_list: memoryview) -> list[memoryview]:
    """The Features of a FeatureList, one a step of the sequence."""
    return [value for number, value in _fields(feature_list) if number == 1]


def byte_strings(feature: memoryview) -> list[bytes]:
    """The values of a Feature that holds bytes."""
    return [bytes(value) for value in _values(feature, _BYTES_LIST)]


def floats(feature: memoryview) -> np.ndarray:
    """float32 (n,) of a Feature that holds floats."""
    values = [bytes(value) for value in _values(feature, _FLOAT_LIST)]  # packed, or four bytes each
    return np.frombuffer(b"".join(values), "<f4").astype(np.float32)


def int64s(feature: memoryview) -> np.ndarray:
    """int64 (n,) of a Feature that holds integers."""
    found = []
    for value in _values(feature, _INT64_LIST):
        if isinstance(value, int):
            found.append(value)
            continue
        place = 0
        while place < len(value):
            number, place = _varint(value, place)
            found.append(number)
    return np.array(found, np.uint64).astype(np.int64)  # negative ones are stored modulo 2^64


def _values(feature: memoryview, kind: int) -> list:
    values = []
    for number, inner in _fields(feature):
        if number != kind:
            raise ValueError(
                f"it holds {_KINDS.get(number, 'an unknown kind')}, not {_KINDS[kind]}"
            )
        values += [value for field, value in _fields(inner) if field == 1]
    return values


def _map(message: memoryview) -> dict[str, memoryview]:
    """A protocol buffers' map<string, message> that is field 1 of a message."""
    found = {}
    for number, entry in _fields(message):
        if number == 1:
            parts = dict(_fields(entry))
            found[bytes(parts.get(1, b"")).decode()] = parts.get(2, memoryview(b""))
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, its integer or its bytes) of a message."""
    if isinstance(message, int):
        raise ValueError("an integer stands where a message is expected")  # noqa: TRY004 (bytes)
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} is not one of protocol buffers'")
        if place + length > end:
            raise ValueError(f"a field of {length} bytes has {end - place}")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """(the number, the place behind it)"""
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("an integer has no end")
