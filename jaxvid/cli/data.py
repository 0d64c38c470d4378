"""check a dataset, divide it, its statistics, build the fast store, measure the pipeline"""

import importlib
import sys
from collections.abc import Sequence

from jaxvid.core.errors import nearest

ACTIONS = {
    "check": "what is wrong with a dataset, before anyone trains on it",
    "split": "divide a folder of classes into training and validation clips",
    "stats": "mean and deviation of its pixels, class balance, a picture of training batches",
    "prepare": "write the store that training reads fastest",
    "bench": "clips a second of a recipe's pipeline, and where its time goes",
}


def run(argv: Sequence[str]) -> int:
    """`jaxvid data check|split|stats|prepare|bench …` -> exit code; each action has a file
    `_data_<action>`."""
    argv = list(argv)
    if argv and argv[0] in ACTIONS:
        return importlib.import_module(f"jaxvid.cli._data_{argv[0]}").run(argv[1:])
    usage = "usage: jaxvid data ACTION [arguments]; each action has its own --help\n" + "\n".join(
        f"  jaxvid data {action:<8} {text}" for action, text in ACTIONS.items()
    )
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    print(
        f"unknown action {argv[0]!r}.{nearest(argv[0], ACTIONS)}\n{usage}",
        file=sys.stderr,
    )
    return 2
