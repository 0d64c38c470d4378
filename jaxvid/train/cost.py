"""What a step costs: its share of what the chips could do, and the memory it takes of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxvid.metrics.chips import chip_of
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.sharding.topology import devices_per_chip


def make_forward(prepare: Callable, apply: Callable) -> Callable:
    """The forward pass of train/step.py: (state, batch) -> outputs."""

    def forward(state, batch):
        rng = jax.random.wrap_key_data(state.rng)
        inputs, _ = prepare(rng, batch)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return apply(variables, inputs, rng)[0]

    return forward


def useful_flops(forward: Callable, state: Any, batch: Any, partly: Callable | None = None) -> int:
    """Of a step over the whole batch: three times those of the products of its forward pass, two a
    multiply-add. That is what a step takes that trains everything and computes nothing twice.

    partly: the step (state, batch) -> … of a model with frozen parameters, which takes fewer: no more
    than its own count. state, batch: arrays or shapes. Raises ValueError where they cannot be counted
    (multiply_adds).
    """
    whole = 3 * multiply_adds(forward, state, batch)
    return 2 * (min(whole, multiply_adds(partly, state, batch)) if partly else whole)


def peak_flops(devices: Sequence[jax.Device]) -> float:
    """What these devices can do a second in bfloat16, together; 0 where no data sheet is known."""
    chip = chip_of(devices[0].device_kind)
    if chip is None:
        return 0.0
    return chip.share(devices_per_chip(list(devices))).bf16_flops * len(devices)


@dataclasses.dataclass(frozen=True)
class Cost:
    """flops: useful ones of a step; peak: FLOPs a second of all devices. 0 where not known."""

    flops: float = 0.0
    peak: float = 0.0

    def numbers(self, window: dict[str, float]) -> dict[str, float]:
        """window: that of a Clock. -> peak_share, 0 … 1, of the time that steps took, waiting for data
        included, and device_memory_bytes, the most that any of this host's devices has held so far;
        what is not known is absent."""
        found = {}
        if self.flops and self.peak and "steps_per_second" in window:
            found["peak_share"] = self.flops * window["steps_per_second"] / self.peak
        if memory := memory_in_use():
            found["device_memory_bytes"] = float(memory)
        return found


def memory_in_use() -> int:
    """The most bytes that any device of this host has held so far; 0 where devices do not tell
    (CPUs)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((s.get("peak_bytes_in_use", 0) for s in stats), default=0)
