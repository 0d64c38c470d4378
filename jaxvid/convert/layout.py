"""How an array is laid out on either side of a conversion, said in one line and invertible.

    Layout("o i -> i o")                       a torch Linear weight to a Flax kernel
    Layout("o i t h w -> t h w i o")           a torch Conv3d weight to a Flax kernel
    Layout("(h d) i -> i h d")                 a projection split into heads
    Layout("1 1 d -> d")                       a token stored with two unit axes
    Layout("t h w d -> (t h w) d", t=8, h=14)  a group whose sizes the other side cannot tell

Left of the arrow is the checkpoint, right of it the model. Names are axes, `(a b)` is one axis made
of two in C order, `1` an axis of size one. Every array operation of a rule offers `load` (checkpoint
to model, told the shapes the model has) and `save` (the way back); `Split`, `Join` and `Custom` are
the others.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

Shape = tuple[int, ...]


class LayoutError(ValueError):
    """An array has not the axes, or the sizes, that its layout needs."""


class Operation(Protocol):
    """What a rule does to its arrays; both ways, so that one table serves loading and saving."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Arrays of the checkpoint -> arrays of the model, which should have these shapes."""
        ...

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays of the model -> arrays of the checkpoint."""
        ...


def _parse(side: str, text: str) -> tuple[tuple[str, ...], ...]:
    tokens = re.findall(r"\([^()]*\)|\S+", side)
    axes = tuple(() if t == "1" else tuple(t.strip("()").split()) for t in tokens)
    names = [name for group in axes for name in group]
    if len(set(names)) != len(names) or not all(name.isidentifier() for name in names):
        raise ValueError(f"layout {text!r}: axes must be distinct names, '1' or '(a b)'")
    return axes


def _solve(
    axes: Sequence[Sequence[str]], shape: Shape, known: dict[str, int], text: str
) -> dict[str, int]:
    """Sizes of all names, from a shape and the sizes already known."""
    if len(axes) != len(shape):
        raise LayoutError(f"shape {shape} has {len(shape)} axes, {text!r} wants {len(axes)}")
    known = dict(known)
    for group, size in zip(axes, shape, strict=True):
        open_names = [name for name in group if name not in known]
        rest = math.prod(known[name] for name in group if name in known)
        if len(open_names) == 1 and rest and size % rest == 0:
            known[open_names[0]] = size // rest
        elif len(open_names) > 1:
            raise LayoutError(
                f"shape {shape}: the sizes of {open_names} in {text!r} cannot be told apart; "
                "say them, as in Layout(text, name=size)"
            )
        elif rest != size or open_names:
            raise LayoutError(f"shape {shape}: an axis of {size} is not {rest} x … as {text!r} has")
    return known


class Layout:
    """One array to one array: transpose, split axes, merge axes, drop unit axes. See the module.

    Raises ValueError when the text itself is wrong, LayoutError when an array does not fit it.
    """

    def __init__(self, text: str, **sizes: int):
        left, arrow, right = text.partition("->")
        self.text, self.sizes = text, sizes
        self.left, self.right = _parse(left, text), _parse(right, text)
        self._left_names = [n for group in self.left for n in group]
        self._right_names = [n for group in self.right for n in group]
        if not arrow or sorted(self._left_names) != sorted(self._right_names):
            raise ValueError(f"layout {text!r}: both sides of '->' must have the same axes")

    def __repr__(self) -> str:
        return f"Layout({self.text!r})"

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,), (shape,) = arrays, shapes
        hints = self._hints(shape)
        sizes = _solve(self.left, array.shape, hints, self.text)
        return [_rearrange(array, self._left_names, self._right_names, self.right, sizes)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        (array,) = arrays
        sizes = _solve(self.right, array.shape, self.sizes, self.text)
        return [_rearrange(array, self._right_names, self._left_names, self.left, sizes)]

    def _hints(self, shape: Shape) -> dict[str, int]:
        """Sizes of names inside groups of the checkpoint's axes: only the model can tell them."""
        if len(shape) != len(self.right):
            raise LayoutError(f"the model has shape {shape}, {self.text!r} makes {len(self.right)}")
        grouped = {name for group in self.left if len(group) > 1 for name in group}
        alone = {group[0]: n for group, n in zip(self.right, shape, strict=True) if len(group) == 1}
        return {**{name: n for name, n in alone.items() if name in grouped}, **self.sizes}


def _rearrange(array, names_in, names_out, axes_out, sizes) -> np.ndarray:
    array = array.reshape([sizes[name] for name in names_in])
    array = array.transpose([names_in.index(name) for name in names_out])
    return array.reshape([math.prod(sizes[name] for name in group) for group in axes_out])


@dataclasses.dataclass(frozen=True)
class Same:
    """The arrays as they are."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        return list(arrays)

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(arrays)


SAME = Same()


@dataclasses.dataclass(frozen=True)
class Split:
    """One array of the checkpoint, cut in `parts` equal pieces along `axis`, is `parts` of the model.

    Split(3, Layout("(h d) i -> i h d")) takes a fused qkv weight to query, key and value kernels.
    """

    parts: int
    each: Operation = SAME
    axis: int = 0

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,) = arrays
        if array.ndim <= self.axis or array.shape[self.axis] % self.parts:
            raise LayoutError(f"axis {self.axis} of {array.shape} does not divide by {self.parts}")
        pieces = np.split(array, self.parts, self.axis)
        return [self.each.load([p], [s])[0] for p, s in zip(pieces, shapes, strict=True)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([self.each.save([a])[0] for a in arrays], self.axis)]


@dataclasses.dataclass(frozen=True)
class Join:
    """`parts` arrays of the checkpoint, one after the other along `axis`, are one of the model.

    Each is first laid out by `each`, which must not need sizes that only the model could tell.
    """

    parts: int
    each: Operation = SAME
    axis: int = 0

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (shape,) = shapes
        if len(shape) <= self.axis or shape[self.axis] % self.parts:
            raise LayoutError(f"axis {self.axis} of {shape} does not divide by {self.parts}")
        piece = list(shape)
        piece[self.axis] //= self.parts
        return [np.concatenate([self.each.load([a], [tuple(piece)])[0] for a in arrays], self.axis)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        (array,) = arrays
        return [self.each.save([p])[0] for p in np.split(array, self.parts, self.axis)]


@dataclasses.dataclass(frozen=True)
class Custom:
    """Two functions, list of arrays -> list of arrays, each the other's inverse."""

    forward: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    backward: Callable[[Sequence[np.ndarray]], list[np.ndarray]]

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        return self.forward(arrays)

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.backward(arrays)
