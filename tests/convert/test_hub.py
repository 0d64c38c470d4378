"""Ids of the hub: fetched by the package, or an error that says the way without."""

import sys
from types import SimpleNamespace

import pytest

from jaxvid.convert import hub, reading
from jaxvid.core.errors import ConversionError


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Stands in for huggingface_hub: notes what is asked for, and writes .bin files only if asked."""
    asked = []

    def snapshot_download(name, *, allow_patterns):
        asked.append((name, tuple(allow_patterns)))
        if hub.WEIGHTS[1] in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_bytes(b"")
        return str(tmp_path)

    fake = SimpleNamespace(snapshot_download=snapshot_download, asked=asked, folder=tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_what_exists_is_not_looked_for(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert str(hub.resolve("org/name")) == "org/name"


def test_safetensors_are_preferred(package):
    (package.folder / "model.safetensors").write_bytes(b"")
    assert hub.resolve("org/name-1.5_x") == package.folder
    ((name, patterns),) = package.asked
    assert name == "org/name-1.5_x" and hub.WEIGHTS[0] in patterns
    assert {"*.json", "merges.txt"} <= set(patterns) and hub.WEIGHTS[1] not in patterns


def test_bin_files_where_there_are_no_others(package):
    assert (hub.resolve("org/name") / "pytorch_model.bin").is_file()
    assert [hub.WEIGHTS[1] in patterns for _, patterns in package.asked] == [False, True]


@pytest.mark.parametrize("path", ["nothing", "./a/b", "/no/where", "a/b/c", "weights.pth"])
def test_what_is_no_id_does_not_exist(path, package):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        hub.resolve(path)
    assert package.asked == []


@pytest.mark.parametrize("error", [OSError("offline\nmore"), ValueError("no such repository")])
def test_a_hub_out_of_reach_names_the_way_without_it(package, error):
    def fail(*args, **kwargs):
        raise error

    package.snapshot_download = fail
    first = str(error).splitlines()[0]
    with pytest.raises(ConversionError, match=f"{first} Without a network: download the folder"):
        reading.from_path("org/name")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        FileNotFoundError, match=r"pip install 'jaxvid\[hub\]', or download its folder"
    ):
        hub.resolve("org/name")
