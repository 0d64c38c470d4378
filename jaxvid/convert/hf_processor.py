"""What a Hugging Face processor's file leaves to the defaults of its class, and what differs here."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvid.core.errors import ConversionError

log = logging.getLogger("jaxvid")

OF_VIVIT = "VivitImageProcessor"
OF_VJEPA2 = "VJEPA2VideoProcessor"
BILINEAR = 2  # PIL's number
_HALVES = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
# Of transformers 4.57; a file without a class, or of another one, is taken at its word.
_DEFAULTS = {
    "VideoMAEImageProcessor": {"size": 224, "crop_size": 224, **_HALVES},
    OF_VIVIT: {
        "size": 256,
        "crop_size": 224,
        "rescale_factor": 1 / 127.5,
        "offset": True,
        **_HALVES,
    },
    "CLIPImageProcessor": {"size": 224, "crop_size": 224, "resample": 3, **_CLIP},
    OF_VJEPA2: {"crop_size": 256, **_IMAGENET},
}
_FILTERS = ("nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming")  # by PIL's numbers
_TYPES = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The file with the defaults of the class it names, in place of null too."""
    said = {name: value for name, value in config.items() if value is not None}
    name = _class_name(said)
    whole = {**_DEFAULTS.get(name, {}), **said}
    if name == OF_VJEPA2:  # whatever the file says of the size
        whole["size"] = int(_crop_of_videos(whole["crop_size"]) * 256 / 224)
    return whole


def _class_name(config: Mapping[str, Any]) -> str | None:
    """Old names end with FeatureExtractor, quick classes with Fast: the defaults are the same."""
    name = next((config[key] for key in _TYPES if key in config), None)
    return name and name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")


def _crop_of_videos(crop: Any) -> int:
    return int(crop["height"] if isinstance(crop, Mapping) else crop)


def side(config: Mapping[str, Any], name: str, where: str) -> int | None:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224} -> 224, None where the file has
    no such word. Raises ConversionError for rectangles and for what tells no side."""
    value = config.get(name)
    if value is None or isinstance(value, int):
        return value
    edges = value if isinstance(value, Mapping) else {}
    found = {edges[edge] for edge in ("shortest_edge", "height", "width") if edges.get(edge)}
    if len(found) != 1:
        raise ConversionError(
            f"{where}: {name} is {value!r}: clips are squares, and expected is a number, "
            '{"shortest_edge": …} or {"height": …, "width": …} with both equal; give the file such '
            "a square if the model takes it"
        )
    return int(found.pop())


def warn_of_differences(
    config: Mapping[str, Any], size: int | None, short_side: int | None, where: str
) -> None:
    """One line on what the processor does to frames and jaxvid does in another way, if anything."""
    if found := list(_differences(config, size, short_side)):
        log.warning(
            "%s: %s. jaxvid resizes the short side to %s, bilinearly, and crops the square of %s in "
            "the middle",
            where,
            "; ".join(found),
            short_side or size or "the model's size",
            size or "the model's size",
        )


def _differences(
    config: Mapping[str, Any], size: int | None, short_side: int | None
) -> Sequence[str]:
    resample, resizes = config.get("resample", BILINEAR), config.get("do_resize", True)
    said, crops = config.get("size"), config.get("do_center_crop", True)
    if not resizes:
        yield "do_resize=False takes frames in the size they have"
    elif isinstance(said, Mapping) and "shortest_edge" not in said:
        yield "size with height and width squashes frames that are no squares"
    elif not crops:
        yield "do_center_crop=False keeps the whole of frames that are no squares"
    elif crops and size and short_side and size > short_side:
        yield f"crop_size is larger than size={short_side} and pads with black"
    if resizes and resample != BILINEAR:
        named = _FILTERS[resample] if resample in range(len(_FILTERS)) else "unknown"
        yield f"resample={resample} is another filter ({named})"
