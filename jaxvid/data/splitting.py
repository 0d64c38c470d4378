"""Which clips train and which ones measure, for clips that nobody has divided yet."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoRecord

TRAIN, MEASURING = "train", ("val", "test")


def divide(
    records: Sequence[VideoRecord],
    groups: Sequence[str],
    names: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, list[VideoRecord]]:
    """{split: its records, in the order given}: of every class the shares asked for, no group in two splits.

    groups: one a record; clips of one recording, or of equal content, have the same. names: of the
    classes, by label. shares: of "val", and of "test" if there is to be one, each in (0, 1), together below 1;
    what is left trains. Each class gets at least one clip in each split; groups larger than a
    share make it larger. The same seed gives the same division.

    Raises ConfigError for other shares, DataError when a class has too few groups.
    """
    _check(shares)
    members = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    drawn = np.random.default_rng(seed).permutation(len(members))
    free = [list(members.values())[i] for i in drawn]
    free.sort(key=len, reverse=True)  # small ones fill what is left

    def labels(rows):
        return Counter(records[row].labels[0] for row in rows)

    whole = labels(range(len(records)))
    split_of = dict.fromkeys(range(len(records)), TRAIN)
    for split, share in shares.items():
        wanted = {label: max(1, round(share * count)) for label, count in whole.items()}
        have: Counter[int] = Counter()

        def take(rows, split=split, have=have):
            have.update(labels(rows))
            split_of.update(dict.fromkeys(rows, split))
            free.remove(rows)

        for rows in list(free):
            if all(have[label] + n <= wanted[label] for label, n in labels(rows).items()):
                take(rows)
        for label in whole:
            if not have[label]:
                whose = [rows for rows in free if label in labels(rows)]
                if whose:
                    take(min(whose, key=len))
    found = {split: [] for split in (TRAIN, *shares)}
    for row, record in enumerate(records):
        found[split_of[row]].append(record)
    _check_classes(records, groups, names, found)
    return found


def _check(shares: Mapping[str, float]) -> None:
    strange = set(shares) - set(MEASURING)
    if not shares or strange or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        raise ConfigError(
            f"the shares are {dict(shares)}, expected those of val (and test), above 0 and together below 1"
        )


def _check_classes(records, groups, names, found) -> None:
    for label, name in enumerate(names):
        if all(any(r.labels[0] == label for r in part) for part in found.values()):
            continue
        own = [g for r, g in zip(records, groups, strict=True) if r.labels[0] == label]
        raise DataError(
            f"class {name!r} cannot stand in {', '.join(found)}: its {len(own)} clips are of "
            f"{len(set(own))} recordings or contents, and none may stand in two splits; bring more, or "
            "leave the class out"
        )
