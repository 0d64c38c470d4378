"""The `jaxvid` command: one file of this folder a verb, each with `run(argv) -> exit code`."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

from jaxvid.core.errors import nearest


def verbs() -> list[str]:
    """The files of this folder, but for those with an underscore: they are parts of a verb."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")


def main(argv: Sequence[str] | None = None) -> int:
    """`jaxvid VERB …`; without a verb, or with an unknown one, the list of them."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in verbs():
        return importlib.import_module(f"jaxvid.cli.{argv[0]}").run(argv[1:])
    lines = []
    for verb in verbs():
        doc = importlib.import_module(f"jaxvid.cli.{verb}").__doc__ or ""
        lines.append(f"  jaxvid {verb:<8} {doc.strip().splitlines()[0]}")
    usage = "usage: jaxvid VERB [arguments]; each verb has its own --help\n" + "\n".join(lines)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    print(f"unknown verb {argv[0]!r}.{nearest(argv[0], verbs())}\n{usage}", file=sys.stderr)
    return 2
