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

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,<=]*)\]")
_CALLED = re.compile(
    r"\b(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_CALLED_LISTS = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INTEGER = re.compile(r"[su](?:32|64)\[\]\S* constant\((\d+)\)")


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


@dataclasses.dataclass
class _Computation:
    # TPU's reduce-scatter: a fusion of an all-reduce and of taking one's part.
    scatters: bool = False
    operations: list[_Operation] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)
    limits: list[int] = dataclasses.field(default_factory=list)  # integer constants
    counts_up: bool = False  # compares with LT


def traffic(hlo: str, num_devices: int) -> dict[str, Traffic]:
    """{kind: Traffic} of KINDS that occur, from the text of a partitioned, compiled program.

    Loops count as often as they run, where the text tells; of conditionals every branch counts.
    """
    computations, entry = _read(hlo, num_devices)
    runs = _runs(computations, entry)
    # A transfer cut into pieces, or in copies of one loop, keeps its channel: it counts once.
    found: dict[tuple[str, str], tuple[int, bool, float]] = {}
    for name, computation in computations.items():
        times, unknown = runs.get(name, (0, False))
        for operation in computation.operations if times else ():
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


def _read(hlo: str, num_devices: int) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, current = "", _Computation()
    for number, line in enumerate(hlo.splitlines()):
        if header := _HEADER.match(line):
            scatters = header[2].startswith("all-reduce-scatter")
            current = computations[header[2]] = _Computation(scatters)
            entry = header[2] if header[1] else entry
        elif instruction := _INSTRUCTION.match(line):
            _add(current, *instruction.groups(), str(number), num_devices)
    _count_loops(computations)
    return computations, entry


def _add(current: _Computation, result: str, name: str, rest: str, where: str, num_devices: int):
    kind = name.removesuffix("-start")
    if kind in KINDS:
        channel = re.search(r"channel_id=(\d+)", rest)
        size, group = _size(result), _group_size(rest, num_devices)
        if kind == "all-reduce" and current.scatters:
            kind, size = "reduce-scatter", size / group
        size = _sent(kind, size, group, name != kind)
        current.operations.append(_Operation(kind, channel[1] if channel else f"@{where}", size))
    if limit := _INTEGER.match(f"{result} {name}({rest}"):
        current.limits.append(int(limit[1]))
    current.counts_up |= name == "compare" and "direction=LT" in rest
    times = None if name == "while" else 1
    if trip_count := _TRIP_COUNT.search(rest):
        times = int(trip_count[1])
    current.calls += [(called, times) for _, called in _CALLED.findall(rest)]
    for names in _CALLED_LISTS.findall(rest):
        current.calls += [(called.strip(" %"), times) for called in names.split(",")]


def _count_loops(computations: dict[str, _Computation]) -> None:
    """Gives loops without a noted trip count that of their condition, where it is plainly
    `i < constant`: jax counts its scans from 0, by ones."""
    for computation in computations.values():
        waiting = [name for name, times in computation.calls if times is None]
        # The condition and the body of a loop stand beside each other.
        for pair in zip(waiting[::2], waiting[1::2], strict=True):
            limit = next((n for n in (_limit(computations, name) for name in pair) if n), None)
            if limit:
                computation.calls = [
                    (name, limit if name in pair and times is None else times)
                    for name, times in computation.calls
                ]


def _limit(computations: dict[str, _Computation], name: str) -> int | None:
    condition = computations.get(name, _Computation())
    inner = [computations[called] for called, _ in condition.calls if called in computations]
    counts_up = condition.counts_up or any(c.counts_up for c in inner)
    plain = not condition.operations and len(condition.limits) == 1
    return condition.limits[0] if plain and counts_up and len(inner) <= 1 else None


def _runs(computations: dict[str, _Computation], entry: str) -> dict[str, tuple[int, bool]]:
    """How often each computation runs, and whether that is in a loop of unknown length."""
    runs = {entry: (1, False)}
    for name in reversed(computations):  # those that are called stand before their callers
        times, unknown = runs.get(name, (0, False))
        for called, factor in computations[name].calls if times else ():
            before, was_unknown = runs.get(called, (0, False))
            runs[called] = (
                before + times * (factor or 1),
                was_unknown or unknown or factor is None,
            )
    return runs


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


def _size(types: str) -> float:
    return sum(_bytes(dtype, shape) for dtype, shape in _ARRAY.findall(types))


def _bytes(dtype: str, shape: str) -> float:
    bits = re.match(r"[a-z]+(\d+)", dtype)
    each = int(bits[1]) / 8 if bits else float(dtype == "pred")
    return each * math.prod(int(n.strip("<=")) for n in shape.split(",") if n)


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
