"""What a check of a dataset finds: an error or a warning, of a kind, in a sentence, with examples."""

import dataclasses
from collections.abc import Sequence

ERROR, WARNING = "error", "warning"
KINDS = (
    "split",  # cannot be loaded
    "reader",  # what the reader warned of
    "missing",
    "unreadable",
    "one-frame",
    "short",  # fewer frames than the container says
    "segment",
    "duplicate",
    "group",
    "classes",
    "labels",
    "features",  # of several sizes
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """level: "error" or "warning". kind: one of KINDS. examples: what is concerned, all of it."""

    level: str
    kind: str
    message: str
    examples: tuple[str, ...] = ()


def found(level: str, kind: str, message: str, examples: Sequence[str]) -> list[Finding]:
    """[] when nothing is concerned, else one finding; {n} in the message is how many."""
    return [Finding(level, kind, message.format(n=len(examples)), tuple(examples))] * bool(examples)
