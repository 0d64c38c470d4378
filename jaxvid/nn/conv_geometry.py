"""Where the windows of a convolution lie, and what each of their places sees."""

import dataclasses
import itertools

import jax.numpy as jnp
from jax import lax

NO_PADS = ((0, 0),) * 3


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution but for its arrays; one entry of each tuple per spatial axis."""

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def out_sizes(self, sizes, window) -> tuple[int, ...]:
        reach = [(k - 1) * d + 1 for k, d in zip(window, self.dilation, strict=True)]
        return tuple(
            (size + sum(pads) - r) // s + 1
            for size, pads, r, s in zip(sizes, self.pads, reach, self.strides, strict=True)
        )

    def lifted(self) -> "Geometry":
        """Of frames as of clips of one frame each."""
        more = 3 - len(self.strides)
        return Geometry(
            (1,) * more + self.strides,
            ((0, 0),) * more + self.pads,
            (1,) * more + self.dilation,
            self.groups,
        )

    def only(self, *axes: int) -> "Geometry":
        """The same along some axes; along the others a window of one place, nothing skipped."""

        def keep(values, neutral):
            return tuple(v if i in axes else neutral for i, v in enumerate(values))

        return Geometry(keep(self.strides, 1), keep(self.pads, (0, 0)), keep(self.dilation, 1))


def pad(x, pads):
    """(before, after) of T, H, W with zeros; below zero takes away."""
    if not any(map(any, pads)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)))


def unpad(y, pads, sizes):
    """What lies at an array's own T, H, W sizes in y, which holds it padded: zeros where y ends before."""
    kept = zip(pads, sizes, y.shape[1:4], strict=True)
    return pad(y, [(-low, low + n - padded) for (low, _), n, padded in kept])


def taps_of(x, window, geometry):
    """For each place of the window, in raster order: (place, what it sees, (N, T', H', W', C))."""
    sizes = geometry.out_sizes(x.shape[1:4], window)
    x = pad(x, geometry.pads)
    for place in itertools.product(*map(range, window)):
        start = [p * d for p, d in zip(place, geometry.dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, sizes, geometry.strides, strict=True)]
        low, high = (0, *start, 0), (x.shape[0], *stop, x.shape[-1])
        yield place, lax.slice(x, low, high, (1, *geometry.strides, 1))


def columns_of(x, window, geometry):
    """What the whole window sees: (N, T', H', W', kt·kh·kw·C), the places in raster order."""
    taps = [tap for _, tap in taps_of(x, window, geometry)]
    return taps[0] if len(taps) == 1 else jnp.concatenate(taps, axis=-1)


def rows_of(x):
    return x.reshape(-1, x.shape[-1])


def split(whole, size_of_one, size_of_piece):
    """(number of pieces, length of each): as equal as they can be, at most about such a size."""
    count = -(-whole // max(1, size_of_piece // size_of_one))
    return count, -(-whole // count)
