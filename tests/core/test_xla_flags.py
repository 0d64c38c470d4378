"""Flags are set for versions that know them, once, and never against the user's own."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from jaxvid.core import xla_flags
from jaxvid.core.errors import ConfigError


@pytest.mark.parametrize("version", xla_flags.ON_ONE_THREAD)
@pytest.mark.parametrize("given", ["", "--xla_cpu_multi_thread_eigen=true"])
def test_the_flag_joins_what_is_there(monkeypatch, version, given):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    environ = {"XLA_FLAGS": given} if given else {}
    xla_flags.set_flags(environ)
    flag = f"{xla_flags.CONVOLUTIONS}=-individual_convolution"
    assert environ["XLA_FLAGS"].split() == [*given.split(), flag]
    xla_flags.set_flags(environ)
    assert environ["XLA_FLAGS"].count(xla_flags.CONVOLUTIONS) == 1


def test_the_users_own_value_stays(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: xla_flags.ON_ONE_THREAD[0])
    environ = {"XLA_FLAGS": f"{xla_flags.CONVOLUTIONS}=individual_dot"}
    xla_flags.set_flags(environ)
    assert environ == {"XLA_FLAGS": f"{xla_flags.CONVOLUTIONS}=individual_dot"}


FORCED = "--xla_force_host_platform_device_count="
SEVERAL = [
    ({"XLA_FLAGS": f"{FORCED}4"}, "16"),
    ({"JAX_NUM_CPU_DEVICES": "2"}, "8"),
    ({"XLA_FLAGS": f"{FORCED}1", "JAX_NUM_CPU_DEVICES": "-1"}, None),
    ({"JAX_NUM_CPU_DEVICES": ""}, None),
    ({}, None),
]


@pytest.mark.parametrize("version", ["0.11.2", "0.12.0", "0.12.0.1"])
@pytest.mark.parametrize(("given", "threads"), SEVERAL, ids=str)
def test_collectives_of_several_cpu_devices_start_one_at_a_time(
    monkeypatch, version, given, threads
):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    environ = dict(given)
    xla_flags.set_flags(environ)
    added = f"{xla_flags.SCHEDULER}=false" in environ.get("XLA_FLAGS", "")
    assert added == (threads is not None) and "NPROC" not in environ
    own = {"XLA_FLAGS": f"{FORCED}4 {xla_flags.SCHEDULER}=true"}
    xla_flags.set_flags(own)
    assert own["XLA_FLAGS"].count(xla_flags.SCHEDULER) == 1


@pytest.mark.parametrize("version", ["0.7.0", "0.10.2"])
@pytest.mark.parametrize(("given", "threads"), SEVERAL, ids=str)
def test_or_have_threads_to_wait_in(monkeypatch, version, given, threads):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    environ = dict(given)
    xla_flags.set_flags(environ)
    assert environ.get("NPROC") == threads
    monkeypatch.setattr(os, "cpu_count", lambda: 96)  # no fewer than without it
    environ = dict(given)
    xla_flags.set_flags(environ)
    assert environ.get("NPROC") == (threads and "96")
    environ = {**given, "NPROC": "3"}
    xla_flags.set_flags(environ)
    assert environ["NPROC"] == "3" and xla_flags.SCHEDULER not in environ.get("XLA_FLAGS", "")


def test_other_versions_and_no_jaxlib_change_nothing(monkeypatch):
    environ = {}
    monkeypatch.setattr(metadata, "version", lambda name: "0.7.0")
    xla_flags.set_flags(environ)

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    xla_flags.set_flags(environ)
    assert environ == {}


@pytest.mark.skipif(
    metadata.version("jaxlib") not in xla_flags.ON_ONE_THREAD, reason="this jaxlib gets no flag"
)
def test_jax_starts_with_it_and_runs_convolutions_by_eigen():
    program = """
import jaxvid, jax, jax.numpy as jnp
from jax import lax
numbers = ("NHWC", "HWIO", "NHWC")
conv = jax.jit(lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=numbers))
text = conv.lower(jnp.ones((2, 8, 8, 32)), jnp.ones((3, 3, 32, 32))).compile().as_text()
assert "convolution(" in text and "ynn" not in text, text
"""
    environ = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environ, timeout=120)


def test_determinism_joins_what_is_there():
    environ = {"XLA_FLAGS": "--xla_dump_to=here"}
    xla_flags.set_deterministic(environ)
    xla_flags.set_deterministic(environ)
    assert environ["XLA_FLAGS"] == "--xla_dump_to=here --xla_gpu_deterministic_ops=true"
    bare = {"XLA_FLAGS": xla_flags.DETERMINISTIC}  # a flag without a value is true
    xla_flags.set_deterministic(bare)
    assert bare == {"XLA_FLAGS": xla_flags.DETERMINISTIC}


def test_determinism_against_the_users_own_flag():
    environ = {"XLA_FLAGS": f"{xla_flags.DETERMINISTIC}=false"}
    with pytest.raises(ConfigError, match="XLA_FLAGS has --xla_gpu_deterministic_ops=false: take"):
        xla_flags.set_deterministic(environ)
