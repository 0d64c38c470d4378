"""What a compiled program sends between devices, read from its HLO text.

    traffic(compiled.as_text(), num_devices=8)["all-reduce"].bytes

Bytes are what one device sends in one run of the program, counted as ring algorithms send them among
the n devices of a group: of a buffer of S bytes, all-reduce 2 S (n - 1)/n, all-gather (of the result),
reduce-scatter (of the operand) and all-to-all S (n - 1)/n, collective-permute S.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from jaxvid.metrics import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Of one kind: how often in a run, the bytes a device sends, and how many of these operations
    stand in loops of unknown length, where each was counted once."""

    count: int = 0
    bytes: float = 0.0
    in_unknown_loops: int = 0


@dataclasses.dataclass(frozen=True)
class _Operation:
    kind: str
    channel: str  # one transfer: asynchronous ones stand in the text several times
    bytes: float


def traffic(text: str, num_devices: int) -> dict[str, Traffic]:
    """{kind: Traffic} of KINDS that occur, from the text of a partitioned, compiled program.

    Loops count as often as they run, where the text tells; of conditionals every branch counts.
    """
    module = hlo.parse(text)
    # A transfer cut into pieces, or in copies of one loop, keeps its channel: it counts once.
    found: dict[tuple[str, str], tuple[int, bool, float]] = {}
    for name, (times, unknown) in module.runs().items():
        for operation in _operations(module.computations[name], num_devices):
            key = (operation.kind, operation.channel)
            this = (times, unknown, operation.bytes)
            found[key] = max(found.get(key, this), this, key=lambda x: x[0] * x[2])
    result: dict[str, Traffic] = {}
    for (kind, _), (times, unknown, size) in found.items():
        old = result.get(kind, Traffic())
        result[kind] = Traffic(
            old.count + times, old.bytes + times * size, old.in_unknown_loops + unknown
        )
    return {kind: result[kind] for kind in KINDS if kind in result}


def _operations(computation: hlo.Computation, num_devices: int) -> Iterator[_Operation]:
    # TPU's reduce-scatter: a fusion of an all-reduce and of taking one's part.
    scatters = computation.name.startswith("all-reduce-scatter")
    for x in computation.instructions.values():
        kind = x.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        channel = re.search(r"channel_id=(\d+)", x.rest)
        size, group = hlo.size(x.type), _group_size(x.rest, num_devices)
        if kind == "all-reduce" and scatters:
            kind, size = "reduce-scatter", size / group
        size = _sent(kind, size, group, x.opcode.endswith("-start"))
        yield _Operation(kind, channel[1] if channel else f"@{computation.name}/{x.name}", size)


def _sent(kind: str, size: float, group: int, is_start: bool) -> float:
    """size: bytes of all that stands in the operation's result."""
    if kind == "all-reduce":
        return 2 * size * (group - 1) / group
    if kind == "all-gather":  # the result of its start holds the operand too, a part of the whole
        whole = size * group / (group + 1) if is_start else size
        return whole * (group - 1) / group
    if kind == "reduce-scatter":
        return size * (group - 1)
    if kind == "all-to-all":
        return size * (group - 1) / group
    return size / 2 if is_start else size


def _group_size(rest: str, num_devices: int) -> int:
    """Devices that exchange with each other; three ways of writing the groups."""
    groups = re.search(r"replica_groups=(.*)", rest)
    return next(_group_sizes(groups[1] if groups else ""), num_devices)


def _group_sizes(text: str) -> Iterator[int]:
    if listed := re.match(r"\{\{([\d,]+)\}", text):  # {{0,1},{2,3}}
        yield len(listed[1].split(","))
    elif iota := re.match(r"\[\d+,(\d+)\]", text):  # [groups,size]<=[…]
        yield int(iota[1])
    elif mesh := re.match(r"mesh\[([^\]]*)\].*?\{('[^}]*)\}", text):  # mesh['a'=2,'b'=4] {'b'}
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])  # 'b':(1)2 is a part of b
        yield math.prod(int(part or sizes[axis]) for axis, part in axes)
