"""What tells one list of training clips from another: kept in checkpoints, which go on only with
the same."""

import hashlib

from jaxvid.core.record import DatasetIndex


def fingerprint(index: DatasetIndex) -> str:
    """The number of clips, and a hash of their ids, labels and beginnings in their order; the same
    wherever the files lie, and whether the records were read from annotations or from a store."""
    text = "\n".join(f"{r.id} {tuple(map(int, r.labels))} {r.start_seconds}" for r in index.records)
    data = text.encode(errors="surrogateescape")  # names of files may be bytes of no encoding
    return f"{len(index)} clips, {hashlib.sha256(data).hexdigest()[:16]}"
