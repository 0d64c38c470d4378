"""ResNet on frames: torchvision's image classifiers, MMAction2's TSN, and how they start models with a
backbone.

Other tables use `transfer`:

    TRANSFERS = {"resnet": transfer("projection", "fc", "head")}
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvid.convert import resnet_mmaction
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import Entry, batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source, Transfer
from jaxvid.core.errors import ConversionError
from jaxvid.nn.resnet import DEPTHS, FIELDS

HEAD = ("head/{leaf:.+}",)
# What every ResNet of torchvision has, in the model's words.
TORCHVISION = {
    "width": 64,
    "stem_kernel": 7,
    "stem_stride": 2,
    "stem_pool": True,
    "channels": 3,
    "bn_epsilon": 1e-5,
}
# Words of torchvision's constructors of which the model has one form.
FORM = {"groups": 1, "width_per_group": 64, "norm_layer": None}
NEW = "new on top of the ResNet's pooled features"


def entries(depth: int) -> tuple[Entry, ...]:
    """The rules of one depth. A shallower network's keys are all known to a deeper one of its kind,
    so that the nameless file is of the first depth that knows most of its keys."""
    sizes, bottleneck = DEPTHS[depth]["stage_sizes"], DEPTHS[depth]["bottleneck"]
    numbers = "1|2|3" if bottleneck else "1|2"
    made = [*conv("conv1", "backbone/stem/conv", "h w"), *batch_norm("bn1", "backbone/stem/norm")]
    for stage, size in enumerate(sizes, 1):
        blocks = "|".join(map(str, range(size)))
        key = f"layer{stage}.{{b:{blocks}}}"
        path = f"backbone/stage_{stage}/block_{{b}}"
        made += [
            *conv(f"{key}.conv{{n:{numbers}}}", f"{path}/conv_{{n}}", "h w"),
            *batch_norm(f"{key}.bn{{n:{numbers}}}", f"{path}/norm_{{n}}"),
            *conv(f"{key}.downsample.0", f"{path}/shortcut", "h w"),
            *batch_norm(f"{key}.downsample.1", f"{path}/shortcut_norm"),
        ]
    return (*made, *linear("fc", "head"))


def transfer(*fresh: str, adapt: Callable | None = None, frames: int = 16) -> Transfer:
    """How a ResNet starts a model that has one as `backbone`, under the same names of fields.

    fresh: names of the model's other parts, which stay as initialised. adapt: for kernels of another
    shape. frames: of the clips the model is usually given.
    """

    def arguments(of_resnet: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in (*FIELDS, "channels") if name in of_resnet]
        return {name: of_resnet[name] for name in names}

    def clip(of_resnet: Clip) -> Clip:
        return frames, *of_resnet[1:]

    patterns = {f"{name}/{{leaf:.+}}": NEW for name in fresh}
    dropped = {"head/{leaf:.+}": "the image classifier's own head"}
    return Transfer(arguments, patterns, dropped, clip=clip, adapt=adapt)


def _plain(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config, when it is of a ResNet as the model has it. Raises ConversionError."""
    wrong = [name for name, form in FORM.items() if config.get(name, form) != form]
    if any(config.get("replace_stride_with_dilation") or ()):
        wrong.append("replace_stride_with_dilation")
    if wrong:
        raise ConversionError(
            f"{', '.join(f'{name}={config[name]!r}' for name in wrong)}: the model has only the plain "
            "ResNet: one group of 64 channels, no dilation, BatchNorm"
        )
    return config


def _source(depth: int) -> Source:
    def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
        classes = _plain(config).get("num_classes", 1000)
        return {"num_classes": classes, **DEPTHS[depth], **TORCHVISION}

    return Source(
        entries=entries(depth),
        arguments=arguments,
        clip=lambda config: (1, 224, 224, 3),
        config=lambda arguments, clip: {"num_classes": arguments["num_classes"]},
        guess=lambda shapes, told: {"num_classes": shapes["fc.weight"][0]},
        preprocessing=lambda config: {
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "short_side": 256,
        },
    )


SOURCES = {
    **{f"torchvision/resnet{depth}": _source(depth) for depth in DEPTHS},
    "mmaction/tsn": resnet_mmaction.SOURCE,
}
