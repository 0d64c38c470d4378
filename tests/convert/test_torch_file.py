"""The committed files were written by torch 2.13 (see `content`), so that reading needs no torch."""

import collections
import pathlib
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxvid.convert import torch_file
from jaxvid.core.errors import ConversionError

FILES = Path(__file__).parents[1] / "goldens" / "torch_files"


def content():
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        "float": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "half": base.astype(np.float16),
        "bfloat": base,
        "double": base.astype(np.float64),
        "long": np.array([-1, 2**40]),
        "int": np.array([3], np.int32),
        "byte": np.array([200], np.uint8),
        "flag": np.array([True, False]),
        "scalar": np.float32(1.5),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
    }


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_both_formats_are_read_without_torch(name):
    weights, beside = torch_file.state_dict(torch_file.read(FILES / name))
    expected = content()
    assert weights.keys() == expected.keys()
    for key, value in expected.items():
        assert weights[key].shape == np.shape(value)
        np.testing.assert_array_equal(weights[key].astype(value.dtype), value)
    assert weights["bfloat"].dtype.name == "bfloat16" and weights["half"].dtype == np.float16
    assert beside["epoch"] == 7 and beside["best"] == 0.5
    assert beside["args"].model == "vit_base_patch16_224"
    assert beside["size"] == (1, 2) and beside["device"] == "cpu"
    np.testing.assert_array_equal(beside["history"].numpy(), [0, 1, 2])
    moment = beside["optimizer"]["state"][0]["exp_avg"]
    assert isinstance(moment, torch_file.TorchTensor) and moment.shape == (3,)


def write_zip(path, pickled, storages=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    path = write_zip(tmp_path / "evil.pth", pickle.dumps({"model": Evil()}, 2))
    with pytest.raises(ConversionError, match=r"evil.pth: the file names (__builtin__|builtins)"):
        torch_file.read(path)
    assert capsys.readouterr().out == ""
    legacy = tmp_path / "evil_legacy.pth"
    legacy.write_bytes(pickle.dumps(Evil(), 2))
    with pytest.raises(ConversionError, match="could run foreign code"):
        torch_file.read(legacy)


@pytest.mark.parametrize("value", [np.float32(1), np.ones(2, np.float32)])
def test_numpy_objects_are_refused(tmp_path, value):
    pickled = pickle.dumps({"x": value}, 2).replace(b"f4", b"O8")
    with pytest.raises(ConversionError, match="names numpy numbers of kind 'O8'"):
        torch_file.read(write_zip(tmp_path / "x.pth", pickled))


@pytest.mark.parametrize(
    ("start", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"hello", "not a checkpoint that torch.save wrote"),
        (b"", "or cut short"),
    ],
)
def test_what_is_no_checkpoint_says_so(tmp_path, start, hint):
    path = tmp_path / "model.pth"
    path.write_bytes(start)
    with pytest.raises(ConversionError, match=hint):
        torch_file.read(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_is_an_error(tmp_path, name, share):
    path = tmp_path / name
    whole = (FILES / name).read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConversionError, match="cut short|damaged"):
        torch_file.state_dict(torch_file.read(path))


def test_foreign_references_and_byte_orders_are_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("module", 3) if value == "here" else None

    with (tmp_path / "x.pkl").open("wb") as file:
        Pickler(file, 2).dump(["here"])
    path = write_zip(tmp_path / "x.pth", (tmp_path / "x.pkl").read_bytes())
    with pytest.raises(ConversionError, match=r"a reference of unknown kind: \('module', 3\)"):
        torch_file.read(path)
    start = [torch_file._LEGACY_MAGIC, 1001, {"little_endian": False}]
    (tmp_path / "big.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in start))
    with pytest.raises(ConversionError, match="big.pth: written on a big-endian machine"):
        torch_file.read(tmp_path / "big.pth")


def test_zips_of_another_kind_say_what_they_are(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ConversionError, match="a TorchScript program"):
        torch_file.read(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(ConversionError, match=r"no data\.pkl"):
        torch_file.read(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3,), (1,)), (1, (2,), (1,)), (-1, (1,), (1,)), (1, (2,), (-1,)), (0, (-1,), (1,))],
)
def test_a_tensor_past_its_storage_is_damage(offset, shape, strides):
    storage = torch_file._Storage(np.dtype("<f4"), lambda: bytes(8))
    with pytest.raises(ConversionError, match="reaches past its storage of 2"):
        torch_file.TorchTensor(storage, offset, shape, strides).numpy()


