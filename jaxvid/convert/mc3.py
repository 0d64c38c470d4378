"""MC3: torchvision's checkpoints of mc3_18."""

from jaxvid.convert.torchvision_video import PLAIN_STEM, plain_pair, source

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "torchvision/mc3_18": source(
        "torchvision/mc3_18", {"temporal_kernels": (3, 1, 1, 1)}, PLAIN_STEM, plain_pair
    )
}
