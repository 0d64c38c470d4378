"""Sections of CLIP's configs: what old files call text_config_dict and vision_config_dict."""

import pytest

from jaxvid.convert import clip_towers, writing
from jaxvid.convert.writing import Written

OLD = {
    "text_config_dict": {"num_attention_heads": 4, "hidden_size": 256},
    "text_config": {"num_attention_heads": 2, "vocab_size": 100},
    "vision_config_dict": {"layer_norm_eps": 1e-3},
    "vision_config": None,
}


def test_the_old_sections_count_before_the_new_ones():
    text, image = clip_towers.sections(OLD)
    assert text == OLD["text_config_dict"] and image == OLD["vision_config_dict"]
    new = {"text_config_dict": None, "text_config": {"hidden_size": 256}}
    assert clip_towers.sections(new) == ({"hidden_size": 256}, {})


@pytest.mark.torch
@pytest.mark.parametrize("name", ["CLIPConfig", "XCLIPConfig"])
def test_transformers_reads_them_so(name):
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, name).from_dict(dict(OLD))
    made = clip_towers.tower_arguments(*clip_towers.sections(OLD))
    assert made["text_num_heads"] == theirs.text_config.num_attention_heads == 4
    assert made["text_width"] == theirs.text_config.hidden_size == 256
    assert made["vocab_size"] == theirs.text_config.vocab_size == 49408
    assert made["norm_eps"] == theirs.vision_config.layer_norm_eps == 1e-3


def test_an_export_says_each_section_once():
    before = {"source": {"arch": "hf/clip"}, "config": {**OLD, "initializer_factor": 2.0}}
    config = writing.hf_config(Written({}, {}, {"text_config": {}}), "hf/clip", before)
    assert "text_config_dict" not in config and "vision_config_dict" not in config
    assert config["initializer_factor"] == 2.0
