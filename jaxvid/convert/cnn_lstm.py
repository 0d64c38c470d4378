"""CNN-LSTM: no published weights of its own; ImageNet's ResNets start it, and `lstm` takes a torch
LSTM to and from its recurrent part, for those who have one in a checkpoint of their own."""

from jaxvid.convert.resnet import transfer
from jaxvid.convert.rules import Rule, leaf

HEAD = ("head/{leaf:.+}",)
SOURCES = {}
TRANSFERS = {"resnet": transfer("projection", "lstm", "head")}


def lstm(key: str, path: str) -> tuple[Rule, ...]:
    """torch.nn.LSTM -> jaxvid.nn.lstm.LSTM: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`,
    `bias_hh_l0` and those that end in `_reverse`; the gates lie in the same order."""
    made = []
    for ending, direction in (("", "forward"), ("_reverse", "backward")):
        layer = f"{path}/layer_{{i}}/{direction}"
        for theirs, ours in (("ih", "input"), ("hh", "hidden")):
            made += [
                leaf(
                    f"{key}.weight_{theirs}_l{{i}}{ending}", f"{layer}/{ours}_kernel", "o i -> i o"
                ),
                leaf(f"{key}.bias_{theirs}_l{{i}}{ending}", f"{layer}/{ours}_bias"),
            ]
    return tuple(made)
