import pytest

from jaxvid.core import appending
from jaxvid.core.appending import GrowingFile


class Time:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_on_this_machine_each_addition_is_on_disk(tmp_path):
    file = GrowingFile(tmp_path / "log.txt")
    assert file.read() == ""
    file.add("one\n")
    file.add("two\n")
    assert (tmp_path / "log.txt").read_text() == file.read() == "one\ntwo\n"
    GrowingFile(tmp_path / "log.txt").add("three\n")
    assert file.read() == "one\ntwo\nthree\n"
    file.replace("four\n")
    assert file.read() == "four\n"


@pytest.fixture
def in_a_bucket(tmp_path, monkeypatch):
    """A file of this machine taken for an object."""
    monkeypatch.setattr(appending, "is_remote", lambda path: True)
    return tmp_path / "log.txt"


def test_in_a_bucket_the_whole_is_written_now_and_then(in_a_bucket):
    in_a_bucket.write_text("before\n")
    now = Time()
    file = GrowingFile(in_a_bucket, seconds=30, now=now)
    now.seconds = 29
    file.add("one\n")
    assert in_a_bucket.read_text() == "before\n" and file.read() == "before\none\n"
    now.seconds = 30
    file.add("two\n")
    assert in_a_bucket.read_text() == "before\none\ntwo\n"
    now.seconds = 59
    file.add("three\n")
    assert in_a_bucket.read_text() == "before\none\ntwo\n"
    file.flush()
    assert in_a_bucket.read_text() == "before\none\ntwo\nthree\n"
    file.replace("one\n")
    file.add("new\n")
    file.flush()
    assert in_a_bucket.read_text() == "one\nnew\n"


def test_what_did_not_change_is_not_written_again(in_a_bucket):
    file = GrowingFile(in_a_bucket)
    file.flush()
    assert not in_a_bucket.exists()
