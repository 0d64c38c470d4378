"""What `import jaxvid` costs, and that its lazy names are there."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxvid

ROOT = Path(__file__).parents[1]


def run(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_importing_jaxvid_imports_neither_jax_nor_flax():
    code = "import sys, jaxvid; print(sorted({'jax', 'flax', 'numpy'} & set(sys.modules)))"
    assert run(code).stdout.strip() == "[]"


def test_the_public_names_are_found_when_used():
    for name in ("create_model", "from_pretrained", "from_state_dict", "save_pretrained"):
        assert callable(getattr(jaxvid, name)) and name in dir(jaxvid)
    with pytest.raises(AttributeError, match="has no attribute 'form_pretrained'"):
        _ = jaxvid.form_pretrained


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert jaxvid.__version__ == project.get("version", jaxvid.__version__)
