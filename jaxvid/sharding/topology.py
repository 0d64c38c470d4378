"""Devices of a TPU slice that is not there, to compile for: made by the compiler, libtpu, alone."""

import importlib.util
import os
import re
from collections.abc import MutableMapping

import jax
from jax.experimental import topologies

from jaxvid.core.errors import ConfigError

FAMILIES = ("v4", "v5e", "v5p", "v6e", "tpu7x")
_NAME = re.compile(r"(?P<family>[a-z0-9]+):(?P<chips>\d+(x\d+){1,2})")
EXAMPLES = "'v5e:4x4', 'v5e:16x16', 'v6e:2x2', 'v5p:2x2x1', 'tpu7x:2x2x2'"


def absent_devices(name: str) -> list[jax.Device]:
    """The devices of a slice such as "v5e:16x16": programs can be compiled for them, not run.

    Call it before jax touches a device: this process then computes on its CPU, so that neither
    accelerators nor their absence get in the way. Raises ConfigError where libtpu is not installed
    or knows no such slice.
    """
    parts = _NAME.fullmatch(name)
    if not parts or parts["family"] not in FAMILIES:
        raise ConfigError(
            f"compile.topology={name!r} is no slice; expected the family ({', '.join(FAMILIES)}), a "
            f"colon and the numbers of chips along the axes of its torus, such as {EXAMPLES}"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"compile.topology={name!r} needs libtpu, the TPU's compiler (no TPU is needed): "
            "pip install 'jaxvid[tpu]'"
        )
    _quieten(os.environ)
    jax.config.update("jax_platforms", "cpu")
    sizes = [int(n) for n in parts["chips"].split("x")]
    # libtpu divides slices into hosts of 2×2 chips, which a slice of one chip is too small for.
    host = {"chips_per_host_bounds": (1, 1, 1)} if set(sizes) == {1} else {}
    try:
        return list(
            topologies.get_topology_desc(platform="tpu", topology_name=name, **host).devices
        )
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"compile.topology={name!r}: libtpu makes no such slice ({error}); v4, v5p and tpu7x have "
            f"three axes, v5e and v6e two, of even numbers of chips, such as {EXAMPLES}"
        ) from error


def devices_per_chip(devices: list[jax.Device]) -> int:
    """1, or 2 where jax makes two devices of a chip; 1 for what is no TPU."""
    if not hasattr(devices[0], "coords"):
        return 1
    return len(devices) // len({(getattr(d, "slice_index", 0), *d.coords) for d in devices})


def _quieten(environ: MutableMapping[str, str]) -> None:
    # Else libtpu looks for the machine it is not on, and complains at length.
    environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    # Chips belong to one process at a time; compilers do not mind each other.
    environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
