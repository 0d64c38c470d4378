import importlib.util
from pathlib import Path

import fsspec
import pytest
from etils import epath

from jaxvid.core.errors import ConfigError
from jaxvid.core.places import as_given, is_remote, place, storage_errors


@pytest.fixture
def with_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_folders_are_absolute_and_home_is_known(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert place("runs/x") == tmp_path / "runs" / "x"
    assert place(Path("~/x")) == Path("/home/me/x")
    assert as_given("MCG-NJU/videomae-base", "init.checkpoint") == Path("MCG-NJU/videomae-base")


@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_buckets_are_addresses(with_library, kind, monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {})
    path = place(f"{kind}://bucket/run/")
    assert isinstance(path, epath.Path) and str(path) == f"{kind}://bucket/run"
    assert is_remote(path / "checkpoints") and not is_remote(Path("gs/x"))
    assert fsspec.config.conf == {kind: {"use_listings_cache": False}}


@pytest.mark.parametrize(("kind", "library"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_a_bucket_without_its_library_says_what_to_install(monkeypatch, kind, library):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = rf"--workdir {kind}://b/x: .* needs {library}; pip install 'jaxvid\[cloud\]'"
    with pytest.raises(ConfigError, match=said):
        place(f"{kind}://b/x")


@pytest.mark.parametrize("name", ["hf://bucket/x", "az://bucket/x"])
def test_storage_that_checkpoints_cannot_go_to(with_library, name):
    with pytest.raises(ConfigError, match=f"init.checkpoint {name}: .*mount it"):
        place(name, "init.checkpoint")


def test_errors_of_storage_become_oserrors_of_the_path():
    with pytest.raises(OSError, match="gs://b/x: KeyError: 'denied'"), storage_errors("gs://b/x"):
        raise KeyError("denied")
    with pytest.raises(FileNotFoundError, match="^gone$"), storage_errors("gs://b/x"):
        raise FileNotFoundError("gone")
