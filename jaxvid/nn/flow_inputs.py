"""The inputs of models that see a clip's pixels and its optical flow."""

from collections.abc import Mapping

import jax

from jaxvid.nn.clip_shape import check_clip


def video_and_flow(
    inputs: Mapping[str, jax.Array], *, channels: int = 3, frames: int = 1, size: int = 1
) -> tuple[jax.Array, jax.Array]:
    """(inputs["video"] (N, T, H, W, channels), inputs["flow"] (N, T, H, W, 2)), checked.

    Raises ValueError when there is no flow, when they are of other shapes or not of one clip, or
    when the clip has fewer than `frames` frames or `size` pixels a side.
    """
    if "flow" not in inputs:
        raise ValueError(
            f"inputs has {', '.join(map(repr, inputs)) or 'nothing'} and no 'flow': this model sees "
            "optical flow too, float (N, T, H, W, 2) of jaxvid/decode/flow.py divided by 20; in a "
            "recipe set data.flow to 'tvl1' or 'dis'"
        )
    video, flow = inputs["video"], inputs["flow"]
    check_clip(video, channels=channels, frames=frames, size=size)
    check_clip(flow, channels=2, frames=frames, size=size, name="flow")
    if video.shape[:-1] != flow.shape[:-1]:
        raise ValueError(
            f"inputs['video'] has shape {video.shape} and inputs['flow'] {flow.shape}: expected the "
            "same clips, frames, height and width"
        )
    return video, flow
