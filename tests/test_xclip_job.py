"""X-CLIP from a folder with a tokenizer: fine-tuned on named classes, restored, asked in words."""

import json
import logging
import string
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvid import build, config, model_tree, pretrained, saving
from jaxvid.cli import predict
from jaxvid.data import text
from jaxvid.main import main

pytestmark = pytest.mark.usefixtures("quickly_made")

pytest.importorskip("tokenizers")
CLIP = str(Path(__file__).parent / "data" / "clips" / "arm_wrestling.mp4")
RECIPE = """
from jaxvid.config import default

def get_config(arg="xclip"):
    c = default()
    c.run.steps = 2
    c.run.tensorboard = c.run.compilation_cache = False
    c.data.dataset = "synthetic"
    c.data.options.clips_per_class = {"train": 4, "val": 2}
    c.data.options.size = 40
    c.data.batch_size = 8
    c.data.num_frames = 4
    c.data.size = 32
    c.data.statistics = "imagenet"
    c.model.name, c.model.variant = arg, "test"
    c.objective.name = "contrast"
    return c
"""
TOLD = {
    "num_frames": 4,
    "size": 32,
    "short_side": 32,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "sampling": "uniform",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("xclip")


@pytest.fixture(scope="module")
def folder(home):
    """What lies on the hub: weights, config, a tokenizer (here of letters)."""
    model = pretrained.create_model("xclip", variant="test")
    shapes = model_tree.variable_shapes(model, (4, 32, 32, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.1, shapes)
    saving.save_pretrained(home / "folder", model, variables, {"preprocessing": TOLD})
    letters = string.ascii_lowercase
    pieces = [*letters, *(x + text.WORD_END for x in letters), text.START, text.END]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (home / "folder" / text.VOCAB).write_text(json.dumps(vocabulary))
    (home / "folder" / text.MERGES).write_text("#version: 0.2\n")
    return home / "folder"


@pytest.fixture(scope="module")
def words(home, folder):
    recipe = home / "recipe.py"
    recipe.write_text(RECIPE)
    data = f"--config.data.root={home / 'data'}"
    return ["--config", str(recipe), data, f"--config.init.checkpoint={folder}"]


@pytest.fixture(scope="module")
def workdir(home, words):
    assert main([*words, "--workdir", str(home / "work")]) == 0
    return home / "work"


def test_the_classes_are_their_names_as_tokens(workdir, folder):
    names = json.loads((workdir / "classes.json").read_text()).values()
    tokens = json.loads((workdir / "config.json").read_text())["model"]["overrides"]["class_texts"]
    ids, mask = text.load(folder, context_length=16)(list(names))
    assert tokens == text.trim(ids, mask).tolist() and len(tokens) == 4


def test_evaluation_and_prediction_know_them_too(words, workdir, capsys):
    report = json.loads((workdir / "eval" / "val.json").read_text())
    assert main([*words, "--workdir", str(workdir), "--mode", "eval"]) == 0
    again = json.loads((workdir / "eval" / "val.json").read_text())
    assert again["metrics"]["loss"] == pytest.approx(report["metrics"]["loss"], abs=1e-5)
    capsys.readouterr()
    assert predict.run([CLIP, "--checkpoint", str(workdir), "--top-k", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = json.loads((workdir / "classes.json").read_text()).values()
    assert {line.split("%  ")[1] for line in lines[1:]} == set(names)


def test_any_labels_in_words(folder, capsys):
    command = [CLIP, "--checkpoint", str(folder), "--json", "--labels"]
    assert predict.run([*command, "fighting, hugging,shaking hands"]) == 0
    found = json.loads(capsys.readouterr().out)[0]["predictions"]
    assert sorted(p["label"] for p in found) == ["fighting", "hugging", "shaking hands"]
    assert sum(p["probability"] for p in found) == pytest.approx(1.0, abs=1e-5)
    assert predict.run([*command, "shaking hands,fighting", "--templates", "kinetics"]) == 0
    again = json.loads(capsys.readouterr().out)[0]["predictions"]
    assert {p["label"]: p["index"] for p in again} == {"shaking hands": 0, "fighting": 1}


@pytest.mark.parametrize(
    "labels, message",
    [("", "is empty"), ("a,,b", "label 1 of 3 is empty"), ("a,a", "more than once: a")],
)
def test_labels_that_make_no_sense(folder, capsys, labels, message):
    assert predict.run([CLIP, "--checkpoint", str(folder), "--labels", labels]) == 2
    assert message in capsys.readouterr().err


def test_without_labels_it_asks_for_them(folder, capsys):
    assert predict.run([CLIP, "--checkpoint", str(folder)]) == 2
    assert "'xclip' has no classes of its own; give --labels" in capsys.readouterr().err


def test_the_tokenizer_travels_with_an_export(folder, home):
    saving.save_pretrained(home / "copy", *pretrained.from_pretrained(folder))
    assert text.has_tokenizer(home / "copy")


def test_other_words_for_the_classes(words, home, capsys):
    few = "--config.model.class_words=('going left','going right')"
    assert main([*words, "--workdir", str(home / "few"), few]) == 1
    assert "model.class_words has 2 texts for 4 classes" in capsys.readouterr().err


def test_no_tokenizer_is_said_aloud(words, home, caplog):
    c = config.load(f"{home / 'recipe.py'}")
    with caplog.at_level(logging.WARNING, logger="jaxvid"):
        build.name_classes(c, ["left", "right"])
    assert "each class is a word without meaning" in caplog.text
    # What the workdir needs to know its classes by: tokens 0 and 1 between the vocabulary's last two.
    assert c.model.overrides.class_texts == ((510, 0, 511), (510, 1, 511))


def test_pooling_compares_with_texts_where_the_objective_does(words, home, folder):
    for objective in ("classify", "contrast"):
        overrides = [f"init.checkpoint={folder}", f"objective.name={objective}"]
        c = config.load(f"{home / 'recipe.py'}:clip_pooling", overrides)
        build.name_classes(c, ["left", "right"])
        assert ("class_texts" in c.model.overrides) == (objective == "contrast")
