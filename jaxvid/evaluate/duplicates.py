"""Clips of an evaluation that were trained on: files of the same bytes in both splits.

RWF-2000 has such clips; what is measured on them is memory.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.file_facts import content_hash, size_bytes


def copies(
    evaluated: DatasetIndex,
    trained: DatasetIndex,
    *,
    threads: int = 4,
    content_of: Callable[[str], str | None] | None = None,
) -> dict[int, str]:
    """{row of an evaluated record: path of a trained one of the same content and the same stretch
    of it}.

    content_of: of a path, what is equal for equal contents, None where that is not known; by
    default the files say it: only those whose size is that of a file of the other split are read.
    What cannot be read has no copy.
    """
    ours, theirs = ({r.path for r in index.records} for index in (evaluated, trained))
    with ThreadPoolExecutor(threads) as pool:
        alike = ours | theirs
        if content_of is None:
            sizes = _of_each(pool, size_bytes, alike)
            common = {sizes.get(p) for p in ours} & {sizes.get(p) for p in theirs} - {None}
            alike = [path for path, size in sizes.items() if size in common]
        contents = _of_each(pool, content_of or content_hash, alike)

    def identity(record: VideoRecord) -> tuple:
        return contents.get(record.path, record.path), record.start_seconds, record.end_seconds

    known = {identity(record): record.path for record in reversed(trained.records)}
    rows = {row: known.get(identity(r)) for row, r in enumerate(evaluated.records)}
    return {row: path for row, path in rows.items() if path is not None}


def _of_each(pool: ThreadPoolExecutor, function: Callable, paths: Iterable[str]) -> dict:
    """{path: function(path)} of those that can be read."""

    def attempt(path: str):
        try:
            return function(path)
        except OSError:
            return None

    paths = list(paths)
    found = zip(paths, pool.map(attempt, paths), strict=True)
    return {path: value for path, value in found if value is not None}
