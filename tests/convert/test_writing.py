import logging

import numpy as np
import pytest

from jaxvid import model_tree, pretrained
from jaxvid.convert import apply, writing
from jaxvid.core.errors import ConfigError, ConversionError

CLIP = (4, 16, 16, 3)


def tiny(**overrides):
    return pretrained.create_model("videomae", variant="test", num_classes=2, **overrides)


def written(model, arch):
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, CLIP))
    flat = {path: np.zeros(x.shape, x.dtype) for path, x in shapes.items()}
    return writing.to_state("videomae", model_tree.arguments_of(model), flat, arch, CLIP)


def test_jaxvids_own_keys_are_the_paths():
    made = written(tiny(), "jaxvid")
    assert "encoder/block_0/norm1/scale" in made.state and made.config is None
    assert writing.hf_config(made, "jaxvid", {}) is None


def test_the_config_of_hugging_face_has_the_class_names():
    made = written(tiny(), "hf/videomae")
    config = writing.hf_config(made, "hf/videomae", {"class_names": ["walk", "fight"]})
    assert config["id2label"] == {"0": "walk", "1": "fight"}
    assert config["label2id"] == {"walk": 0, "fight": 1}
    assert config["architectures"] == ["VideoMAEForVideoClassification"]
    assert config["model_type"] == "videomae" and "num_labels" not in config
    assert writing.hf_config(made, "hf/videomae", {})["id2label"]["1"] == "LABEL_1"
    assert "problem_type" not in config
    several = writing.hf_config(made, "hf/videomae", {"task": {"kind": "multilabel"}})
    assert several["problem_type"] == "multi_label_classification"
    with pytest.raises(ConfigError, match="info has 3 class_names, the model 2 classes"):
        writing.hf_config(made, "hf/videomae", {"class_names": ["a", "b", "c"]})
    assert writing.hf_config(written(tiny(), "videomae/finetune"), "videomae/finetune", {}) is None


def test_what_a_checkpoint_said_and_no_field_holds_is_said_again():
    made = written(tiny(), "hf/videomae")
    told = {"norm_pix_loss": False, "num_frames": 99, "id2label": {"0": "a"}, "model_type": "x"}
    info = {"config": told, "source": {"path": "a", "arch": "hf/videomae"}}
    config = writing.hf_config(made, "hf/videomae", info)
    assert config["norm_pix_loss"] is False and config["num_frames"] == CLIP[0]
    assert len(config["id2label"]) == 2 and config["model_type"] == "videomae"
    info["source"]["arch"] = "videomae/finetune"
    assert "norm_pix_loss" not in writing.hf_config(made, "hf/videomae", info)


def test_another_models_arch_is_refused():
    with pytest.raises(
        ConversionError, match="videomae/pretrain is of model 'videomae_pretrain', .* hf/videomae"
    ):
        written(tiny(), "videomae/pretrain")


def test_what_the_reference_cannot_express_is_an_error():
    with pytest.raises(
        ConversionError, match="cannot express this model:(.|\n)*qkv_bias: 'all' here, 'qv' there"
    ):
        written(tiny(qkv_bias="all"), "videomae/finetune")


def test_another_epsilon_is_said(caplog):
    with caplog.at_level(logging.WARNING, "jaxvid"):
        written(tiny(fc_norm_eps=1e-5), "hf/videomae")
        assert not caplog.records
        written(tiny(fc_norm_eps=1e-6), "hf/videomae")
    assert "fc_norm_eps is 1e-06 here, always 1e-05 there" in caplog.text
