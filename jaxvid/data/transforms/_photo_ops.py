"""The fifteen changes of an image that RandAugment chooses from, and what a magnitude means to each.

Magnitudes are 0..10. The meaning of each is that of timm's RandAugment, in which VideoMAE, MViT and
SlowFast were trained: `STEADY` is the older set, in which some operations do less at a higher
magnitude; in `RISING` ("inc1") all of them do more.
"""

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageEnhance, ImageOps

HIGHEST = 10.0
GREY = (128, 128, 128)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Change = Callable[[Image.Image], Image.Image]


class Operation(NamedTuple):
    """make(level, sign, filter) -> the change of one image.

    level: 0..1 of the highest magnitude; sign: 1 or -1, for what has two directions; filter: how
    pixels are interpolated by what moves them.
    """

    name: str
    make: Callable[[float, int, Image.Resampling], Change]


def _affine(image: Image.Image, matrix: tuple, resample: Image.Resampling) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=GREY
    )


def _rotate(level, sign, resample) -> Change:
    return lambda image: image.rotate(30 * level * sign, resample=resample, fillcolor=GREY)


def _shear_x(level, sign, resample) -> Change:
    return lambda image: _affine(image, (1, 0.3 * level * sign, 0, 0, 1, 0), resample)


def _shear_y(level, sign, resample) -> Change:
    return lambda image: _affine(image, (1, 0, 0, 0.3 * level * sign, 1, 0), resample)


def _translate_x(level, sign, resample) -> Change:
    share = 0.45 * level * sign
    return lambda image: _affine(image, (1, 0, share * image.width, 0, 1, 0), resample)


def _translate_y(level, sign, resample) -> Change:
    share = 0.45 * level * sign
    return lambda image: _affine(image, (1, 0, 0, 0, 1, share * image.height), resample)


def _table(values: list[int]) -> Change:
    return lambda image: image.point(values * 3)


def posterize(bits: int) -> Change:
    """Keeps the highest bits of each channel; 0 leaves black."""
    kept = (0xFF << (8 - bits)) & 0xFF
    return _table([value & kept for value in range(256)])


def solarize(threshold: int) -> Change:
    """Inverts what is not below the threshold."""
    return _table([v if v < threshold else 255 - v for v in range(256)])


def _solarize_add(level, sign, resample) -> Change:
    added = int(110 * level)
    return _table([min(v + added, 255) if v < 128 else v for v in range(256)])


def _enhancer(enhance: type, rising: bool) -> Callable[..., Change]:
    def make(level, sign, resample) -> Change:
        factor = max(0.1, 1.0 + 0.9 * level * sign) if rising else 0.1 + 1.8 * level
        return lambda image: enhance(image).enhance(factor)

    return make


def _operations(rising: bool) -> tuple[Operation, ...]:
    def bits(level):
        return 4 - int(4 * level) if rising else int(4 * level)

    def threshold(level):
        return 256 - int(256 * level) if rising else int(256 * level)

    return (
        Operation("auto_contrast", lambda *_: ImageOps.autocontrast),
        Operation("equalize", lambda *_: ImageOps.equalize),
        Operation("invert", lambda *_: ImageOps.invert),
        Operation("rotate", _rotate),
        Operation("posterize", lambda level, *_: posterize(bits(level))),
        Operation("solarize", lambda level, *_: solarize(threshold(level))),
        Operation("solarize_add", _solarize_add),
        Operation("saturation", _enhancer(ImageEnhance.Color, rising)),
        Operation("contrast", _enhancer(ImageEnhance.Contrast, rising)),
        Operation("brightness", _enhancer(ImageEnhance.Brightness, rising)),
        Operation("sharpness", _enhancer(ImageEnhance.Sharpness, rising)),
        Operation("shear_x", _shear_x),
        Operation("shear_y", _shear_y),
        Operation("translate_x", _translate_x),
        Operation("translate_y", _translate_y),
    )


STEADY, RISING = _operations(rising=False), _operations(rising=True)
