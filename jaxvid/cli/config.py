"""print a recipe resolved: every field with its value, defaults and overrides applied"""

import argparse
import json
import sys
from collections.abc import Sequence

from jaxvid import config
from jaxvid.core.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """`jaxvid config FILE[:ARG] [section.field=value …]`; overrides may keep main's `--config.`."""
    p = argparse.ArgumentParser(prog="jaxvid config", description=__doc__, allow_abbrev=False)
    p.add_argument("recipe", metavar="FILE[:ARG]")
    p.add_argument(
        "--json", action="store_true", help="as JSON, the form of a workdir's config.json"
    )
    args, overrides = p.parse_known_args(list(argv))
    try:
        c = config.load(args.recipe, [word.removeprefix("--config.") for word in overrides])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(config.plain(c), indent=2))
        return 0
    for section, fields in config.plain(c).items():
        print(section)
        for name, value in fields.items():
            print(f"  {name:<24} {value!r}")
    return 0
