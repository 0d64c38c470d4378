"""A setting of XLA that convolutions on CPUs need; made when jaxvid is imported.

jaxlib 0.10.1 and 0.10.2 hand 2D convolutions to YNNPACK, on one thread only; without that XLA runs
Eigen's, on all of them: half the time on two cores. XLA reads its flags when its first device is
made, so jaxvid is best imported before anything is computed. A jaxlib that does not know a flag
would end the process; hence the list of versions that were tried.
"""

from collections.abc import MutableMapping
from importlib import metadata

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
