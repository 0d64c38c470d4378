import errno
import json
import resource

import numpy as np
import pytest

from jaxvid.core.files import plain, write_atomically, write_json


def test_writes_and_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "eval" / "val.json"
    write_atomically(path, b"one")
    write_atomically(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["val.json"]


def test_a_full_disk_names_the_file_and_keeps_the_former_one(tmp_path):
    path = tmp_path / "val.csv"
    write_atomically(path, b"former")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a real error in the middle of a file
    try:
        with pytest.raises(OSError, match="cannot be written .*former version is unchanged") as e:
            write_atomically(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert e.value.errno == errno.EFBIG and e.value.filename == str(path)
    assert path.read_bytes() == b"former"
    assert [p.name for p in tmp_path.iterdir()] == ["val.csv"]


def test_a_parent_that_is_a_file_is_said(tmp_path):
    (tmp_path / "eval").write_text("")
    with pytest.raises(OSError, match="cannot be written") as e:
        write_atomically(tmp_path / "eval" / "val.json", b"")
    assert e.value.filename == str(tmp_path / "eval" / "val.json")


def test_json_is_strict_plain_and_readable(tmp_path):
    value = {
        "split": "val",
        "protocol": {"views": 5},
        "metrics": {
            "top1": np.float32(0.5),
            "loss": float("nan"),
            "per_class": [{"class": "Schläge", "f1": None}, {"class": "b", "f1": np.inf}],
            "confusion": np.array([[1, 2], [3, 4]]),
            "undefined": [],
        },
    }
    write_json(tmp_path / "val.json", value)
    text = (tmp_path / "val.json").read_text()

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse) == plain(value)
    assert json.loads(text)["metrics"]["loss"] is None
    lines = [line.strip() for line in text.splitlines()]
    assert '{"class": "Schläge", "f1": null},' in lines and "[1, 2]," in lines
    assert '"undefined": []' in lines and text.endswith("}\n")
