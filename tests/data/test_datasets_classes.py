"""Class lists in files, with and without numbers."""

import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data.datasets import _classes


def write(path, text):
    path.write_text(text, newline="")
    return path


def test_plain(tmp_path):
    file = write(tmp_path / "a.txt", "run, fast\r\n 2 hands \n\n#1 & co;\n")
    assert _classes.plain(file) == ("run, fast", "2 hands", "#1 & co;")


@pytest.mark.parametrize(
    "text, base",
    [
        ("2 b c\n1 a\n", 1),
        ("a,0\nb c,1\r\n", 0),
        ("1,b c\n0,a\n", 0),
        ("b c\t2\na\t1\n", 1),
    ],
)
def test_numbered(tmp_path, text, base):
    assert _classes.numbered(write(tmp_path / "a.txt", text)) == (("a", "b c"), base)


@pytest.mark.parametrize(
    "text, said",
    [
        ("1 a\nb\n", "a.txt:2: 'b', expected a class name and its number"),
        ("1 a\n2 a\n", "a.txt:2: the class 'a' stands there twice, first in line 1"),
        ("1 a\n1 b\n", "2 classes with numbers from 1 to 1, 1 is out of place; expected 0, 1, 2"),
        ("0 a\n2 b\n", "numbers from 0 to 2, 2 is out of place"),
        ("5 a\n6 b\n", "numbers from 5 to 6, 5 is out of place"),
        ("", "a.txt: the class list is empty"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        _classes.numbered(write(tmp_path / "a.txt", text))


def test_chosen(tmp_path):
    write(tmp_path / "names.txt", "2 b\n1 a\n")
    write(tmp_path / "plain.txt", "10 pin bowling\n2 hands\n")
    assert _classes.chosen(tmp_path, None, ["x", "y"], ()) == ("x", "y")
    assert _classes.chosen(tmp_path, None, None, ("names.txt",)) == ("a", "b")
    assert _classes.chosen(tmp_path, None, None, ("other.txt",)) is None
    assert _classes.chosen(tmp_path, None, "names.txt", ()) == ("a", "b")
    assert _classes.chosen(tmp_path, None, str(tmp_path / "plain.txt"), ()) == (
        "10 pin bowling",
        "2 hands",
    )
    assert len(_classes.chosen(tmp_path, None, "ssv2", ())) == 174
    with pytest.raises(
        ConfigError, match="class_names is 'nosuch', which is no file .*activitynet"
    ):
        _classes.chosen(tmp_path, None, "nosuch", ())
