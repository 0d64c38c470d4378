"""C2D: PyTorchVideo's checkpoints of c2d_r50. Image ResNets of depth 50 and more start it."""

from jaxvid.convert.inflated_resnet import transfer
from jaxvid.convert.pytorchvideo import PLAIN_STAGES, Hub, source

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "pytorchvideo/c2d_r50": source(
        "pytorchvideo/c2d_r50",
        Hub(
            stem=(1, 7, 7),
            defaults={"head_pool_kernel_size": (4, 7, 7)},
            fixed={**PLAIN_STAGES, "stage_conv_a_kernel_size": ((1, 1, 1),) * 4},
            arguments={"stem_pool": True},
            temporal_pool=True,
        ),
    )
}
TRANSFERS = {"resnet": transfer(bottleneck=True, clip=(8, 224, 224, 3))}
