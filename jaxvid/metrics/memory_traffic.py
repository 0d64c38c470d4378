"""What a compiled program reads from and writes to memory, from its HLO text.

    touched_bytes(compiled.as_text())

As the compiler counts it (XLA's HloCostAnalysis): each operation reads its operands and writes its
result, a fusion is one operation, and slices touch only what they take or replace. Other than there,
loops count as often as they run, what is copied or cut out meanwhile (copy-start … copy-done,
slice-start … slice-done) counts once, and buffers that are only made, or joined where they lie, do not.
"""

from collections.abc import Iterator

from jaxvid.metrics import hlo

# These run other computations, whose operations count instead.
_RUNNING = ("while", "call", "conditional", "async-start")
# These move nothing.
_NAMING = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "opt-barrier")
_NAMING += ("after-all", "partition-id", "replica-id", "async-update")
_NAMING_CALLS = ('="AllocateBuffer"', '="ConcatBitcast"')  # custom_call_target, of TPUs
# Their result holds the operands too.
_HOLDING = ("copy-start", "all-gather-start", "collective-permute-start")
_TAKING = ("dynamic-slice", "slice", "gather")


def touched_bytes(text: str) -> float:
    """Of one device and one run of a compiled program, in bytes, padding of tiles included.

    Loops of a length that the text does not tell count once; of conditionals every branch counts.
    """
    module = hlo.parse(text)
    runs = module.runs()
    return sum(
        runs[computation.name][0] * _of_operation(module, computation, x)
        for computation in _run_by_itself(module)
        for x in computation.instructions.values()
    )


def _run_by_itself(module: hlo.Module) -> Iterator[hlo.Computation]:
    """The computations that are no part of an operation, such as a fusion or a reduction."""
    waiting, seen = [module.entry], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        yield module.computations[name]
        for x in module.computations[name].instructions.values():
            waiting += x.called if x.opcode in _RUNNING else ()


def _of_operation(module: hlo.Module, computation: hlo.Computation, x: hlo.Instruction) -> float:
    if x.opcode in _RUNNING or x.opcode in _NAMING or x.opcode.endswith("-done"):
        return 0.0
    if x.opcode == "custom-call" and any(target in x.rest for target in _NAMING_CALLS):
        return 0.0
    result = hlo.padded_size(x.type)
    if x.opcode in _TAKING:
        return 2 * result
    operands = [hlo.padded_size(computation.instructions[name].type) for name in x.operands]
    if x.opcode == "slice-start":  # its result: the operand, what is taken, a flag
        return 2 * (result - operands[0])
    if x.opcode == "dynamic-update-slice":
        return 2 * operands[1]
    if x.opcode in _HOLDING:
        return result
    if x.opcode == "fusion":
        fused = module.computations[x.called[0]]
        read = sum(_read(module, fused, index, whole) for index, whole in enumerate(operands))
        return read + _written(module, fused, fused.root)
    return sum(operands) + result


def _read(module: hlo.Module, fused: hlo.Computation, index: int, whole: float) -> float:
    """Bytes that a fusion reads of its operand `index`, of `whole`."""
    start = f"{index})"
    for x in fused.instructions.values():
        if x.opcode == "parameter" and x.rest.startswith(start):
            return min(whole, _taken(module, fused, x.name, whole))
    return whole


def _taken(module: hlo.Module, fused: hlo.Computation, name: str, whole: float) -> float:
    total = 0.0
    for x, index in fused.users.get(name, ()):
        if x.opcode in _TAKING and index == 0:
            total += hlo.padded_size(x.type)
        elif x.opcode == "bitcast":
            total += _taken(module, fused, x.name, whole)
        elif x.opcode == "fusion":
            total += _read(module, module.computations[x.called[0]], index, whole)
        elif x.opcode != "tuple" and (x.opcode != "dynamic-update-slice" or index):
            return whole
    return total


def _written(module: hlo.Module, fused: hlo.Computation, x: hlo.Instruction) -> float:
    """Bytes of a fusion's result that are new."""
    operands = [fused.instructions[name] for name in x.operands]
    if x.opcode == "tuple":
        return sum(_written(module, fused, part) for part in operands)
    if x.opcode == "bitcast":
        return _written(module, fused, operands[0])
    if x.opcode == "dynamic-update-slice":
        return hlo.padded_size(operands[1].type)
    if x.opcode == "fusion":
        inner = module.computations[x.called[0]]
        return _written(module, inner, inner.root)
    return hlo.padded_size(x.type)
