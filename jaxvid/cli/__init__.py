"""The `jaxvid` command: one file of this folder a verb, each with `run(argv) -> exit code`."""

import importlib
import logging
import pkgutil
import sys
from collections.abc import Sequence

from jaxvid.core.device_memory import is_full, what_is_full
from jaxvid.core.errors import USER_ERRORS, nearest


def verbs() -> list[str]:
    """The files of this folder, but for those with an underscore: they are parts of a verb."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")


def main(argv: Sequence[str] | None = None) -> int:
    """`jaxvid VERB …`; without a verb, or with an unknown one, the list of them. What a user can mend is
    one line on stderr and exit code 2, where the verb has none of its own."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain talk to their own makers
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in verbs():
        try:
            return importlib.import_module(f"jaxvid.cli.{argv[0]}").run(argv[1:])
        except USER_ERRORS as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if not is_full(error):
                raise
            print(f"error: a device's memory is full: {what_is_full(error)}", file=sys.stderr)
            print(
                "Less at a time helps: of `jaxvid predict` a smaller --batch-size", file=sys.stderr
            )
            return 2
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
