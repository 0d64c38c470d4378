"""CNN-Mamba: started by ImageNet's ResNets; and Mamba's blocks in the keys of other projects.

No checkpoints of the whole model are published. `mamba_blocks` are the rules of its blocks, which
transformers (MambaModel), state-spaces/mamba and Vision Mamba's descendants name alike.
"""

from jaxvid.convert.resnet import transfer
from jaxvid.convert.rules import Entry, Waive, conv, leaf, linear

HEAD = ("head/{leaf:.+}",)
SOURCES = {}
TRANSFERS = {"resnet": transfer("projection", "mamba", "head")}


def mamba_blocks(key: str, path: str) -> tuple[Entry, ...]:
    """The rules of blocks whose keys begin with `key` and whose paths begin with `path`.

    Second scans (Vision Mamba's, "bimamba v2") have the keys of the first with _b.
    """
    return (
        leaf(f"{key}.norm.weight", f"{path}/norm/scale"),
        leaf(
            f"{key}.mixer.{{p:in_proj|out_proj}}.weight", f"{path}/mixer/{{p}}/kernel", "o i -> i o"
        ),
        *_direction(f"{key}.mixer", "", f"{path}/mixer/forward"),
        *_direction(f"{key}.mixer", "_b", f"{path}/mixer/backward"),
    )


def _direction(key: str, suffix: str, path: str) -> tuple[Entry, ...]:
    return (
        *conv(f"{key}.conv1d{suffix}", f"{path}/conv", "t"),
        leaf(f"{key}.x_proj{suffix}.weight", f"{path}/x_proj/kernel", "o i -> i o"),
        *linear(f"{key}.dt_proj{suffix}", f"{path}/dt_proj"),
        leaf(f"{key}.A{suffix}_log", f"{path}/A_log"),
        leaf(f"{key}.D{suffix}", f"{path}/D"),
    )


# transformers' MambaModel to jaxvid.nn.ssm.Mamba
HF_MAMBA = (
    *mamba_blocks("layers.{i}", "block_{i}"),
    leaf("norm_f.weight", "norm/scale"),
    Waive("embeddings.weight", "words are not what a video's tokens are made of"),
)
