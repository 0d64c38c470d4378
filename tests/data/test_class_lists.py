"""The class lists that ship with the package."""

import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.data import class_lists

SIZES = {
    "activitynet": 200,
    "ava": 60,
    "diving48": 48,
    "hmdb51": 51,
    "jester": 27,
    "kinetics400": 400,
    "kinetics600": 600,
    "kinetics700": 700,
    "moments_in_time": 339,
    "ssv1": 174,
    "ssv2": 174,
    "ucf101": 101,
}


def test_all_are_there():
    assert class_lists.names() == tuple(SIZES)
    for name, size in SIZES.items():
        listed = class_lists.load(name)
        assert len(listed) == len(set(listed)) == size
        assert all(line == line.strip() for line in listed)


def test_orders():
    for name in ("kinetics400", "kinetics600", "kinetics700", "hmdb51"):
        assert class_lists.load(name) == tuple(sorted(class_lists.load(name)))
    assert class_lists.load("kinetics400")[398:] == ("yoga", "zumba")
    assert class_lists.load("ssv1") != class_lists.load("ssv2")
    assert sorted(class_lists.load("ssv1")) == sorted(class_lists.load("ssv2"))
    assert class_lists.load("jester")[:2] == ("Swiping Left", "Swiping Right")


def test_unknown():
    with pytest.raises(UnknownNameError, match="class list 'kinetics4000'.* 'kinetics400'.*ucf101"):
        class_lists.load("kinetics4000")
