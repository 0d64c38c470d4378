"""Slow: PyTorchVideo's checkpoints of slow_r50; 4×16 and 8×8 differ in the window of their heads.
MMAction2's SlowOnly.

Image ResNets of depth 50 and more start it inflated.
"""

from jaxvid.convert import slow_mmaction
from jaxvid.convert.inflated_resnet import transfer
from jaxvid.convert.pytorchvideo import PLAIN_STAGES, Hub, source

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "pytorchvideo/slow_r50": source(
        "pytorchvideo/slow_r50",
        Hub(
            stem=(1, 7, 7),
            defaults={
                "head_pool_kernel_size": (8, 7, 7),
                "stage_conv_a_kernel_size": ((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1)),
            },
            fields={"stage_conv_a_kernel_size": "temporal_kernels"},
            fixed=PLAIN_STAGES,
            arguments={"stem_pool": True},
        ),
    ),
    "mmaction/slowonly": slow_mmaction.SOURCE,
}
TRANSFERS = {"resnet": transfer(bottleneck=True, clip=(8, 224, 224, 3))}
