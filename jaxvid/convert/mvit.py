"""MViT: torchvision's mvit_v1_b and mvit_v2_s, PyTorchVideo's mvit_base_16x4 and mvit_base_32x3.

The config is what torchvision's MViT, or PyTorchVideo's create_multiscale_vision_transformers, takes;
what is not said is what the function of that name passes, or the default behind it. Without a config
the strides are taken to be those of all published models, (1, 8, 8) for keys and (1, 2, 2) for
queries: weights do not tell them.

Tables of positions are resized to those of the model that is loaded: linearly over time, bilinearly
over space (squares on both sides: a table does not tell its height from its width), as the original
repository resizes them, and linearly along relative distances, as torchvision does at every call.
"""

from jaxvid.convert import mvit_pytorchvideo, mvit_torchvision

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "torchvision/mvit_v1_b": mvit_torchvision.source(mvit_torchvision.V1),
    "torchvision/mvit_v2_s": mvit_torchvision.source(mvit_torchvision.V2),
    "pytorchvideo/mvit_base_16x4": mvit_pytorchvideo.source(16),
    "pytorchvideo/mvit_base_32x3": mvit_pytorchvideo.source(32),
}
