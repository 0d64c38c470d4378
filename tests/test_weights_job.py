"""Where a run's weights come from and what may be evaluated, in this process on eight CPU devices."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.cli import convert
from jaxvid.main import main

pytestmark = pytest.mark.usefixtures("quickly_made")


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("rwf")
    rng = np.random.default_rng(0)
    for split, clips in (("train", 5), ("val", 2)):
        for number in range(clips):
            for name in ("Fight", "NonFight"):
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                write_video(folder / f"{number}.mp4", rng.integers(0, 256, (8, 36, 40, 3)))
    return root


def run(recipe, data, workdir, *more):
    words = ["--config", recipe, "--workdir", str(workdir), f"--config.data.root={data}"]
    words += [
        "--config.run.steps=2",
        "--config.data.batch_size=8",
        "--config.run.tensorboard=false",
    ]
    return main([*words, "--config.run.log_every_steps=1", *more])


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrain") / "run"
    assert run("configs/videomae_pretrain_rwf.py:test", data, workdir) == 0
    return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder of the test model, as published ones lie on the hub."""
    model = jaxvid.create_model("videomae", variant="test", num_classes=2)
    clip = jnp.zeros((1, 4, 32, 32, 3))
    variables = model.init(jax.random.key(0), {"video": clip}, train=False)
    info = {
        "class_names": ["NonFight", "Fight"],
        "preprocessing": {
            "num_frames": 4,
            "size": 32,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    path = tmp_path_factory.mktemp("hub") / "videomae-test"
    jaxvid.save_pretrained(path, model, variables, info)
    return path


def test_pretraining_writes_its_report_and_reconstructions(pretrained):
    result = json.loads((pretrained / "eval" / "val.json").read_text())
    assert result["protocol"]["mask_ratio"] == 0.9 and result["metrics"]["loss"] > 0
    assert (pretrained / "eval" / "val_reconstruction.png").read_bytes()[:4] == b"\x89PNG"


def test_fine_tuning_starts_from_ones_own_pretraining(pretrained, data, tmp_path):
    more = [f"--config.init.checkpoint={pretrained}", "--config.optim.learning_rate=0.0"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 0
    text = (tmp_path / "w" / "log.txt").read_text()
    assert "FRESH, train before use" in text and "head/kernel" in text
    with Checkpoints(pretrained / "checkpoints", read_only=True) as source:
        before = source.restore_weights(2)["params"]["encoder"]["block_0"]
    with Checkpoints(tmp_path / "w" / "checkpoints", read_only=True) as target:
        after = target.restore_weights(2)["params"]["encoder"]["block_0"]
    np.testing.assert_array_equal(
        after["attention"]["query"]["kernel"], before["attention"]["query"]["kernel"]
    )


def test_a_public_folder_is_fine_tuned_and_evaluated(folder, data, tmp_path):
    recipe = "configs/videomae_rwf.py:test"
    assert run(recipe, data, tmp_path / "w", f"--config.init.checkpoint={folder}") == 0
    text = (tmp_path / "w" / "log.txt").read_text()
    assert "keys of the checkpoint loaded" in text
    assert "made for pixels" not in text
    checkpoint = f"--config.eval.checkpoint={folder}"
    assert run(recipe, data, tmp_path / "e", "--mode", "eval", checkpoint) == 0
    assert json.loads((tmp_path / "e" / "eval" / "val.json").read_text())["n"] == 4


@pytest.mark.slow
def test_what_a_checkpoint_was_made_with_and_the_recipe_is_not_is_said(folder, data, tmp_path):
    hub = tmp_path / "as on the hub"
    shutil.copytree(folder, hub)
    (hub / "jaxvid.json").unlink()
    more = (f"--config.init.checkpoint={hub}", "--config.data.statistics=half")
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 0
    text = (tmp_path / "w" / "log.txt").read_text()
    assert "has fc_norm_eps=1e-05, this model 1e-06" in text
    assert "data.statistics='half' is (0.5, 0.5, 0.5)" in text


def test_a_pretrained_autoencoder_is_not_evaluated_as_a_classifier(
    pretrained, data, tmp_path, capsys
):
    recipe = "configs/videomae_rwf.py:test"
    more = ["--mode", "eval", f"--config.eval.checkpoint={pretrained}"]
    assert run(recipe, data, tmp_path / "e", *more) == 1
    assert "objective.name: 'mae' -> 'classify'" in capsys.readouterr().err


def test_a_folder_with_other_classes_is_not_evaluated(folder, data, tmp_path, capsys):
    model, variables, info = jaxvid.from_pretrained(folder, num_classes=5)
    other = tmp_path / "five"
    info = {**info, "class_names": list("abcde")}
    jaxvid.save_pretrained(other, model, variables, info)
    more = ["--mode", "eval", f"--config.eval.checkpoint={other}"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "e", *more) == 1
    assert "a head that was never trained cannot be evaluated" in capsys.readouterr().err


def test_a_folder_with_the_classes_in_another_order_is_not_evaluated(
    folder, data, tmp_path, capsys
):
    model, variables, info = jaxvid.from_pretrained(folder)
    other = tmp_path / "swapped"
    swapped = {**info, "class_names": ["Fight", "NonFight"]}
    jaxvid.save_pretrained(other, model, variables, swapped)
    more = ["--mode", "eval", f"--config.eval.checkpoint={other}"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "e", *more) == 1
    assert "class 0: 'Fight' there, 'NonFight' here" in capsys.readouterr().err
    jaxvid.save_pretrained(other, model, variables, {**info, "class_names": ["calm", "fight"]})
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "e", *more) == 0
    assert "names its classes otherwise than the data: calm, fight" in capsys.readouterr().err


def test_eval_of_an_empty_workdir(data, tmp_path, capsys):
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "none", "--mode", "eval") == 1
    assert "is not the workdir of a run" in capsys.readouterr().err


def test_a_weights_file_of_another_model(folder, data, tmp_path, capsys):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"layer.weight": np.zeros((2, 2), np.float32)}, path)
    more = [f"--config.init.checkpoint={path}", "--config.init.arch=videomae/finetune"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 1
    assert "layer.weight" in capsys.readouterr().err


def test_a_batch_the_mesh_does_not_divide(data, tmp_path, capsys):
    more = ["--config.data.batch_size=6"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 1
    assert "data.batch_size=6 is not divisible by 8" in capsys.readouterr().err


def test_clips_of_a_wrong_size_for_the_model(data, tmp_path, capsys):
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", "--config.data.size=30") == 1
    assert "must be multiples of the model's tubelet" in capsys.readouterr().err


def test_a_workdir_is_a_checkpoint_for_python_and_convert(pretrained, folder, data, tmp_path):
    workdir, recipe = tmp_path / "w", "configs/videomae_rwf.py:test"
    assert run(recipe, data, workdir, f"--config.init.checkpoint={folder}") == 0
    model, variables, info = jaxvid.from_pretrained(workdir)
    assert info["class_names"] == ["NonFight", "Fight"] and info["fresh"] == []
    clip = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype(np.float32)
    logits = model.apply(variables, {"video": clip}, train=False)["logits"]
    assert convert.run([str(workdir), str(tmp_path / "hub")]) == 0
    model, variables, _ = jaxvid.from_pretrained(tmp_path / "hub")
    again = model.apply(variables, {"video": clip}, train=False)["logits"]
    np.testing.assert_allclose(again, logits, atol=1e-5)
    assert jaxvid.from_pretrained(pretrained)[2]["model"] == "videomae_pretrain"


def test_a_checkpoint_that_is_not_there(data, tmp_path, capsys, monkeypatch):
    def create(*_):
        raise AssertionError("minutes of a large model before the file is looked for")

    monkeypatch.setattr("jaxvid.train.state.create", create)
    more = [f"--config.init.checkpoint={tmp_path / 'no such'}"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 1
    assert "no such" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_that_have_diverged_end_the_run_with_a_word(data, tmp_path, capsys):
    more = ["--config.optim.learning_rate=1e12", "--config.optim.clip_norm=0.0"]
    more += ["--config.eval.every_steps=1", "--config.run.steps=4", "--config.optim.warmup_steps=1"]
    assert run("configs/videomae_rwf.py:test", data, tmp_path / "w", *more) == 1
    error = capsys.readouterr().err
    assert "4 of 4 validation clips are not finite: the weights have diverged" in error
