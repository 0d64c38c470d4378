import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxvid.convert import safetensors_file
from jaxvid.core.errors import ConversionError


def write_by_hand(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_there_and_back(tmp_path):
    state = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "scalar": np.float32(2),
        "count": np.asarray(7),
        "none": np.zeros((0, 3), np.float16),
    }
    path = tmp_path / "x.safetensors"
    safetensors_file.write(path, state, {"note": "hello"})
    read, metadata = safetensors_file.read(path)
    assert read.keys() == state.keys() and metadata == {"format": "pt", "note": "hello"}
    for key, value in state.items():
        assert read[key].dtype == value.dtype and read[key].shape == value.shape
        np.testing.assert_array_equal(read[key], value)
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], state["a"])
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_bfloat16_is_read(tmp_path):
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    path = write_by_hand(tmp_path / "x.safetensors", header, values.tobytes())
    read, _ = safetensors_file.read(path)
    np.testing.assert_array_equal(read["a"].astype(np.float32), [1.5, -2.0])


def test_damaged_files_say_so(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"abc")
    with pytest.raises(ConversionError, match=r"not a safetensors file, or cut short \(3 bytes\)"):
        safetensors_file.read(path)
    path.write_bytes((8).to_bytes(8, "little") + b"not json")
    with pytest.raises(ConversionError, match="not a safetensors file: "):
        safetensors_file.read(path)
    header = {"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}
    write_by_hand(path, header, bytes(100))
    with pytest.raises(ConversionError, match="cut short, .* fetch it again"):
        safetensors_file.read(path)


def test_an_unknown_kind_of_number_is_named(tmp_path):
    header = {"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}
    path = write_by_hand(tmp_path / "x.safetensors", header, bytes(1))
    with pytest.raises(ConversionError, match=r"unknown kind \['F4'\]"):
        safetensors_file.read(path)
