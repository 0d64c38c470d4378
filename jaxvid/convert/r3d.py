"""R3D: torchvision's checkpoints of r3d_18.

Image ResNets of depth 18 and 34 start it inflated, then with the pooling in the stem that they have.
"""

from jaxvid.convert.inflated_resnet import transfer
from jaxvid.convert.torchvision_video import PLAIN_STEM, plain_pair, source

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "torchvision/r3d_18": source(
        "torchvision/r3d_18",
        {"temporal_strides": (1, 2, 2, 2), "stem_pool": False},
        PLAIN_STEM,
        plain_pair,
    )
}
TRANSFERS = {"resnet": transfer(bottleneck=False, clip=(16, 112, 112, 3))}
