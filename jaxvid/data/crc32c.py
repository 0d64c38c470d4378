"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), in numpy: what TFRecords are guarded with.

A checksum is linear over bits, so that of a long text is put together from those of its parts: all
parts of 64 bytes are worked through side by side, then pairs of neighbours become one, again and again.
"""

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bits reversed
_PART = 64  # bytes


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of `data`, 0..2^32 - 1."""
    text = np.frombuffer(data, np.uint8)
    if len(text) < 4:
        return _one_by_one(text.tolist())
    parts = 1 << (-(-len(text) // _PART) - 1).bit_length()  # a power of two
    padded = np.zeros((parts, _PART), np.uint8)  # zeros in front change nothing from a state of 0
    flat = padded.reshape(-1)
    flat[-len(text) :] = text
    flat[len(flat) - len(text) :][:4] ^= 0xFF  # the same as starting from all ones
    table = _table()
    states = np.zeros(parts, np.uint32)
    for column in padded.T:
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    level = 0
    while len(states) > 1:
        states = _behind(states[::2], level) ^ states[1::2]
        level += 1
    return int(states[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as TFRecords store it, rotated and shifted by a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _one_by_one(text: list[int]) -> int:
    state = 0xFFFFFFFF
    for byte in text:
        state = int(_table()[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    """uint32 (256,): the state after one byte."""
    states = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = np.where(states & 1, (states >> 1) ^ np.uint32(_POLYNOMIAL), states >> 1)
    return states.astype(np.uint32)


def _behind(states: np.ndarray, level: int) -> np.ndarray:
    """The states after a further _PART · 2^level bytes of zeros."""
    tables = _zeros(level)
    result = tables[0][states & 0xFF]
    for i in range(1, 4):
        result = result ^ tables[i][(states >> np.uint32(8 * i)) & 0xFF]
    return result


@functools.cache
def _zeros(level: int) -> np.ndarray:
    """uint32 (4, 256): what each byte of a state becomes behind _PART · 2^level zeros."""
    bytes_ = np.arange(256, dtype=np.uint32)
    states = np.stack([bytes_ << np.uint32(8 * i) for i in range(4)])
    if level:
        return _behind(_behind(states, level - 1), level - 1)
    for _ in range(_PART):
        states = _table()[states & 0xFF] ^ (states >> 8)
    return states
