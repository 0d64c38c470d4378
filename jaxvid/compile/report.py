"""What `--mode compile` found out, as plain values for JSON and as a table for people."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jaxvid.compile.estimate import Estimate
from jaxvid.compile.program import Program, TooLarge
from jaxvid.core.device_memory import what_helps
from jaxvid.metrics.chips import Chip

GIB = 2**30
_ROW = "{:<24s} {}"


@dataclasses.dataclass(frozen=True)
class Report:
    """program: of the recipe's batch. next_batch: bytes of a device for the batch that is put there
    while a step runs. memory_limit: bytes of a device; None where it is not known. done_flops,
    useful_flops: of a step over all devices, with and without what is computed again; useful is
    three times the forward pass, or fewer where parameters are frozen. largest_batch: clips, 0 where
    not even the smallest fits, None where it was not asked for. assumptions: what was taken for what
    could not be known."""

    recipe: str
    model: str
    parameters: int
    dtype: str
    device: str
    devices: int
    mesh: dict[str, int]
    batch_size: int
    clip: tuple[int, ...]
    program: Program | TooLarge
    next_batch: int
    memory_limit: int | None
    done_flops: int
    useful_flops: int
    chip: Chip | None = None
    estimate: Estimate | None = None
    largest_batch: int | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def memory(self) -> int | None:
        """Bytes that a device needs; None where the compiler did not say."""
        if isinstance(self.program, TooLarge):
            return self.program.memory
        return self.program.memory + self.next_batch

    @property
    def fits(self) -> bool:
        """Whether the recipe's batch does, as far as the device's memory is known."""
        if isinstance(self.program, TooLarge):
            return False
        return self.memory_limit is None or self.memory <= self.memory_limit

    def verdict(self) -> str:
        """A sentence."""
        need = "the compiler found no way to fit it" if self.memory is None else _gib(self.memory)
        limit = "unknown memory" if self.memory_limit is None else _gib(self.memory_limit)
        if not self.fits:
            return (
                f"does not fit: {need}, on {self.device} of {limit}. "
                f"{what_helps(on_cpu=self.device == 'cpu')}"
            )
        if self.memory_limit is None:
            return f"needs {need} a device; the memory of {self.device} is not known here"
        return (
            f"fits: {need} of the {limit} of {self.device} ({self.memory / self.memory_limit:.0%})"
        )

    def plain(self) -> dict[str, Any]:
        """For JSON: bytes, seconds, FLOPs; what is not known is None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts = ("program", "chip", "estimate")
        found = {name: fields.pop(name) for name in parts}
        result = {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
        result |= {name: v and dataclasses.asdict(v) for name, v in found.items()}
        return result | {"memory": self.memory, "fits": self.fits, "verdict": self.verdict()}

    def table(self) -> str:
        """Lines of text."""
        return "\n".join(_ROW.format(name, value).rstrip() for name, value in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        mesh = ", ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        yield "recipe", f"{self.recipe}: {self.model}, {self.parameters / 1e6:.1f}M parameters"
        yield "devices", f"{self.devices} × {self.device} ({mesh})"
        shape = "×".join(map(str, self.clip))
        each = self.batch_size / (self.devices // self.mesh.get("tensor", 1))
        yield "batch", f"{self.batch_size} clips of {shape}, {each:g} a device, in {self.dtype}"
        for line in self.assumptions:
            yield "assumed", line
        if isinstance(self.program, Program):
            yield from self._of_program(self.program)
        yield "FLOPs a clip", f"{_flops(self.useful_flops / self.batch_size)}, forward and backward"
        done = f"{_flops(self.done_flops)} as programmed, what is computed again included"
        yield "FLOPs a step", f"{_flops(self.useful_flops)}; {done}"
        if isinstance(self.program, Program) and self.estimate:
            yield from self._of_time(self.estimate)
        if self.largest_batch is not None:
            yield (
                "largest batch",
                f"{self.largest_batch} clips" if self.largest_batch else "none fits",
            )
        yield "verdict", self.verdict()

    def _of_program(self, program: Program) -> Iterator[tuple[str, str]]:
        yield "memory a device", _gib(self.memory)
        yield "  state and batch", _gib(program.arguments)
        yield "  next batch", _gib(self.next_batch)
        yield "  activations and such", _gib(program.temporaries + program.outputs)
        yield "  program", _gib(program.code)
        total = sum(sent.bytes for sent in program.collectives.values())
        yield "sent by a device", _gib(total) if total else "nothing"
        for kind, sent in program.collectives.items():
            unknown = sent.in_unknown_loops
            note = f" ({unknown} in loops of unknown length)" if unknown else ""
            yield f"  {kind}", f"{_gib(sent.bytes)}, {sent.count} times{note}"
        yield "compiled in", f"{program.seconds:.0f} s"

    def _of_time(self, time: Estimate) -> Iterator[tuple[str, str]]:
        parts = [f"{n} {_ms(getattr(time, n))}" for n in ("products", "memory", "transfers")]
        yield "at data-sheet rates", ", ".join(parts)
        yield (
            "a step, estimated",
            f"{_ms(time.overlapped)} if these overlap wholly, {_ms(time.in_turn)} if not",
        )
        clips = self.batch_size
        yield "  clips a second", f"{clips / time.overlapped:.0f}, or {clips / time.in_turn:.0f}"
        yield (
            "  share of peak",
            f"{time.peak_share_overlapped:.0%}, or {time.peak_share_in_turn:.0%}",
        )


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.2f} MiB"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _flops(count: float) -> str:
    scale, unit = (1e12, "TFLOP") if count >= 1e11 else (1e9, "GFLOP")
    return f"{count / scale:,.4g} {unit}"
