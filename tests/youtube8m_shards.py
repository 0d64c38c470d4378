"""Writes TFRecords of tf.Examples as YouTube-8M's, byte by byte: protocol buffers and framing by hand."""

import struct

import numpy as np


def varint(number):
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def block(field, data):
    """A length-delimited field."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def feature(values, *, packed=True):
    """A Feature of bytes, floats or integers, by the type of its values."""
    if isinstance(values[0], bytes):
        return block(1, b"".join(block(1, v) for v in values))
    if isinstance(values[0], float):
        each = [struct.pack("<f", v) for v in values]
        inner = block(1, b"".join(each)) if packed else b"".join(b"\x0d" + v for v in each)
        return block(2, inner)
    each = [varint(v) for v in values]
    inner = block(1, b"".join(each)) if packed else b"".join(b"\x08" + v for v in each)
    return block(3, inner)


def mapping(entries):
    return b"".join(block(1, block(1, k.encode()) + block(2, v)) for k, v in entries.items())


def example(context, sequences=None, **how):
    """{name: values} -> a tf.Example, or with {name: [values a step]} a tf.SequenceExample."""
    out = block(1, mapping({name: feature(v, **how) for name, v in context.items()}))
    if sequences:
        lists = {
            name: b"".join(block(1, feature(step, **how)) for step in steps)
            for name, steps in sequences.items()
        }
        out += block(2, mapping(lists))
    return out


def slow_crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked(data):
    crc = slow_crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write(path, records):
    """A TFRecord file of these bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for record in records:
            head = struct.pack("<Q", len(record))
            file.write(head + masked(head) + record + masked(record))
    return path


def video_level(name, labels, seed=0, sizes=(6, 2), key="id"):
    """(record, what its features are)"""
    rng = np.random.default_rng(seed)
    rgb, audio = (rng.normal(size=size).astype(np.float32) for size in sizes)
    context = {key: [name.encode()], "mean_rgb": rgb.tolist(), "mean_audio": audio.tolist()}
    if labels:
        context["labels"] = list(labels)
    return example(context), np.concatenate([rgb, audio])[None]


def frame_level(name, labels, frames=5, seed=0, sizes=(6, 2)):
    """(record, what it stores: uint8 (frames, D))"""
    rng = np.random.default_rng(seed)
    rgb, audio = (rng.integers(0, 256, (frames, size), dtype=np.uint8) for size in sizes)
    sequences = {"rgb": [[f.tobytes()] for f in rgb], "audio": [[f.tobytes()] for f in audio]}
    context = {"id": [name.encode()], "labels": list(labels)}
    return example(context, sequences), np.concatenate([rgb, audio], axis=1)
