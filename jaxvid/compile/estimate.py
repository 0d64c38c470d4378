"""From a compiled program and a data sheet to the time of a step: an estimate, not a promise."""

import dataclasses

from jaxvid.compile.program import Program
from jaxvid.metrics.chips import Chip


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of a step on one device: its products at the chip's peak, its memory traffic and its
    transfers at full bandwidth; `overlapped`, the longest of them, and `in_turn`, their sum.

    Memory traffic is what every operation reads and writes, also where that never leaves the chip's
    own small memory: there a step is quicker. Latencies, data and products of shapes that do not fill
    the chip are not in it: with them it is slower. peak_share_*: useful FLOPs over what the chip
    could do meanwhile.
    """

    products: float
    memory: float
    transfers: float
    overlapped: float
    in_turn: float
    peak_share_overlapped: float
    peak_share_in_turn: float


def estimate(program: Program, chip: Chip, *, done_flops: float, useful_flops: float) -> Estimate:
    """done_flops, useful_flops: of one device, with and without what is computed again."""
    products = done_flops / chip.bf16_flops
    memory = program.touched_bytes / chip.memory_bytes_per_second
    sent = sum(kind.bytes for kind in program.collectives.values())
    transfers = sent / chip.link_bytes_per_second
    overlapped, in_turn = max(products, memory, transfers), products + memory + transfers
    useful = useful_flops / chip.bf16_flops
    shares = (useful / overlapped, useful / in_turn)
    return Estimate(products, memory, transfers, overlapped, in_turn, *shares)
