"""R(2+1)D: torchvision's checkpoints of r2plus1d_18 and PyTorchVideo's of r2plus1d_r50."""

from jaxvid.convert import pytorchvideo, torchvision_video
from jaxvid.convert.rules import Entry, batch_norm, conv

HEAD = ("head/{leaf:.+}",)


def _halves(key: str, path: str) -> tuple[Entry, ...]:
    return (
        *conv(f"{key}.0", f"{path}/spatial"),
        *batch_norm(f"{key}.1", f"{path}/norm"),
        *conv(f"{key}.3", f"{path}/temporal"),
    )


def _pair(key: str, path: str, number: str) -> tuple[Entry, ...]:
    return (
        *_halves(f"{key}.0", f"{path}/conv_{number}"),
        *batch_norm(f"{key}.1", f"{path}/norm_{number}"),
    )


SOURCES = {
    "torchvision/r2plus1d_18": torchvision_video.source(
        "torchvision/r2plus1d_18",
        {
            "bottleneck": False,
            "temporal_strides": (1, 2, 2, 2),
            "stem_between": 45,
            "head_pool": None,
        },
        (*_halves("stem", "backbone/stem/conv"), *batch_norm("stem.4", "backbone/stem/norm")),
        _pair,
    ),
    "pytorchvideo/r2plus1d_r50": pytorchvideo.source(
        "pytorchvideo/r2plus1d_r50",
        pytorchvideo.Hub(
            stem=(1, 7, 7),
            defaults={
                "stage_spatial_stride": (2, 2, 2, 2),
                "stage_temporal_stride": (1, 1, 2, 2),
                "head_pool_kernel_size": (4, 7, 7),
            },
            fields={"stage_temporal_stride": "temporal_strides"},
            fixed={
                "stage_conv_a_kernel_size": ((1, 1, 1),) * 4,
                "stage_conv_b_kernel_size": ((3, 3, 3),) * 4,
                "stage_conv_b_num_groups": (1,) * 4,
            },
            arguments={"bottleneck": True},
            stem_pool=False,
            factored=True,
        ),
    ),
}