def test_weights_are_found_under_the_usual_names():
    weights = {"a": np.ones(2)}
    for saved in (weights, {"model": weights}, {"module": weights}, {"state_dict": weights}):
        found, _ = torch_file.state_dict(saved)
        assert list(found) == ["a"]
    found, beside = torch_file.state_dict({"state_dict": {"model": weights}, "epoch": 3})
    assert list(found) == ["a"] and beside == {"epoch": 3}
    with pytest.raises(ConversionError, match=r"x.pth: no weights found.*there is: epoch, net"):
        torch_file.state_dict({"epoch": 3, "net": 5}, "x.pth")
    with pytest.raises(ConversionError, match="there is: list"):
        torch_file.state_dict([1, 2])


def test_harmless_things_beside_the_weights(tmp_path):
    beside = {"out": pathlib.PosixPath("/a/b"), "seen": collections.Counter("aab")}
    with open(tmp_path / "a.pkl", "wb") as file:
        pickle.dump(beside, file, protocol=2)
    with open(tmp_path / "a.pkl", "rb") as file:
        read = torch_file._Unpickler(file).load()
    assert read == {"out": "/a/b", "seen": {"a": 2, "b": 1}}
    for name in ("net", "weights", "model_ema"):
        assert torch_file.state_dict({name: {"a": np.ones(2)}, "epoch": 3})[0].keys() == {"a"}


def test_what_mmengine_leaves_beside_the_weights(tmp_path, monkeypatch):
    names = {
        "mmengine.logging.history_buffer": "HistoryBuffer",
        "mmengine.config.config": "ConfigDict",
    }
    made = {}
    for parent in ("mmengine", "mmengine.logging", "mmengine.config"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    for module, name in names.items():
        made[name] = type(name, (dict,), {"__module__": module})
        stand_in = types.ModuleType(module)
        setattr(stand_in, name, made[name])
        monkeypatch.setitem(sys.modules, module, stand_in)
    history = made["HistoryBuffer"]()
    history.log, history.methods = [1.0], {"min": _Least()}
    meta = {"dataset_meta": made["ConfigDict"](classes=("a", "b")), "epoch": 3}
    saved = {"state_dict": {"w": np.ones(2)}, "meta": meta, "message_hub": {"loss": history}}
    path = write_zip(tmp_path / "epoch_3.pth", pickle.dumps(saved, 2))
    weights, beside = torch_file.state_dict(torch_file.read(path))
    assert list(weights) == ["w"] and beside["message_hub"] == {"loss": {}}
    assert beside["meta"] == {"dataset_meta": {"classes": ("a", "b")}, "epoch": 3}


class _Least:
    """Pickled as MMEngine's histories name their statistics: an attribute of their class."""

    def __reduce__(self):
        return getattr, (sys.modules["mmengine.logging.history_buffer"].HistoryBuffer, "least")


def test_attributes_of_anything_else_are_refused(tmp_path):
    pickled = (
        b"\x80\x02c__builtin__\ngetattr\nccollections\nOrderedDict\nX\x03\x00\x00\x00pop\x86R."
    )
    with pytest.raises(ConversionError, match="the file names getattr of type"):
        torch_file.read(write_zip(tmp_path / "x.pth", pickled))


def test_weights_saved_as_numpy_arrays_are_read(tmp_path):
    arrays = {"c": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6).reshape(2, 3))}
    arrays["big"] = np.arange(3, dtype=">i4")
    for protocol in (2, 4):
        path = write_zip(tmp_path / f"{protocol}.pth", pickle.dumps(arrays, protocol))
        weights, _ = torch_file.state_dict(torch_file.read(path))
        for key, value in arrays.items():
            np.testing.assert_array_equal(weights[key], value)


@pytest.mark.torch
def test_what_torch_writes_today_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Conv3d(2, 3, 2)
    torch.save({"module": layer.state_dict()}, tmp_path / "a.pth")
    weights, _ = torch_file.state_dict(torch_file.read(tmp_path / "a.pth"))
    np.testing.assert_array_equal(weights["weight"], layer.weight.detach().numpy())


@pytest.mark.torch
def test_kinds_only_torch_knows_are_read_through_torch(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"a": torch.eye(3).to_sparse(), "b": torch.ones(2)}}, tmp_path / "a.pth")
    weights, _ = torch_file.state_dict(torch_file.read(tmp_path / "a.pth"))
    np.testing.assert_array_equal(weights["a"], np.eye(3))
    pickled = b"\x80\x02ctorch.foreign\nThing\n."
    with pytest.raises(ConversionError, match="torch refuses the file too"):
        torch_file.read(write_zip(tmp_path / "b.pth", pickled))


@pytest.mark.torch
def test_written_files_are_read_by_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.asarray(3)}
    torch_file.write(tmp_path / "out.pth", state)
    read = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    np.testing.assert_array_equal(read["w"].numpy(), state["w"])
    assert read["n"].item() == 3


def test_writing_without_torch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxvid\[torch\]"):
        torch_file.write(tmp_path / "out.pth", {"w": np.ones(2)})
