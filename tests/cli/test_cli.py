import jax
import numpy as np
import pytest

from jaxvid import cli
from jaxvid.cli import models
from jaxvid.main import main, parse


def test_without_a_verb_all_are_listed_with_what_they_do(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"jaxvid {verb}" in out for verb in ("train", "config", "models", "convert"))


def test_an_unknown_verb_names_the_nearest(capsys):
    assert cli.main(["modles"]) == 2
    assert "unknown verb 'modles'. Did you mean 'models'?" in capsys.readouterr().err


def test_models_prints_published_sizes(capsys):
    out, rows = told(capsys, "r3d", "two_stream")
    assert rows["r3d", "18"] == ["33.37M", "40.70", "16×112×112"]  # torchvision's own numbers
    assert "flow 8×32×32" in out


@pytest.mark.slow
def test_models_prints_the_sizes_of_large_ones(capsys):
    out, rows = told(capsys, "videomae", "videomae_pretrain")
    assert rows["videomae", "B"] == ["86.53M", "180.34", "16×224×224"]  # 180 in the paper
    assert rows["videomae", "H"][0] == "632.12M"
    assert rows["videomae_pretrain", "B"][0] == "94.21M" and "90% of" in out


def told(capsys, *names):
    """(what `jaxvid models` prints, {(model, variant): the other columns})"""
    assert models.run(list(names)) == 0
    out = capsys.readouterr().out
    return out, {tuple(line.split()[:2]): line.split()[2:] for line in out.splitlines()}


def test_train_is_main(capsys):
    assert cli.main(["train", "--config", "no_such.py"]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_what_a_verb_does_not_catch_is_one_line(capsys):
    assert cli.main(["models", "x3dd"]) == 2
    assert "error: unknown model 'x3dd'. Did you mean 'x3d'" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["verb", "main"])
def test_an_interrupt_is_one_word_and_130(monkeypatch, capsys, program, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    if program == "verb":
        monkeypatch.setattr(models, "run", interrupted)
        assert cli.main(["models"]) == 130
    else:
        monkeypatch.setattr("jaxvid.main.evaluate", interrupted)
        words = ["--config", "configs/videomae_rwf.py:test", "--mode", "eval"]
        assert main([*words, "--workdir", str(tmp_path)]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"


def test_fields_of_a_model_that_do_not_fit_together(capsys, tmp_path, write_video):
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            write_video(folder / "v.mp4", np.zeros((4, 32, 32, 3)))
    words = ["--config", "configs/quickstart.py", "--config.data.dataset=folder"]
    words += [f"--config.data.root={tmp_path / 'set'}", "--workdir", str(tmp_path / "w")]
    assert main([*words, "--config.model.overrides.num_heads=5"]) == 1
    err = capsys.readouterr().err
    assert "cannot be built with model.overrides" in err and "not a multiple of num_heads=5" in err
    assert main([*words, "--config.model.overrides.num_heads=5", "--mode", "compile"]) == 1
    assert "not a multiple of num_heads=5" in capsys.readouterr().err
    assert main([*words, "--config.objective.name=mae"]) == 1
    assert "masks patches, and model 'videomae' predicts none" in capsys.readouterr().err


def test_overrides_may_stand_in_two_words():
    args, overrides = parse(
        ["--config", "r.py", "--config.run.steps", "3", "--config.data.root=a b"]
    )
    assert args.config == "r.py" and overrides == ["run.steps=3", "data.root=a b"]


@pytest.mark.parametrize("words", [["--confg.x=1"], ["--config.run.steps"], ["--mode", "evl"]])
def test_wrong_words_end_with_the_usage(words, capsys):
    with pytest.raises(SystemExit) as error:
        parse(["--config", "r.py", *words])
    assert error.value.code == 2 and "usage:" in capsys.readouterr().err


def test_an_error_of_the_user_is_one_line_and_exit_code_1(capsys, tmp_path):
    recipe = "configs/videomae_rwf.py:test"
    assert main(["--config", recipe, f"--config.data.root={tmp_path}", "--workdir", "w"]) == 1
    assert "Traceback" not in capsys.readouterr().err


FULL = "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nBuffers: …"


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_full_device_is_one_line_with_what_helps(monkeypatch, capsys, mode, tmp_path):
    def full(*_):
        raise jax.errors.JaxRuntimeError(FULL)

    monkeypatch.setattr("jaxvid.main.evaluate" if mode == "eval" else "jaxvid.main.train", full)
    words = ["--config", "configs/quickstart.py", "--workdir", str(tmp_path), "--mode", mode]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "error: the memory of cpu is full: Out of memory allocating 8 bytes. A smaller" in said
    assert "Buffers" not in said and "evaluation.batch_size" in said
    assert ("data.batch_size" in said) == (mode == "train")


def test_a_full_device_of_a_verb(monkeypatch, capsys):
    def full(*_):
        raise jax.errors.JaxRuntimeError(FULL)

    monkeypatch.setattr(models, "run", full)
    assert cli.main(["models"]) == 2
    said = capsys.readouterr().err
    assert "error: a device's memory is full: Out of memory allocating 8 bytes\n" in said
    assert "--batch-size" in said

    monkeypatch.setattr(models, "run", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])
