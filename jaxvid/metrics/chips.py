"""What accelerators can do at most, from their makers' data sheets: for shares of peak and estimates.

Google: the pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPU7x (Ironwood)" of the Cloud TPU
documentation. NVIDIA: the data sheets of A100, H100, H200 and HGX B200, dense products (half of
what they print for sparse ones). Links: what a chip can send to others of its slice or NVLink
domain, all links together and one direction only, where the sheets print both directions (half of
those) or Gbit/s (an eighth).
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Of one chip. memory_bytes is what is soldered on; programs get a little less of it."""

    name: str
    memory_bytes: int
    memory_bytes_per_second: float
    bf16_flops: float
    link_bytes_per_second: float

    def share(self, devices_per_chip: int) -> "Chip":
        """What one of the devices gets that jax makes of a chip (two on TPU v4 slices and TPU7x)."""
        return Chip(
            self.name,
            self.memory_bytes // devices_per_chip,
            self.memory_bytes_per_second / devices_per_chip,
            self.bf16_flops / devices_per_chip,
            self.link_bytes_per_second / devices_per_chip,
        )


# By what jax calls the kind of device, or its beginning.
_CHIPS = {
    "TPU v4": Chip("TPU v4", 32 * GIB, 1.2e12, 275e12, 300e9),
    "TPU v5 lite": Chip("TPU v5e", 16 * GIB, 819e9, 197e12, 200e9),
    "TPU v5e": Chip("TPU v5e", 16 * GIB, 819e9, 197e12, 200e9),
    "TPU v5p": Chip("TPU v5p", 95 * GIB, 2.765e12, 459e12, 600e9),
    "TPU v5": Chip("TPU v5p", 95 * GIB, 2.765e12, 459e12, 600e9),
    "TPU v6 lite": Chip("TPU v6e", 32 * GIB, 1.638e12, 918e12, 400e9),
    "TPU v6e": Chip("TPU v6e", 32 * GIB, 1.638e12, 918e12, 400e9),
    "TPU7x": Chip("TPU7x", 192 * GIB, 7.38e12, 2307e12, 600e9),
    "NVIDIA A100-SXM4-40GB": Chip("A100 40 GB", 40 * GIB, 1.555e12, 312e12, 300e9),
    "NVIDIA A100-SXM4-80GB": Chip("A100 80 GB", 80 * GIB, 2.039e12, 312e12, 300e9),
    "NVIDIA H100 80GB HBM3": Chip("H100 SXM", 80 * GIB, 3.35e12, 989e12, 450e9),
    "NVIDIA H200": Chip("H200 SXM", 141_000_000_000, 4.8e12, 989e12, 450e9),
    "NVIDIA B200": Chip("B200", 180_000_000_000, 8.0e12, 2250e12, 900e9),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax calls `device_kind`, or None for one that stands in no table here."""
    known = [kind for kind in _CHIPS if device_kind.startswith(kind)]
    return _CHIPS[max(known, key=len)] if known else None
