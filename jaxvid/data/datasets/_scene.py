"""Scenes for the generated data set: a textured shape over a drifting, cluttered background.

Four classes that differ by motion alone. `right` is a clip of `left` played backwards and `receding`
one of `approaching`; everything else in a scene (drift of background and clutter, start positions,
sizes, colours) is drawn from a law that playing backwards does not change. So the frames of `left`
and of `right`, their order forgotten, have one and the same distribution, and nothing blind to order
tells them apart. What leaves the picture on one side returns on the other, and the shape of `left`
starts anywhere: no single frame tells `left` from `right` either.

    frames = render("left", seed=7, num_frames=16, size=64)    # uint8 (16, 64, 64, 3), RGB
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# class -> (the motion that is drawn, whether it is then played backwards); in label order
CLASSES = {
    "left": ("left", False),
    "right": ("left", True),
    "approaching": ("approaching", False),
    "receding": ("approaching", True),
}

# Lengths are shares of the picture's side, displacements those over the whole clip.
BACKGROUND_DRIFT = 0.4
CLUTTER_COUNT, CLUTTER_RADIUS, CLUTTER_DRIFT = 4, (0.04, 0.08), 0.5
LEFT_RADIUS, LEFT_DISPLACEMENT, LEFT_DRIFT = (0.14, 0.22), (0.5, 0.85), 0.08
APPROACH_RADIUS, APPROACH_GROWTH, APPROACH_DRIFT = (0.09, 0.2), (2.0, 2.8), 0.06
BACKGROUND_VALUE, SHAPE_VALUE = (0.05, 0.65), (0.45, 1.0)  # brightness: dark and light colour

_OUTLINES: tuple[Callable, ...] = (  # distance from the centre, 1 on the outline
    np.hypot,
    lambda u, v: 1.1 * np.maximum(np.abs(u), np.abs(v)),
    lambda u, v: 0.8 * (np.abs(u) + np.abs(v)),
)
_REACH = 1.3  # the farthest that an outline comes from the centre, in radii
_TEXTURES: tuple[Callable, ...] = (  # -1..1
    lambda u, v: np.sin(5 * u),
    lambda u, v: np.sin(4 * u) * np.sin(4 * v),
    lambda u, v: np.sin(6 * np.hypot(u, v)),
)


@dataclasses.dataclass(frozen=True)
class _Sprite:
    """A textured shape. x, y, radius: float32 (T,), pixels; colours: two RGB triples, 0..1."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: float
    outline: Callable
    texture: Callable
    colours: np.ndarray


def render(class_name: str, seed: int | Sequence[int], *, num_frames: int, size: int) -> np.ndarray:
    """One clip, uint8 (num_frames, size, size, 3), RGB; the same seed gives the same clip.

    `render("right", s)` is `render("left", s)` backwards, frame for frame; so are the other two.
    """
    motion, backwards = CLASSES[class_name]
    rng = np.random.default_rng(seed)
    time = np.linspace(-0.5, 0.5, num_frames, dtype=np.float32)  # symmetric: backwards is -time
    picture = _background(rng, time, size)
    for _ in range(CLUTTER_COUNT):
        _paint(picture, _clutter(rng, time, size))
    _paint(picture, _moving_left(rng, time, size) if motion == "left" else _near(rng, time, size))
    frames = np.rint(picture * 255).astype(np.uint8)
    return frames[::-1].copy() if backwards else frames


def _moving_left(rng: np.random.Generator, time: np.ndarray, size: int) -> _Sprite:
    """Starts anywhere, crosses a good part of the picture, size constant."""
    x = rng.uniform(0, 1) - rng.uniform(*LEFT_DISPLACEMENT) * time
    y = rng.uniform(0.3, 0.7) + rng.uniform(-LEFT_DRIFT, LEFT_DRIFT) * time
    radius = rng.uniform(*LEFT_RADIUS) * np.ones_like(time)
    return _sprite(rng, size, x, y, radius, SHAPE_VALUE)


def _near(rng: np.random.Generator, time: np.ndarray, size: int) -> _Sprite:
    """Grows by a constant factor a frame, about where it is."""
    x = rng.uniform(0.35, 0.65) + rng.uniform(-APPROACH_DRIFT, APPROACH_DRIFT) * time
    y = rng.uniform(0.35, 0.65) + rng.uniform(-APPROACH_DRIFT, APPROACH_DRIFT) * time
    radius = rng.uniform(*APPROACH_RADIUS) * rng.uniform(*APPROACH_GROWTH) ** time
    return _sprite(rng, size, x, y, radius, SHAPE_VALUE)


