"""Settings of XLA: two for CPUs, made when jaxvid is imported, and one on request.

jaxlib 0.10.1 and 0.10.2 hand 2D convolutions to YNNPACK, on one thread only; without that XLA runs
Eigen's, on all of them: half the time on two cores. From 0.11 on YNNPACK's run on all threads too.

Where one process has several CPU devices (a count forced by XLA_FLAGS or JAX_NUM_CPU_DEVICES), a device
may wait for the others in two collectives at once, and takes a thread for each; with one thread a device
all wait for each other, and XLA ends the process after 40 s. More threads mend it (NPROC), except on
jaxlib 0.11 and 0.12, whose pool does not heed that: there collectives start one at a time.

XLA reads its flags when its first device is made, so jaxvid is best imported before anything is
computed. A jaxlib that does not know a flag would end the process; hence the versions.
"""

import os
import re
from collections.abc import MutableMapping
from importlib import metadata

from jaxvid.core.errors import ConfigError

CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type"
ON_ONE_THREAD = ("0.10.1", "0.10.2")
SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"
THREADS = 4  # of a device, at least
_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")


def set_flags(environ: MutableMapping[str, str]) -> None:
    """Adds to XLA_FLAGS and NPROC what this jaxlib needs, unless the user has chosen a value of it."""
    try:
        version = metadata.version("jaxlib")
    except metadata.PackageNotFoundError:  # what is missing is said when jax is imported
        return
    if version in ON_ONE_THREAD:
        _add(environ, CONVOLUTIONS, "-individual_convolution")
    devices = _forced_devices(environ)
    if devices > 1 and version.startswith(("0.11.", "0.12.")):
        _add(environ, SCHEDULER, "false")
    elif devices > 1:
        environ.setdefault("NPROC", str(max(THREADS * devices, os.cpu_count() or 1)))


def _add(environ: MutableMapping[str, str], name: str, value: str) -> None:
    given = environ.get("XLA_FLAGS", "")
    if name not in given:
        environ["XLA_FLAGS"] = f"{given} {name}={value}".strip()


def _forced_devices(environ: MutableMapping[str, str]) -> int:
    counts = _DEVICES.findall(environ.get("XLA_FLAGS", ""))
    asked = environ.get("JAX_NUM_CPU_DEVICES", "")
    return max(map(int, [*counts, asked if asked.isdecimal() else 1]))


# GPUs: no choice of kernels by measurement, no sums by atomics, no attention of another order; what has
# no such kernel does not compile. CPUs and TPUs need nothing, and ignore it.
DETERMINISTIC = "--xla_gpu_deterministic_ops"


def set_deterministic(environ: MutableMapping[str, str]) -> None:
    """For run.deterministic: adds the flag to XLA_FLAGS. Call it before jax touches a device, which is
    when XLA reads its flags. Raises ConfigError where the user's XLA_FLAGS say the contrary."""
    given = environ.get("XLA_FLAGS", "")
    values = [word for word in given.split() if word.partition("=")[0] == DETERMINISTIC]
    if not values:
        environ["XLA_FLAGS"] = f"{given} {DETERMINISTIC}=true".strip()
    elif values[-1].partition("=")[2].lower() in ("false", "0"):
        raise ConfigError(
            f"run.deterministic=True, and XLA_FLAGS has {values[-1]}: take one of them away"
        )
