"""The check of a model's input before anything is computed: what came, what was expected."""

import jax


def check_clip(
    video: jax.Array,
    *,
    channels: int = 3,
    frames: int = 1,
    size: int = 1,
    name: str = "video",
) -> None:
    """Raises ValueError unless video is (N, T, H, W, channels) with T >= frames, H and W >= size."""
    expected = f"expected (N, T, H, W, {channels})"
    if video.ndim != 5:
        raise ValueError(f"inputs[{name!r}] has shape {video.shape}: {expected}")
    if video.shape[-1] != channels:
        raise ValueError(
            f"inputs[{name!r}] has shape {video.shape}: {video.shape[-1]} channels in the last axis, "
            f"{expected}"
        )
    if video.shape[1] < frames:
        raise ValueError(
            f"inputs[{name!r}] has {video.shape[1]} frames (shape {video.shape}): this model needs "
            f"at least {frames}; give longer clips (data.num_frames)"
        )
    if min(video.shape[2:4]) < size:
        raise ValueError(
            f"inputs[{name!r}] has frames of {video.shape[2]}×{video.shape[3]} (shape {video.shape}): "
            f"this model needs at least {size}×{size}; give larger frames (data.size)"
        )
