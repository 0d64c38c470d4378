"""How image ResNets start 3D ResNets: the same paths, kernels repeated over time.

    TRANSFERS = {"resnet": transfer(bottleneck=True, clip=(8, 224, 224, 3))}

Statistics and shortcuts come as they are. A clip that stands still gives, away from its first and
last frames, what its frame gives in the image model.
"""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert import inflate
from jaxvid.convert.source import Clip, Transfer
from jaxvid.core.errors import ConversionError

FIELDS = ("stage_sizes", "width", "channels", "bn_epsilon")  # of both, under the same names
STEM = {"stem_kernel": 7, "stem_stride": 2, "stem_pool": True}


def transfer(*, bottleneck: bool, clip: Clip) -> Transfer:
    """For a model with a field stem_pool, stems of 7×7 and four stages.

    bottleneck: of which blocks it is. clip: (T, H, W, C) that it is usually given. Its `arguments`
    raise ConversionError for ResNets of the other blocks and of other stems.
    """

    def arguments(of_resnet: Mapping[str, Any]) -> dict[str, Any]:
        needed = {"bottleneck": bottleneck, **STEM}
        wrong = {
            name: of_resnet.get(name) for name in needed if of_resnet.get(name) != needed[name]
        }
        if wrong or len(of_resnet["stage_sizes"]) != 4:
            raise ConversionError(
                "a ResNet of images with "
                f"{_words({**wrong, 'stage_sizes': tuple(of_resnet['stage_sizes'])})} cannot start "
                f"this model, which needs {_words(needed)} and four stages: depth "
                f"{'50 or more' if bottleneck else '18 or 34'}"
            )
        return {"stem_pool": True, **{n: of_resnet[n] for n in FIELDS if n in of_resnet}}

    return Transfer(
        arguments=arguments,
        fresh={"head/{leaf:.+}": "the classes of images are not those of clips"},
        clip=lambda of_resnet: (*clip[:3], of_resnet[3]),
        adapt=inflate.adapt,
    )


def _words(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
