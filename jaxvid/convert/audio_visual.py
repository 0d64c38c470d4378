"""The audio-visual transformer has no published weights; a VideoMAE starts it, both what sees and what
hears, as the image model of both streams does in the paper."""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert.source import Transfer
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
SOURCES = {}
FIELDS = (
    *("width", "depth", "num_heads", "mlp_ratio", "patch_size", "tubelet_size", "channels"),
    *("qkv_bias", "norm_eps", "layer_scale"),
)


def _from_videomae(arguments: Mapping[str, Any]) -> dict[str, Any]:
    if arguments.get("cosine_attention"):
        raise ConversionError(
            "cosine_attention=True: the audio-visual transformer has scaled dot products only"
        )
    kept = {name: arguments[name] for name in FIELDS if name in arguments}
    # Two thirds of the layers on their own, as 8 of the paper's 12.
    return {**kept, "fusion_layer": 2 * kept["depth"] // 3} if "depth" in kept else kept


TRANSFERS = {
    "videomae": Transfer(
        arguments=_from_videomae,
        fresh={
            "audio/patch_embed/{leaf:.+}": "the checkpoint has patches of video only",
            "bottleneck_token": "the checkpoint has nothing to share",
            "head/{leaf:.+}": "it sees features of both",
        },
        dropped={"head/{leaf:.+}": "the video classifier's own head"},
        copies=(
            ("encoder/patch_embed/{leaf:.+}", "video/patch_embed/{leaf}"),
            *(
                ("encoder/block_{i}/{leaf:.+}", f"{stream}/block_{{i}}/{{leaf}}")
                for stream in ("video", "audio", "joint")
            ),
            *(
                (f"{norm}/{{leaf:.+}}", f"{stream}/norm/{{leaf}}")
                for norm in ("fc_norm", "encoder/norm")
                for stream in ("video", "audio")
            ),
        ),
    )
}
