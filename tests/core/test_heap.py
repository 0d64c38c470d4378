import resource
import sys

import pytest

from jaxvid.core import heap


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux tells them")
def test_what_is_free_goes_back():
    blocks = [
        bytes(60_000) for _ in range(4000)
    ]  # 240 MB in the heap, each too small for its own map
    last = bytes(60_000)  # keeps the heap's end where it is
    full = resident()
    del blocks
    heap.give_back()
    assert resident() < full - 150e6
    assert len(last) == 60_000


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_elsewhere_nothing_happens(monkeypatch, platform):
    monkeypatch.setattr(heap.sys, "platform", platform)
    monkeypatch.setattr(heap.ctypes, "CDLL", None)  # not called
    heap.give_back()


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "linux")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.give_back()
