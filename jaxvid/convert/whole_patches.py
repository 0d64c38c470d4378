"""Clips that are cut into patches without a rest, the only ones our Transformers take."""

from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConversionError


def whole_patches(clip: Clip, tubelet: int, patch: int) -> Clip:
    """The clip. Raises ConversionError when frames or sides are no multiple of a patch's: the
    reference leaves the rest out of sight."""
    frames, height, width, _ = clip
    if frames % tubelet or height % patch or width % patch:
        raise ConversionError(
            f"its clips of (T, H, W) = {clip[:3]} are not whole patches of {(tubelet, patch, patch)}, "
            "and the model takes no others: write the next smaller multiples into its config, as "
            f"{tuple(n - n % p for n, p in zip(clip[:3], (tubelet, patch, patch), strict=True))}"
        )
    return clip
