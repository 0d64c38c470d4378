"""`jaxvid convert`, by its function: what it writes, prints and returns."""

import json

import jax
import numpy as np
import pytest

from jaxvid import model_tree, pretrained, saving
from jaxvid.cli import convert, main

CLIP = (4, 16, 16, 3)
INFO = {
    "preprocessing": {"num_frames": 4, "size": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
    "class_names": ["walk", "fight"],
}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    model = pretrained.create_model("videomae", variant="test", num_classes=2, fc_norm_eps=1e-5)
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, CLIP)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    folder = tmp_path_factory.mktemp("cli") / "export"
    saving.save_pretrained(folder, model, variables, INFO)
    return folder, variables


def same_weights(path, variables, **options):
    jax.tree.map(
        np.testing.assert_array_equal, pretrained.from_pretrained(path, **options)[1], variables
    )


def test_folder_to_folder(export, tmp_path, capsys):
    folder, variables = export
    assert convert.run([str(folder), str(tmp_path / "copy")]) == 0
    assert "videomae, 0.03M parameters, keys of hf/videomae" in capsys.readouterr().out
    same_weights(tmp_path / "copy", variables)
    assert (tmp_path / "copy" / "config.json").exists()


@pytest.mark.parametrize("to", [None, "videomae/finetune", "hf/videomae"])
def test_folder_to_safetensors_and_back(export, tmp_path, to):
    folder, variables = export
    path = tmp_path / "weights.safetensors"
    assert convert.run([str(folder), str(path), *(["--to", to] if to else [])]) == 0
    same_weights(path, variables)
    assert convert.run([str(path), str(tmp_path / "again")]) == 0
    same_weights(tmp_path / "again", variables)


@pytest.mark.torch
def test_folder_to_the_original_repositorys_file_and_back(export, tmp_path):
    torch = pytest.importorskip("torch")
    folder, variables = export
    path = tmp_path / "original.pth"
    assert convert.run([str(folder), str(path)]) == 0
    state = torch.load(path, weights_only=True)["model"]
    assert "blocks.0.attn.qkv.weight" in state
    config = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    config |= {"num_classes": 2, "all_frames": 4, "img_size": 16}
    same_weights(path, variables, arch="videomae/finetune", config=config)
    words = [str(path), str(tmp_path / "again"), "--arch", "videomae/finetune", "--config"]
    assert convert.run([*words, json.dumps(config)]) == 0
    same_weights(tmp_path / "again", variables)


@pytest.mark.parametrize("word", ["{", "[1]"])
def test_a_config_that_is_no_json_object(word, capsys):
    with pytest.raises(SystemExit):
        convert.run(["a.pth", "b", "--config", word])
    assert f"{word} is no JSON" in capsys.readouterr().err


@pytest.mark.torch
def test_a_model_that_no_repository_has_keeps_its_own_keys(tmp_path, capsys):
    pytest.importorskip("torch")
    model = pretrained.create_model("feature_head", variant="test", num_classes=2)
    shapes = model_tree.variable_shapes(model, (4, 7))
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    told = {"num_frames": 4, "feature_size": 7}
    saving.save_pretrained(tmp_path / "export", model, variables, {"preprocessing": told})
    assert convert.run([str(tmp_path / "export"), str(tmp_path / "head.pth")]) == 0
    assert "keys of jaxvid" in capsys.readouterr().out


def test_a_fresh_head_is_listed(export, tmp_path, capsys):
    argv = [str(export[0]), str(tmp_path / "seven"), "--num-classes", "7"]
    assert convert.run(argv) == 0
    out = capsys.readouterr().out
    assert "fresh, train before use: head/bias" in out
    info = pretrained.from_pretrained(tmp_path / "seven")[2]
    assert info["class_names"] is None
    assert info["fresh"] == ["head/bias", "head/kernel"]  # nobody has trained it since


def test_errors_are_printed_and_nothing_is_written(export, tmp_path, capsys):
    for argv in (
        [str(tmp_path / "none"), str(tmp_path / "out")],
        [str(export[0]), str(tmp_path / "out"), "--to", "videomae/pretrain"],
        [str(export[0]), str(tmp_path / "out"), "--arch", "videomae_pretrain"],
    ):
        assert convert.run(argv) == 1
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_help_lists_every_arch(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "videomae/finetune" in out and "examples:" in out
