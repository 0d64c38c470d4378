"""Shares of a known peak; nothing where nothing is known."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxvid.train import cost
from jaxvid.train.cost import Cost


def test_share_of_peak_by_hand():
    numbers = Cost(flops=2e12, peak=100e12).numbers({"steps_per_second": 20.0})
    assert numbers == pytest.approx({"peak_share": 0.4})


def test_what_is_not_known_is_absent():
    assert Cost().numbers({"steps_per_second": 20.0}) == {}  # CPUs do not tell their memory either
    assert Cost(flops=1.0, peak=1.0).numbers({}) == {}  # a window without a step


def test_the_most_that_any_device_of_this_host_has_held(monkeypatch):
    @dataclasses.dataclass
    class Device:
        stats: dict | None

        def memory_stats(self):
            return self.stats

    known = [Device({"peak_bytes_in_use": n, "bytes_in_use": 1}) for n in (5, 7)]
    monkeypatch.setattr(cost.jax, "local_devices", lambda: [*known, Device(None)])
    assert Cost().numbers({}) == {"device_memory_bytes": 7.0}


@dataclasses.dataclass
class Kind:
    device_kind: str


def test_peak_is_that_of_all_devices():
    assert cost.peak_flops([Kind("NVIDIA H200")] * 4) == 4 * 989e12
    assert cost.peak_flops(jax.devices()) == 0.0


def test_flops_are_three_times_those_of_the_forward_pass():
    @dataclasses.dataclass
    class State:
        rng: jax.Array
        params: jax.Array
        batch_stats: dict

    jax.tree_util.register_dataclass(State, ["rng", "params", "batch_stats"], [])
    forward = cost.make_forward(
        lambda rng, batch: (batch * 2.0, None),
        lambda variables, inputs, rng: (inputs @ variables["params"], {}),
    )
    key = jax.random.key_data(jax.random.key(0))
    state = State(key, jax.ShapeDtypeStruct((5, 7), jnp.float32), {})
    batch = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    assert cost.useful_flops(forward, state, batch) == 3 * 2 * 3 * 5 * 7
    # Where parameters are frozen, no more than the step has.
    assert cost.useful_flops(forward, state, batch, forward) == 2 * 3 * 5 * 7
    four_times = lambda s, b: [forward(s, b) for _ in range(4)]
    assert cost.useful_flops(forward, state, batch, four_times) == 3 * 2 * 3 * 5 * 7
