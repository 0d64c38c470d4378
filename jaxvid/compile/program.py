"""A step compiled ahead of time: what a device must hold, compute and send for it."""

import dataclasses
import os
import re
import time
from collections.abc import Mapping

import jax

from jaxvid.core.device_memory import is_full
from jaxvid.metrics.collectives import Traffic, traffic
from jaxvid.metrics.memory_traffic import touched_bytes

# How the TPU's compiler says that a program does not fit: what it needs, what there is.
_TOO_LARGE = (
    re.compile(r"\((?P<need>[\d.]+[KMGT]?)\) exceeds available HBM \((?P<limit>[\d.]+[KMGT]?)\)"),
    re.compile(r"Used (?P<need>[\d.]+[KMGT]?) of (?P<limit>[\d.]+[KMGT]?) hbm"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
    """Of one device and one step, in bytes.

    arguments: state and batch. outputs: what does not take the place of an argument. temporaries:
    activations, gradients, buffers of transfers. code: the program itself. touched_bytes: of memory
    reads and writes; collectives: what is sent, by kind; in both loops count as often as they run.
    seconds: of compilation.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    touched_bytes: float
    collectives: Mapping[str, Traffic]
    seconds: float

    @property
    def memory(self) -> int:
        return self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """The compiler found no way to fit the program. memory, limit: bytes, None where it did not say;
    memory is of the temporaries alone or of everything, as its message (reason) tells."""

    memory: int | None
    limit: int | None
    reason: str


def compile_program(
    traced: jax.stages.Traced, num_devices: int, platform: str | None = None
) -> Program | TooLarge:
    """platform: "tpu" for devices that are not here; None for those that are."""
    began = time.perf_counter()
    platforms = None if platform is None else (platform,)
    try:
        compiled = traced.lower(lowering_platforms=platforms).compile()
    except jax.errors.JaxRuntimeError as error:
        if not is_full(error):
            raise
        return too_large(str(error))
    sizes, text = compiled.memory_analysis(), compiled.as_text()
    return Program(
        arguments=sizes.argument_size_in_bytes,
        outputs=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        temporaries=sizes.temp_size_in_bytes,
        code=sizes.generated_code_size_in_bytes,
        touched_bytes=touched_bytes(text),
        collectives=traffic(text, num_devices),
        seconds=time.perf_counter() - began,
    )


def too_large(message: str) -> TooLarge:
    """From the compiler's words."""
    for pattern in _TOO_LARGE:
        if match := pattern.search(message):
            return TooLarge(_bytes(match["need"]), _bytes(match["limit"]), message)
    return TooLarge(None, None, message)


def _bytes(text: str) -> int:
    unit = _UNITS.get(text[-1], 1)
    return int(float(text.rstrip("".join(_UNITS))) * unit)


def memory_limit() -> int | None:
    """Bytes that programs may use on each device that is here; of CPUs, that share the machine's
    memory, an equal part. None where devices do not tell."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return machine // jax.local_device_count("cpu")
    return (device.memory_stats() or {}).get("bytes_limit")
