import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxvid.convert import safetensors_file, weights_file
from jaxvid.core.errors import ConversionError

TORCH_FILES = Path(__file__).parents[1] / "goldens" / "torch_files"


def write_shards(folder, suffix=".safetensors"):
    for number in (1, 2):
        state = {f"w{number}": np.full(2, number, np.float32)}
        safetensors_file.write(folder / f"model-{number}.safetensors", state)
    index = folder / "model.safetensors.index.json"
    weight_map = {"w1": "model-1.safetensors", "w2": "model-2.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_every_format_gives_arrays(tmp_path):
    safetensors_file.write(tmp_path / "a.safetensors", {"w": np.ones(2, np.float32)})
    assert list(weights_file.read(tmp_path / "a.safetensors")[0]) == ["w"]
    weights, beside = weights_file.read(TORCH_FILES / "zip.pth")
    assert "float" in weights and beside["epoch"] == 7


def test_shards_are_put_together(tmp_path):
    weights, _ = weights_file.read(write_shards(tmp_path))
    assert weights.keys() == {"w1", "w2"} and weights["w2"][0] == 2


def test_shards_of_torch_files_are_put_together(tmp_path):
    shutil.copy(TORCH_FILES / "zip.pth", tmp_path / "pytorch_model-00001-of-00001.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    names = {"float": "pytorch_model-00001-of-00001.bin"}
    index.write_text(json.dumps({"weight_map": names}))
    assert "float" in weights_file.read(index)[0]
    assert weights_file.find_in_folder(tmp_path) == index


def test_incomplete_shards_are_listed(tmp_path):
    index = write_shards(tmp_path)
    listing = json.loads(index.read_text())
    listing["weight_map"]["w3"] = "model-2.safetensors"
    index.write_text(json.dumps(listing))
    with pytest.raises(ConversionError, match="1 keys are in no shard: w3"):
        weights_file.read(index)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"1 of 2 shards are not there: model-1.safetensors"):
        weights_file.read(index)


def test_absent_and_unknown_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        weights_file.read(tmp_path / "none.pth")
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ConversionError, match=r"unknown kind '.onnx'; known: .safetensors"):
        weights_file.read(tmp_path / "a.onnx")
    assert weights_file.is_weights_file("a.pth") and not weights_file.is_weights_file("a.onnx")


def test_the_folder_is_searched_in_the_order_hugging_face_has(tmp_path):
    assert weights_file.find_in_folder(tmp_path) is None
    for name in reversed(weights_file.FOLDER_FILES):
        (tmp_path / name).write_bytes(b"")
        assert weights_file.find_in_folder(tmp_path).name == name
