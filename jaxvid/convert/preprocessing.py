"""What a checkpoint expects of its pixels and frames, in one form; how Hugging Face and timm say it.

size          int     pixels of the square that enters the model
short_side    int     the frame's short side is resized to this before the centre crop
mean, std     3 floats for pixels in [0, 1]: x = (pixel / 255 - mean) / std
num_frames    int
stride_frames int     frames of the video between two frames of the clip ("dense" sampling)
sampling      str     a convention of jaxvid/data/sampling.py: "dense", "uniform" or "linspace"

and of what jaxvid trained, each only where it was used:

target_fps         float   frame rate that strides are counted in
decode_short_side  int     pixels that the decoder itself resizes to, before all else
transforms         tuple   of specs as in data.eval_transforms, before resize and crop
audio              dict    rate, frames, mels of jaxvid/decode/log_mel.py
flow               str     a method of jaxvid/decode/flow.py, or "stored": of a store that is gone
flow_to_next       bool    flow goes to the next frame of the file, as in a store, not of the clip
feature_size       int     in place of all but num_frames: numbers of a row of features
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxvid.convert import hf_processor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OF_VIDEOS = "VideoProcessor"  # how the names end of those that are not of images


def from_hf(config: Mapping[str, Any], where: str = "preprocessor_config.json") -> dict[str, Any]:
    """preprocessor_config.json -> the part of the form above that it tells.

    Rescaling by another factor than 1/255, with or without the offset of -1 (ViViT), or none, is
    folded into mean and std. What is not said is as the class that is named has it. Frames that the
    processor resizes or crops in another way than jaxvid are a warning, in one line; clips of another
    shape, rectangles, raise ConversionError. where: the file, for both.
    """
    config = hf_processor.complete(config)
    told = _geometry(config, where)
    if config.get("do_normalize", True) and "image_mean" in config and "image_std" in config:
        mean, std = _triple(config["image_mean"]), _triple(config["image_std"])
    elif not config.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    else:
        return {name: value for name, value in told.items() if value is not None}
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    offset = 1.0 if config.get("offset") and config.get("do_rescale", True) else 0.0
    # (pixel * scale - offset - mean) / std, said for pixel / 255
    told["mean"] = tuple(round((m + offset) / (255 * scale), 9) for m in mean)
    told["std"] = tuple(round(s / (255 * scale), 9) for s in std)
    return {name: value for name, value in told.items() if value is not None}


def to_hf(preprocessing: Mapping[str, Any], processor: str) -> dict[str, Any]:
    """The form above -> preprocessor_config.json of a Hugging Face image processor, or
    video_preprocessor_config.json of a video processor."""
    size = int(preprocessing["size"])
    kind = "video" if processor.endswith(OF_VIDEOS) else "image"
    return {
        f"{kind}_processor_type": processor,
        "do_resize": True,
        "size": {"shortest_edge": int(preprocessing.get("short_side") or size)},
        "resample": hf_processor.BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(m) for m in preprocessing["mean"]],
        "image_std": [float(s) for s in preprocessing["std"]],
        **({"offset": False} if processor == hf_processor.OF_VIVIT else {}),
    }


def from_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """The mean and std that the config.json of one of timm's folders tells, {} of others."""
    told = config.get("pretrained_cfg") or config  # flat in its early folders
    return {name: _triple(told[name]) for name in ("mean", "std") if name in told}


def _geometry(config: Mapping[str, Any], where: str) -> dict[str, int | None]:
    """size and short_side. Frames that are not resized keep their size where it is the model's."""
    crops = config.get("do_center_crop", True) and config.get("crop_size") is not None
    short_side = None
    if config.get("do_resize", True):
        short_side = hf_processor.side(config, "size", where)
    size = hf_processor.side(config, "crop_size", where) if crops else short_side
    hf_processor.warn_of_differences(config, size, short_side, where)
    return {"size": size, "short_side": short_side or size}


def _triple(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (float(value),) * 3
