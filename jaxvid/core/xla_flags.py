"""Settings of XLA: one that convolutions on CPUs need, made when jaxvid is imported, and one on
request.

jaxlib 0.10.1 and 0.10.2 hand 2D convolutions to YNNPACK, on one thread only; without that XLA runs
Eigen's, on all of them: half the time on two cores. From 0.11 on YNNPACK's run on all threads
too. XLA reads its flags when its first device is made, so jaxvid is best imported before anything is
computed. A jaxlib that does not know a flag would end the process; hence the list of versions.
"""

from collections.abc import MutableMapping
from importlib import metadata

from jaxvid.core.errors import ConfigError

NAME = "--xla_cpu_experimental_ynn_fusion_type"
FLAG = f"{NAME}=-individual_convolution"
VERSIONS = ("0.10.1", "0.10.2")


def set_flags(environ: MutableMapping[str, str]) -> None:
    """Adds the flag to XLA_FLAGS, unless the user has chosen a value of it."""
    try:
        version = metadata.version("jaxlib")
    except metadata.PackageNotFoundError:  # what is missing is said when jax is imported
        return
    given = environ.get("XLA_FLAGS", "")
    if version in VERSIONS and NAME not in given:
        environ["XLA_FLAGS"] = f"{given} {FLAG}".strip()


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
