import json
import os

import pytest

from jaxvid.checkpoint import checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "state" / "d").mkdir(parents=True)
    (tmp_path / "state" / "d" / "weights").write_bytes(os.urandom(1000))
    (tmp_path / "_CHECKPOINT_METADATA").write_text("{}")
    checksums.write(tmp_path)
    return tmp_path


def test_what_is_as_it_was_written_has_no_damage(folder):
    assert list(json.loads((folder / "checksums.json").read_text())) == ["state/d/weights"]
    assert checksums.find_damage(folder) is None
    (folder / "_CHECKPOINT_METADATA").write_text('{"stamped": "later"}')
    assert checksums.find_damage(folder) is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"x"), "does not hold what was written"),
        (lambda p: os.truncate(p, 999), "state/d/weights has 999 bytes, 1000 were written"),
        (lambda p: p.unlink(), "state/d/weights is missing"),
    ],
)
def test_what_was_spoilt_is_named(folder, spoil, words):
    path = folder / "state" / "d" / "weights"
    path.write_bytes(path.read_bytes()[:-1] + b"y")
    checksums.write(folder)
    spoil(path)
    assert words in checksums.find_damage(folder)


def test_a_spoilt_table_is_damage_and_an_absent_one_says_nothing(folder):
    (folder / "checksums.json").write_text("{")
    assert checksums.find_damage(folder) == "checksums.json is no JSON"
    (folder / "checksums.json").unlink()
    assert checksums.find_damage(folder) is None
