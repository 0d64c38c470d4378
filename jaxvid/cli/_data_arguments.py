"""How the actions of `jaxvid data` are told a dataset: a folder, or a recipe."""

import argparse
import dataclasses
import os
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvid import build_data, config
from jaxvid.core.errors import ConfigError
from jaxvid.data.detect import detect


@dataclasses.dataclass(frozen=True)
class Chosen:
    """splits: what was asked for, None: all of the reader's. config: of the recipe, None without
    one."""

    dataset: str
    root: Path
    options: dict[str, Any]
    splits: tuple[str, ...] | None
    detected: bool
    config: ConfigDict | None


def parser(action: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser with what says which dataset."""
    p = argparse.ArgumentParser(
        prog=f"jaxvid data {action}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("root", nargs="?", metavar="ROOT", help="the folder of the dataset")
    p.add_argument("--dataset", metavar="NAME", help="its reader; found out when not given")
    p.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the reader, e.g. fold=2 or annotations=DIR; may be given several times",
    )
    p.add_argument(
        "--config",
        metavar="FILE[:ARG]",
        help="the data of a recipe, with overrides such as --config.data.root=DIR",
    )
    return p


def parse(p: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(arguments, overrides of the recipe as "section.field=value"); a wrong word ends the program."""
    args, rest = p.parse_known_args(list(argv))
    strange = [word for word in rest if not (word.startswith("--config.") and "=" in word)]
    if strange or (rest and not args.config):
        p.error(f"unknown argument {(strange or rest)[0]!r}")
    if not args.root and not args.config:
        p.error("give the folder of a dataset, or a recipe with --config FILE")
    if args.dataset and args.config:
        p.error("--dataset says what --config says already: leave one out")
    return args, [word.removeprefix("--config.") for word in rest]


def choose(args: argparse.Namespace, overrides: Sequence[str]) -> Chosen:
    """What the arguments name. Raises ConfigError and DataError as config.load and detect do."""
    options = dict(_option(word) for word in args.option)
    if args.config:
        c = config.load(args.config, overrides)
        if args.root:
            c.data.root = args.root
        splits = tuple(dict.fromkeys((c.data.train_split, c.data.val_split)))
        options = c.data.options.to_dict() | options
        return Chosen(c.data.dataset, build_data.root(c), options, splits, False, c)
    root = Path(args.root).expanduser()
    return Chosen(args.dataset or detect(root), root, options, None, not args.dataset, None)


def split_names(text: str) -> tuple[str, ...]:
    """ "train,val" -> ("train", "val")"""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def positive(word: str) -> int:
    """A whole number from 1, for argparse."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is below 1")
    return number


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _option(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--option {word}: expected NAME=VALUE, such as fold=2")
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
