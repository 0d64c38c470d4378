"""What stands after the colon of a recipe: every word it lists trains, every other one is told."""

from pathlib import Path

import pytest

from jaxvid import config
from jaxvid.core.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("name", ["videomae_pretrain", "feature_head"])
def test_the_quickstart_refuses_what_classifies_no_clips(name):
    with pytest.raises(ConfigError, match=f"trains classifiers of clips, which {name} is not"):
        config.load(f"{CONFIGS / 'quickstart.py'}:{name}")


def test_the_stream_of_flow_is_given_flow():
    assert config.load(f"{CONFIGS / 'i3d_rwf.py'}:flow").data.flow == "dis"
    assert config.load(f"{CONFIGS / 'i3d_rwf.py'}:rgb").data.flow == "none"
