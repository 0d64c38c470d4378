"""What the README promises of its first command."""

import json

import pytest

from jaxvid.main import main


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_passes_ninety_percent(tmp_path):
    recipe, workdir = "configs/quickstart.py", tmp_path / "run"
    words = [
        "--config",
        recipe,
        "--workdir",
        str(workdir),
        f"--config.data.root={tmp_path / 'data'}",
    ]
    assert main(words) == 0
    result = json.loads((workdir / "eval" / "val.json").read_text())
    assert result["n"] == 200 and result["metrics"]["top1"] >= 0.9
