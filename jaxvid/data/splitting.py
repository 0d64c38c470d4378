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
    members: dict[str, list[VideoRecord]] = defaultdict(list)
    for record, group in zip(records, groups, strict=True):
        members[group].append(record)
    drawn = [list(members)[i] for i in np.random.default_rng(seed).permutation(len(members))]
    # Groups that nobody has taken; small ones come last, to fill what is left.
    free = {group: members[group] for group in sorted(drawn, key=lambda g: -len(members[g]))}
    whole = _labels(records)
    split_of = {}
    for split, share in shares.items():
        wanted = {label: max(1, round(share * count)) for label, count in whole.items()}
        for group in _fitting(free, wanted):
            split_of[group] = split
            del free[group]
    found = {split: [] for split in (TRAIN, *shares)}
    for record, group in zip(records, groups, strict=True):
        found[split_of.get(group, TRAIN)].append(record)
    _check_classes(records, groups, names, found)
    return found


def _fitting(free: Mapping[str, list[VideoRecord]], wanted: Mapping[int, int]) -> list[str]:
    """Groups that hold of each label as many records as wanted, or fewer; more where a label would have
    none."""
    taken, have = [], Counter()
    for group, members in free.items():
        own = _labels(members)
        if all(have[label] + n <= wanted[label] for label, n in own.items()):
            taken.append(group)
            have += own
    for label in wanted:
        whose = [g for g, members in free.items() if g not in taken and label in _labels(members)]
        if not have[label] and whose:
            taken.append(min(whose, key=lambda g: len(free[g])))
            have += _labels(free[taken[-1]])
    return taken


def _labels(records: Sequence[VideoRecord]) -> Counter[int]:
    return Counter(record.labels[0] for record in records)


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
