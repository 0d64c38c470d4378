"""Devices of a TPU slice that is not there, to compile for: made by the compiler, libtpu, alone."""

import importlib.util
import math
import os
import re
from collections.abc import MutableMapping

import jax
from jax.experimental import topologies

from jaxvid.core.errors import ConfigError

AXES = {"v5e": 2, "v5p": 3, "v6e": 2, "tpu7x": 3}  # of the torus of a family's slices
MOST_CHIPS = {"v5e": 256, "v6e": 256}
_NAME = re.compile(r"(?P<family>[a-z0-9]+):(?P<chips>\d+(x\d+){1,2})")
EXAMPLES = "'v5e:4x4', 'v5e:16x16', 'v6e:2x2', 'v5p:2x2x1', 'tpu7x:2x2x2'"


def absent_devices(name: str) -> list[jax.Device]:
    """The devices of a slice such as "v5e:16x16": programs can be compiled for them, not run.

    Call it before jax touches a device: this process then computes on its CPU, so that neither
    accelerators nor their absence get in the way. Raises ConfigError where libtpu is not installed
    or knows no such slice.
    """
    given, name = name, name.strip().lower()
    parts = _NAME.fullmatch(name)
    if not parts or parts["family"] not in AXES:
        raise ConfigError(
            f"compile.topology={given!r} is no slice; expected the family ({', '.join(AXES)}), a "
            f"colon and the numbers of chips along the axes of its torus, such as {EXAMPLES}"
        )
    sizes = [int(n) for n in parts["chips"].split("x")]
    _check_shape(given, parts["family"], sizes)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"compile.topology={name!r} needs libtpu, the TPU's compiler (no TPU is needed): "
            "pip install 'jaxvid[tpu]'"
        )
    _quieten(os.environ)
    jax.config.update("jax_platforms", "cpu")
    # libtpu divides slices into hosts of 2×2 chips, which a slice of one chip is too small for.
    host = {"chips_per_host_bounds": (1, 1, 1)} if set(sizes) == {1} else {}
    try:
        return list(
            topologies.get_topology_desc(platform="tpu", topology_name=name, **host).devices
        )
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"compile.topology={name!r}: libtpu makes no such slice ({error}); axes are of even numbers "
            f"of chips, such as {EXAMPLES}"
        ) from error


def _check_shape(name: str, family: str, sizes: list[int]) -> None:
    axes, most = AXES[family], MOST_CHIPS.get(family, math.inf)
    if len(sizes) != axes or not 0 < math.prod(sizes) <= most:
        limit = f", of {most} chips at most" if family in MOST_CHIPS else ""
        raise ConfigError(
            f"compile.topology={name!r}: slices of {family} have {axes} axes{limit}; such as {EXAMPLES}"
        )


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
