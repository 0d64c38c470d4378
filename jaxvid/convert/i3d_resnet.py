"""I3D on a ResNet: PyTorchVideo's checkpoints of i3d_r50.

Image ResNets of depth 50 and more start it inflated, as in the paper.
"""

from jaxvid.convert.inflated_resnet import transfer
from jaxvid.convert.pytorchvideo import PLAIN_STAGES, Hub, source

HEAD = ("head/{leaf:.+}",)
_EVERY_OTHER = ((3, 1, 1), (1, 1, 1))
SOURCES = {
    "pytorchvideo/i3d_r50": source(
        "pytorchvideo/i3d_r50",
        Hub(
            stem=(5, 7, 7),
            defaults={
                "head_pool_kernel_size": (4, 7, 7),
                "stage_conv_a_kernel_size": (
                    (3, 1, 1),
                    _EVERY_OTHER,
                    _EVERY_OTHER,
                    _EVERY_OTHER[::-1],
                ),
            },
            fields={"stage_conv_a_kernel_size": "temporal_kernels"},
            fixed=PLAIN_STAGES,
            arguments={"stem_pool": True},
            temporal_pool=True,
        ),
    )
}
TRANSFERS = {"resnet": transfer(bottleneck=True, clip=(8, 224, 224, 3))}
