"""The text of a compiled program (HLO), read: its computations, what each holds, how often each runs.

module = parse(compiled.as_text())
module.runs()["body"]  # (times, whether that is in a loop of unknown length)
"""

import dataclasses
import functools
import math
import re

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?)?")
_CALLED = re.compile(
    r"\b(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_CALLED_LISTS = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INTEGER = re.compile(r"[su](?:32|64)\[\]")
_CONSTANT = re.compile(r"(\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`name = type opcode(rest`, as it stands in a line of the text."""

    name: str
    type: str
    opcode: str
    rest: str

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the instructions whose results it takes, in order."""
        return tuple(_NAME.findall(self.rest[: _closing(self.rest)]))

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs; of a `while` the condition and the body."""
        lists = (names.split(",") for names in _CALLED_LISTS.findall(self.rest))
        listed = (name.strip(" %") for names in lists for name in names)
        return (*(name for _, name in _CALLED.findall(self.rest)), *listed)


@dataclasses.dataclass
class Computation:
    """Its instructions by name, in the order in which they run."""

    name: str
    instructions: dict[str, Instruction] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def users(self) -> dict[str, list[tuple[Instruction, int]]]:
        """Of each instruction: those that take its result, and as which operand."""
        found: dict[str, list[tuple[Instruction, int]]] = {}
        for x in self.instructions.values():
            for index, operand in enumerate(x.operands):
                found.setdefault(operand, []).append((x, index))
        return found

    @property
    def root(self) -> Instruction:
        """What gives its result: compiled text puts it last."""
        return next(reversed(self.instructions.values()))


@dataclasses.dataclass(frozen=True)
class Module:
    """computations by name, those that are called before their callers; entry: the program's name."""

    computations: dict[str, Computation]
    entry: str

    def trip_count(self, loop: Instruction) -> int | None:
        """How often a `while` runs its body, where the text tells: as the compiler noted it, or where
        its condition is plainly `i < constant`, for jax counts its scans from 0, by ones."""
        if noted := _TRIP_COUNT.search(loop.rest):
            return int(noted[1])
        condition = _CONDITION.search(loop.rest)
        return self._limit(condition[1]) if condition else None

    def _limit(self, condition: str) -> int | None:
        own = list(self.computations[condition].instructions.values())
        inner = [c for x in own for c in x.called if c in self.computations]
        nested = [x for c in inner for x in self.computations[c].instructions.values()]
        counts_up = any(x.opcode == "compare" and "direction=LT" in x.rest for x in (*own, *nested))
        limits = [
            int(value[1])
            for x in own
            if x.opcode == "constant"
            and _INTEGER.match(x.type)
            and (value := _CONSTANT.match(x.rest))
        ]
        return limits[0] if counts_up and len(limits) == 1 and len(inner) <= 1 else None

    def runs(self) -> dict[str, tuple[int, bool]]:
        """How often each computation runs, and whether that is in a loop of unknown length, where it
        counts once. Of conditionals every branch counts. What never runs is left out."""
        found = {self.entry: (1, False)}
        for name in reversed(self.computations):
            times, unknown = found.get(name, (0, False))
            for x in self.computations[name].instructions.values() if times else ():
                factor = self.trip_count(x) if x.opcode == "while" else 1
                for called in x.called:
                    before, was_unknown = found.get(called, (0, False))
                    found[called] = (
                        before + times * (factor or 1),
                        was_unknown or unknown or factor is None,
                    )
        return found


def parse(text: str) -> Module:
    """text: of a compiled program, compiled.as_text()."""
    computations: dict[str, Computation] = {}
    entry, current = "", Computation("")
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations[header[2]] = Computation(header[2])
            entry = header[2] if header[1] else entry
        elif instruction := _INSTRUCTION.match(line):
            current.instructions[instruction[1]] = Instruction(*instruction.groups())
    return Module(computations, entry)


def size(types: str) -> float:
    """Bytes of the arrays of a type: `f32[4,8]{1,0}`, or `(bf16[2], s32[])`. Padding is left out."""
    return sum(_each(x[0]) * math.prod(_shape(x[1])) for x in _ARRAY.findall(types))


def padded_size(types: str) -> float:
    """The same as they lie in memory, where TPUs fill up tiles: `f32[3,8]{1,0:T(8,128)}`."""
    total = 0.0
    for dtype, dims, order, tile in _ARRAY.findall(types):
        shape = _shape(dims)
        # The tile is of the axes that change fastest, which the order names first.
        axes = [int(axis) for axis in order.split(",") if axis]
        for axis, side in zip(axes, reversed(_shape(tile)), strict=False):
            shape[axis] = -(-shape[axis] // side) * side
        total += _each(dtype) * math.prod(shape)
    return total


def _shape(dims: str) -> list[int]:
    return [int(n.strip("<=")) for n in dims.split(",") if n]


def _each(dtype: str) -> float:
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return int(bits[1]) / 8 if bits else float(dtype == "pred")


def _closing(text: str) -> int:
    """Where the bracket ends that was opened before the text."""
    depth = 1
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    return len(text)
