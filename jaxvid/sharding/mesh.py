"""The one device mesh: axes (data, fsdp, tensor); batches are divided over the first two."""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxvid.core.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


def make_mesh(*, fsdp: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """A mesh over `devices` (default: all of all hosts); data takes what fsdp and tensor leave.

    Axis types are Auto: jax >= 0.10 makes Explicit meshes by default, and Linen's dropout fails there.
    Raises ConfigError when fsdp × tensor does not divide the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or tensor < 1 or len(devices) % (fsdp * tensor):
        raise ConfigError(
            f"mesh.fsdp={fsdp} × mesh.tensor={tensor} does not divide the {len(devices)} devices; "
            "choose factors whose product does"
        )
    shape = (len(devices) // (fsdp * tensor), fsdp, tensor)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the first axis of a batch is divided."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis over (data, fsdp), the others whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh, *, accumulate: int = 1, name: str) -> None:
    """Raises ConfigError unless every device gets the same whole number of clips in every part."""
    parts = batch_shards(mesh) * accumulate
    if batch_size < 1 or batch_size % parts:
        lower, upper = batch_size // parts * parts, (batch_size // parts + 1) * parts
        near = f"{lower} or {upper}" if lower > 0 else f"{upper}"
        raise ConfigError(
            f"{name}={batch_size} is not divisible by {parts} = {mesh.shape['data']} (data) × "
            f"{mesh.shape['fsdp']} (fsdp) × {accumulate} (accumulation); use {near}"
        )
