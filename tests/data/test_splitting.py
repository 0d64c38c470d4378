"""Clips are divided by class, by share, and never within a recording."""

import re

import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoRecord
from jaxvid.data.splitting import divide

NAMES = ("calm", "fight")


def clips(*labels):
    return [VideoRecord(f"{i}.mp4", f"{i}.mp4", (label,)) for i, label in enumerate(labels)]


def alone(records):
    return [r.id for r in records]


def test_each_class_is_divided_by_the_shares_and_nothing_is_lost():
    records = clips(*[0] * 40, *[1] * 10)
    found = divide(records, alone(records), NAMES, {"val": 0.2, "test": 0.1}, 0)
    assert list(found) == ["train", "val", "test"]
    counts = {s: [sum(r.labels[0] == c for r in part) for c in (0, 1)] for s, part in found.items()}
    assert counts == {"train": [28, 7], "val": [8, 2], "test": [4, 1]}
    assert sorted(r.id for part in found.values() for r in part) == sorted(alone(records))
    assert [r.id for r in found["train"]] == [r.id for r in records if r in found["train"]]


def test_the_seed_decides():
    records = clips(*[0] * 20, *[1] * 20)

    def val(seed):
        return [r.id for r in divide(records, alone(records), NAMES, {"val": 0.3}, seed)["val"]]

    assert val(1) == val(1) != val(2)


def test_a_recording_stays_together_over_classes():
    records = clips(*[0, 1] * 20)
    groups = [str(i // 4) for i in range(40)]  # two clips of each class
    found = divide(records, groups, NAMES, {"val": 0.25}, 3)
    sides = [{groups[int(r.id[:-4])] for r in part} for part in found.values()]
    assert not sides[0] & sides[1] and [len(part) for part in found.values()] == [32, 8]


def test_groups_beyond_the_share_make_it_larger_rather_than_none():
    records = clips(*[0] * 10, *[1] * 10)
    groups = [str(i // 5) for i in range(20)]
    found = divide(records, groups, NAMES, {"val": 0.2}, 0)
    assert [len(part) for part in found.values()] == [10, 10]


def test_a_class_of_one_recording_is_refused():
    records = clips(0, 0, 0, 1, 1, 1)
    said = "class 'fight' cannot stand in train, val: its 3 clips are of 1 recordings or contents"
    with pytest.raises(DataError, match=re.escape(said)):
        divide(records, ["a", "b", "c", "d", "d", "d"], NAMES, {"val": 0.3}, 0)


@pytest.mark.parametrize(
    "shares", [{}, {"val": 0.0}, {"val": 0.6, "test": 0.4}, {"val": -0.1}, {"dev": 0.2}]
)
def test_shares_that_cannot_be(shares):
    with pytest.raises(ConfigError, match="expected those of val"):
        divide(clips(0, 1), ["0", "1"], NAMES, shares, 0)
