"""RandAugment for video: a few random changes of colour and shape, the same for all frames.

{"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"}   # VideoMAE, MViT on Kinetics
"""

import dataclasses
import re
from typing import ClassVar, NamedTuple

import grain
import numpy as np
from PIL import Image

from jaxvid.core.errors import ConfigError, unknown
from jaxvid.data.transforms import _photo_ops
from jaxvid.data.transforms._photo_ops import FILTERS, HIGHEST, RISING, STEADY

PROBABILITY = 0.5  # of each of the n changes, as in timm


class Policy(NamedTuple):
    """Mean and standard deviation of the magnitude, number of changes, and which set of them."""

    magnitude: float = HIGHEST
    changes: int = 2
    deviation: float = 0.0
    rising: bool = False


_FIELDS = {"m": "magnitude", "n": "changes", "mstd": "deviation", "inc": "rising"}


def parse(policy: str) -> Policy:
    """The numbers of "rand-m7-n4-mstd0.5-inc1", in timm's convention; what is left out is default.

    m: magnitude 0..10. n: changes an image. mstd: standard deviation of the magnitude. inc: 1, all
    operations do more at a higher magnitude. Raises ConfigError.
    """
    head, *parts = str(policy).split("-")
    found = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|inc|m|n)(\d+(?:\.\d+)?)", part)
        if not match or _FIELDS[match[1]] in found:
            raise ConfigError(_message(policy, f"{part!r} is no part of it"))
        found[_FIELDS[match[1]]] = float(match[2])
    values = Policy(**found)
    if head != "rand" or values.magnitude > HIGHEST:
        raise ConfigError(_message(policy, "it begins with 'rand' and m is at most 10"))
    if values.changes != int(values.changes) or values.rising not in (0, 1):
        raise ConfigError(_message(policy, "n is a whole number and inc is 0 or 1"))
    return values._replace(changes=int(values.changes), rising=bool(values.rising))


def _message(policy: str, reason: str) -> str:
    return (
        f"RandAugment: policy is {policy!r}, expected something like 'rand-m7-n4-mstd0.5-inc1': "
        f"{reason}"
    )


@dataclasses.dataclass(frozen=True)
class RandAugment(grain.transforms.RandomMap):
    """n random changes after each other, each with probability 0.5 (Cubuk et al. 2020, 1909.13719).

    policy: see `parse`. The n are drawn with replacement from the fifteen of `_photo_ops`; a
    magnitude is normal around m and cut off to 0..10; what has two directions goes either way.
    Changes that look at an image's histogram (auto contrast, equalize, contrast) look at each
    frame's own. What shearing, turning and moving leaves empty is grey.
    filter: "bicubic" or "bilinear", of what moves pixels. per_frame: other changes for each frame.

    Drawn for each view (each frame): n operations, n numbers that decide, n magnitudes, n signs.
    video uint8 (V, T, H, W, 3) -> the same shape. Colours and shapes of the whole picture are meant:
    published recipes put it before the crop.
    """

    policy: str = "rand-m7-n4-mstd0.5-inc1"
    filter: str = "bicubic"
    per_frame: bool = False
    changes_look: ClassVar[bool] = True  # more than place and size: not for flow from a store

    def __post_init__(self):
        parse(self.policy)
        if self.filter not in FILTERS:
            raise unknown("filter of RandAugment", self.filter, FILTERS)

    def random_map(self, clip: dict, rng: np.random.Generator) -> dict:
        video, policy = clip["video"], parse(self.policy)
        out = np.empty(video.shape, np.uint8)
        for view, frames in enumerate(video):
            changes = None
            for number, frame in enumerate(frames):
                if changes is None or self.per_frame:
                    changes = self.changes(policy, rng)
                out[view, number] = _changed(frame, changes)
        return {**clip, "video": out}

    def changes(self, policy: Policy, rng: np.random.Generator) -> list[_photo_ops.Change]:
        """What is done to an image, one after another; may be nothing."""
        n = policy.changes
        operations = RISING if policy.rising else STEADY
        which = rng.integers(len(operations), size=n)
        done = rng.random(n) < PROBABILITY
        magnitudes = np.clip(rng.normal(policy.magnitude, policy.deviation, n), 0, HIGHEST)
        signs = np.where(rng.random(n) < 0.5, -1, 1)
        return [
            operations[which[i]].make(
                float(magnitudes[i] / HIGHEST), int(signs[i]), FILTERS[self.filter]
            )
            for i in range(n)
            if done[i]
        ]


def _changed(frame: np.ndarray, changes: list[_photo_ops.Change]) -> np.ndarray:
    if not changes:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    for change in changes:
        image = change(image)
    return np.asarray(image)


build = RandAugment
