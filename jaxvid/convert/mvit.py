"""MViT: torchvision's mvit_v1_b and mvit_v2_s, PyTorchVideo's mvit_base_16x4 and mvit_base_32x3,
PySlowFast's of both versions, MMAction2's.

The config is what torchvision's MViT, or PyTorchVideo's create_multiscale_vision_transformers, takes,
or PySlowFast's YAML, or MMAction2's model dict; what is not said is what the function of that name passes, or the default behind
it. Without a config weights must be of a published model's width, depth and stages: they do not tell
the strides, which are (1, 8, 8) for keys and (1, 2, 2) for queries in all of those.

For PyTorchVideo some weights are written under two names, as its repository has them;
PyTorchVideo 0.1.5 of PyPI knows only the first and loads them with strict=False. That version
normalises pooled queries, keys and values with an epsilon of 1e-5, the repository (and this model) all
with 1e-6: logits differ by some 1e-5.

Tables of positions are resized to those of the model that is loaded: linearly over time, bilinearly
over space (squares on both sides: a table does not tell its height from its width), as the original
repository resizes them, and linearly along relative distances, as torchvision does at every call.
"""

from jaxvid.convert import mvit_mmaction, mvit_pyslowfast, mvit_pytorchvideo, mvit_torchvision

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "torchvision/mvit_v1_b": mvit_torchvision.source(mvit_torchvision.V1),
    "torchvision/mvit_v2_s": mvit_torchvision.source(mvit_torchvision.V2),
    "pytorchvideo/mvit_base_16x4": mvit_pytorchvideo.source(16),
    "pytorchvideo/mvit_base_32x3": mvit_pytorchvideo.source(32),
    "pyslowfast/mvit": mvit_pyslowfast.SOURCE,
    "mmaction/mvit": mvit_mmaction.SOURCE,
}
