import json

import numpy as np
import pytest

from jaxvid.convert import hf_folder, safetensors_file
from jaxvid.core.errors import ConversionError


def folder(tmp_path, config, processor=None):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    safetensors_file.write(tmp_path / "model.safetensors", {"w": np.ones(2, np.float32)})
    return tmp_path


def test_a_folder_is_read(tmp_path):
    path = folder(tmp_path, {"model_type": "demo"}, {"size": 64, "crop_size": 56})
    read = hf_folder.read(path)
    assert hf_folder.is_hf_folder(path)
    assert read.config == {"model_type": "demo"} and list(read.state) == ["w"]
    assert read.preprocessing == {"size": 56, "short_side": 64}


def test_what_processes_videos_is_read_before_what_processes_images(tmp_path):
    path = folder(tmp_path, {"model_type": "demo"}, {"size": 64, "crop_size": 56})
    told = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    (path / "video_preprocessor_config.json").write_text(json.dumps(told))
    assert hf_folder.read(path).preprocessing == {"size": 32, "short_side": 36}
    (path / "preprocessor_config.json").unlink()
    assert hf_folder.read(path).preprocessing == {"size": 32, "short_side": 36}


def test_a_folder_without_weights_lists_what_it_has(tmp_path):
    path = folder(tmp_path, {"model_type": "demo"})
    (path / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"no weights.*pytorch_model.bin.*are: config.json"):
        hf_folder.read(path)


def test_other_folders_are_not_mistaken_for_one(tmp_path):
    assert not hf_folder.is_hf_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"run": {}}')
    assert not hf_folder.is_hf_folder(tmp_path)


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConversionError, match="config.json: not JSON"):
        hf_folder.is_hf_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConversionError, match="expected a JSON object, got list"):
        hf_folder.is_hf_folder(tmp_path)


def test_class_names_come_in_the_order_of_their_numbers():
    config = {"id2label": {"1": "fight", "0": "walk"}}
    assert hf_folder.class_names(config) == ["walk", "fight"]
    assert hf_folder.class_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) is None
    assert hf_folder.class_names({}) is None
    with pytest.raises(ConversionError, match=r"indices \[0, 2\]"):
        hf_folder.class_names({"id2label": {"0": "a", "2": "b"}})
    with pytest.raises(ConversionError, match="id2label is a list, expected an object"):
        hf_folder.class_names({"id2label": ["a", "b"]})


def test_several_labels_a_clip_are_said_as_transformers_says_it():
    several = {"problem_type": "multi_label_classification"}
    assert hf_folder.task(several) == {"kind": "multilabel", "heads": {}, "pooling": "mean"}
    assert hf_folder.task({"problem_type": "single_label_classification"}) is None
    assert hf_folder.task({}) is None


def test_the_number_of_labels_is_found_as_transformers_finds_it():
    assert hf_folder.num_labels({"num_labels": 7, "id2label": {"0": "a"}}) == 1
    assert hf_folder.num_labels({"num_labels": 7, "id2label": None}) == 7
    assert hf_folder.num_labels({"id2label": {str(i): "x" for i in range(5)}}) == 5
    assert hf_folder.num_labels({}) == 2
