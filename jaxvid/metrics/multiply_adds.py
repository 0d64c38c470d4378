"""The work of a model as papers count it: multiply-adds of its matrix products and convolutions.

    multiply_adds(lambda x: model.apply(variables, {"video": x}, train=False), video)

Papers' "GFLOPs" are billions of these; the hardware's FLOPs are twice as many. As fvcore and its kin
do, additions, normalisations, activations and pooling are left out, and padding is counted as if it
were input. The function is traced on shapes, never run.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

# Primitives that run one program once, under the names of jax 0.7 to 0.11. Those with a rule of their
# own for derivatives have the plain function here and the rule elsewhere.
CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)


def multiply_adds(function: Callable, *args: Any) -> int:
    """Multiply-adds of function(*args), for all items of the batch together.

    args: trees of arrays or of jax.ShapeDtypeStruct. What is computed counts, also where the result
    does not use it. A scan counts as often as it loops. Where the platform decides between forms of
    the same thing (jax.lax.platform_dependent) the default's count: numbers of the architecture, not
    of the machine. Of other branches (jax.lax.cond, switch) the one of most work counts.

    Raises ValueError where products stand inside something whose number of runs is not known: a
    `while` loop, or a primitive that calls others and is unknown here.
    """
    return _of_program(jax.make_jaxpr(function)(*args))


def _of_program(program: Any) -> int:
    """program: a jaxpr, closed or open."""
    program = getattr(program, "jaxpr", program)
    total = 0
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _of_product(equation)
        elif name == "conv_general_dilated":
            total += _of_convolution(equation)
        elif name == "scan":
            total += params["length"] * _of_program(params["jaxpr"])
        elif name == "shard_map":
            total += _shards(equation) * _of_program(params["jaxpr"])
        elif name == "cond":
            total += _of_branches(params["branches"], params.get("branches_platforms"))
        else:
            total += _of_call(name, params)
    return total


def _of_product(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return _size(equation.outvars[0]) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation) -> int:
    kernel = equation.invars[1].aval.shape
    of_outputs = equation.params["dimension_numbers"].rhs_spec[0]
    # What is left of the kernel is its window times the channels of one group.
    each = math.prod(size for axis, size in enumerate(kernel) if axis != of_outputs)
    return _size(equation.outvars[0]) * each


def _shards(equation) -> int:
    """Over how many devices a shard_map divides what it is given; the others do the same again."""
    inner = getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"]).invars
    pairs = zip(map(_size, equation.invars), map(_size, inner), strict=True)
    return max((whole // part for whole, part in pairs if part), default=1)


def _of_branches(branches, platforms: tuple | None) -> int:
    """platforms: of each branch where the platform decides, ("cpu",) or None for the default."""
    counts = [_of_program(branch) for branch in branches]
    if platforms is None:
        return max(counts)
    # Without a default, the form of an accelerator.
    other = [i for i, names in enumerate(platforms) if names is None or "cpu" not in names]
    return counts[platforms.index(None) if None in platforms else (other or [0])[0]]


def _of_call(name: str, params: Mapping[str, Any]) -> int:
    total = sum(map(_of_program, _programs(params)))
    if total and name == "while":
        raise ValueError(
            "multiply_adds: there are products inside a `while` loop, and how often it runs is not "
            "known before it does; use jax.lax.scan, or fori_loop with a fixed number of steps"
        )
    if total and name not in CALLS:
        raise ValueError(
            f"multiply_adds: there are products inside {name!r}, which is not known here; known: "
            f"scan, cond, {', '.join(CALLS)}"
        )
    return total


def _programs(params: Mapping[str, Any]) -> list:
    """The jaxprs among the parameters of a primitive."""
    values = [
        part
        for value in params.values()
        for part in (value if isinstance(value, tuple | list) else [value])
    ]
    return [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]


def _size(variable) -> int:
    return math.prod(variable.aval.shape)