def _clutter(rng: np.random.Generator, time: np.ndarray, size: int) -> _Sprite:
    """Small, as dark as the background, moving in any direction."""
    x, y = rng.uniform(0, 1, (2, 1)) + _drift(rng, CLUTTER_DRIFT)[:, None] * time
    radius = rng.uniform(*CLUTTER_RADIUS) * np.ones_like(time)
    return _sprite(rng, size, x, y, radius, BACKGROUND_VALUE)


def _drift(rng: np.random.Generator, longest: float) -> np.ndarray:
    """A displacement (2,) in any direction, 0..longest: as likely as the opposite one."""
    angle = rng.uniform(0, 2 * np.pi)
    return rng.uniform(0, longest) * np.array([np.cos(angle), np.sin(angle)])


def _sprite(rng: np.random.Generator, size: int, x, y, radius, value) -> _Sprite:
    low, high = value
    return _Sprite(
        x=np.float32(x * size),
        y=np.float32(y * size),
        radius=np.float32(radius * size),
        angle=rng.uniform(0, 2 * np.pi),
        outline=_OUTLINES[rng.integers(len(_OUTLINES))],
        texture=_TEXTURES[rng.integers(len(_TEXTURES))],
        colours=np.float32([_colour(rng, low), _colour(rng, high)]),
    )


def _colour(rng: np.random.Generator, value: float) -> np.ndarray:
    """RGB of this brightness and any hue, half washed out: 0..value."""
    return value * (0.4 + 0.6 * rng.permutation([1.0, rng.uniform(0, 1), 0.0]))


def _paint(picture: np.ndarray, sprite: _Sprite) -> None:
    """Lays the sprite over picture, float32 (T, H, W, 3), in place; edges are softened.

    Only a window about the sprite is touched. It goes round: what leaves the picture on one side
    returns on the other.
    """
    size = picture.shape[1]
    side = min(size, 2 * int(np.ceil(_REACH * sprite.radius.max())) + 4)
    window = np.arange(side) - side // 2
    cols = np.floor(sprite.x).astype(int)[:, None] + window  # (T, side)
    rows = np.floor(sprite.y).astype(int)[:, None] + window
    dx = ((cols - sprite.x[:, None]) / sprite.radius[:, None])[:, None, :].astype(np.float32)
    dy = ((rows - sprite.y[:, None]) / sprite.radius[:, None])[:, :, None].astype(np.float32)
    cos, sin = np.float32(np.cos(sprite.angle)), np.float32(np.sin(sprite.angle))
    u, v = cos * dx - sin * dy, sin * dx + cos * dy  # (T, side, side)
    opacity = (1 - sprite.outline(u, v)) * sprite.radius[:, None, None] + 0.5
    opacity = np.clip(opacity, 0, 1)[..., None]
    mix = (0.5 + 0.5 * sprite.texture(u, v))[..., None]
    dark, light = sprite.colours
    place = np.arange(len(picture))[:, None, None], rows[:, :, None] % size, cols[:, None] % size
    under = picture[place]  # (T, side, side, 3)
    picture[place] = under + opacity * (dark + mix * (light - dark) - under)


def _background(rng: np.random.Generator, time: np.ndarray, size: int) -> np.ndarray:
    """Coloured noise of two grains on a torus, drifting: float32 (T, size, size, 3), 0..1."""
    tile = 0.6 * _noise(rng, 4, size) + 0.4 * _noise(rng, 10, size)
    low, high = BACKGROUND_VALUE
    tile = np.pad(low + (high - low) * tile, ((0, size + 1), (0, size + 1), (0, 0)), mode="wrap")
    corners = rng.uniform(0, 1, 2) + time[:, None] * _drift(rng, BACKGROUND_DRIFT)
    return np.stack([_cut(tile, corner % 1 * size, size) for corner in corners])


def _cut(tile: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    """The square of tile with its first pixel at (row, column) = corner, between pixels or not."""
    row, col = corner.astype(int)
    down, along = np.float32(corner - (row, col))
    square = tile[row : row + size + 1, col : col + size + 1]
    square = square[:-1] + down * (square[1:] - square[:-1])
    return square[:, :-1] + along * (square[:, 1:] - square[:, :-1])


def _noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Smooth periodic noise, float32 (size, size, 3), 0..1: random values on a grid of cells."""
    grid = rng.uniform(0, 1, (cells, cells, 3)).astype(np.float32)
    position = np.arange(size) * (cells / size)
    left = position.astype(int)
    part = np.float32(position - left)
    part = part * part * (3 - 2 * part)
    right = (left + 1) % cells
    rows = grid[left] + part[:, None, None] * (grid[right] - grid[left])
    return rows[:, left] + part[:, None] * (rows[:, right] - rows[:, left])
