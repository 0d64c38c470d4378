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
