import json

import numpy as np
import pytest

from jaxvid.convert import export_folder
from jaxvid.core.errors import ConversionError

STATE = {"w": np.ones(2, np.float32)}


def description(**changes):
    clip, info = (4, 16, 16, 3), {"class_names": ["a"], "waived": {"x": "y"}, "fresh": []}
    return {**export_folder.describe("demo", "jaxvid", {"width": 3}, clip, info), **changes}


def test_a_folder_is_written_and_replaced(tmp_path):
    path = tmp_path / "deep" / "export"
    export_folder.write(path, description(), STATE)
    assert export_folder.is_export(path)
    assert sorted(p.name for p in path.iterdir()) == ["jaxvid.json", "model.safetensors"]
    told = json.loads((path / "jaxvid.json").read_text())
    assert told["arguments"] == {"width": 3} and told["info"] == {"class_names": ["a"], "fresh": []}
    (path / "stale.txt").write_text("")
    export_folder.write(path, description(arch="jaxvid"), STATE)
    assert not (path / "stale.txt").exists()
    assert [p.name for p in path.parent.iterdir()] == ["export"]  # nothing temporary is left


def test_an_empty_folder_is_filled(tmp_path):
    export_folder.write(tmp_path, description(), STATE)
    assert export_folder.is_export(tmp_path)


def test_what_is_not_an_export_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not an earlier export of jaxvid"):
        export_folder.write(tmp_path, description(), STATE)
    with pytest.raises(FileExistsError, match="thesis.txt"):
        export_folder.write(tmp_path / "thesis.txt", description(), STATE)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_failure_half_way_leaves_the_earlier_export(tmp_path):
    path = tmp_path / "export"
    export_folder.write(path, description(), STATE)
    with pytest.raises(TypeError):
        export_folder.write(path, description(model=object()), {"other": np.ones(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["export"]
    assert json.loads((path / "jaxvid.json").read_text())["model"] == "demo"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with export_folder.new_file(path) as file:
        file.write_text("one")
    with pytest.raises(RuntimeError), export_folder.new_file(path) as file:
        file.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_descriptions_of_the_future_are_refused():
    assert export_folder.check_description(description(), "x")
    with pytest.raises(ConversionError, match="x: written by a newer jaxvid; .* up to format 1"):
        export_folder.check_description(description(format=2), "x")
    broken = description()
    del broken["clip"]
    with pytest.raises(ConversionError, match="x: clip absent"):
        export_folder.check_description(broken, "x")
