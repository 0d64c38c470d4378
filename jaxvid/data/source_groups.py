"""Which recording each clip was cut from, for sets that tell it in a table beside their clips."""

from collections.abc import Mapping
from pathlib import Path

from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex
from jaxvid.data.datasets import _listed

CLIP_COLUMNS, GROUP_COLUMNS = ("path", "id"), ("group", "source")


def read_groups(file: str | Path, indices: Mapping[str, DatasetIndex]) -> dict[str, str]:
    """{record id: group} from a csv with a column `path` (or `id`) and a column `group` (or `source`).

    A clip is named by its record's id, which for most sets is its path within the dataset's folder.
    Raises DataError when columns are missing, and for names of which none is a clip of these splits.
    """
    rows = _listed.read_csv(file, header=())
    columns = list(rows[0][1]) if rows else []
    clip = next((c for c in CLIP_COLUMNS if c in columns), None)
    group = next((c for c in GROUP_COLUMNS if c in columns), None)
    if clip is None or group is None:
        raise DataError(
            f"{file}: expected a column {' or '.join(CLIP_COLUMNS)} and a column "
            f"{' or '.join(GROUP_COLUMNS)}; its columns are {', '.join(columns) or 'none'}"
        )
    told = {row[clip]: row[group] for _, row in rows if row[group]}
    ids = [record.id for index in indices.values() for record in index.records]
    groups = {i: told[i] for i in ids if i in told}
    if not groups:
        raise DataError(
            f"{file}: none of its {len(told)} clips is one of this dataset, whose first is "
            f"{ids[0] if ids else 'absent'!r}; its own first is {next(iter(told), 'absent')!r}"
        )
    return groups
