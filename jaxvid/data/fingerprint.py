"""What tells one list of training clips from another: kept in checkpoints, which go on only with
the same."""

import hashlib
from collections.abc import Sequence

from jaxvid.core.record import DatasetIndex


def fingerprint(index: DatasetIndex) -> str:
    """The number of clips, and a hash of their ids, labels and beginnings in their order; the same
    wherever the files lie, and whether the records were read from annotations or from a store."""
    lines = [f"{r.id} {tuple(map(int, r.labels))} {r.start_seconds}" for r in index.records]
    return fingerprint_of(lines, "clips")


def fingerprint_of(lines: Sequence[str], what: str = "names") -> str:
    """How many there are, and a hash of them in their order."""
    data = "\n".join(lines).encode(errors="surrogateescape")  # files' names may be of no encoding
    return f"{len(lines)} {what}, {hashlib.sha256(data).hexdigest()[:16]}"
