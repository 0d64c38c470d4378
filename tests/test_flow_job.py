"""A two-stream recipe from video files to its report: flow is computed, seen, trained on, evaluated."""

import csv
import json
import math

import pytest

from jaxvid.cli import predict
from jaxvid.main import main

RECIPE = """
from jaxvid.config import default

def get_config(arg="dis"):
    c = default()
    c.run.steps = 4
    c.run.log_every_steps = 1
    c.run.tensorboard = c.run.compilation_cache = False
    c.data.dataset = "synthetic"
    c.data.options.clips_per_class = {"train": 4, "val": 2}
    c.data.options.size = 40
    c.data.batch_size = 8
    c.data.num_frames = 8
    c.data.size = 32
    c.data.flow = arg
    c.data.mixup_alpha = c.data.cutmix_alpha = 0.5
    c.data.erasing_probability = 0.5
    c.model.name, c.model.variant = "two_stream", "test"
    c.model.overrides.update(stage_sizes=(1, 1), width=8, fusion_width=16)
    c.eval.every_steps = 4
    c.eval.crops = 3
    return c
"""


@pytest.fixture
def words(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)

    def command(*more):
        data = f"--config.data.root={tmp_path / 'data'}"
        return ["--config", str(recipe), "--workdir", str(tmp_path / "work"), data, *more]

    return command


@pytest.mark.slow
def test_training_evaluation_and_prediction_with_flow(words, tmp_path, capsys):
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")
    assert main(words()) == 0
    rows = [json.loads(x) for x in (tmp_path / "work" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    report = tmp_path / "work" / "eval" / "val.json"
    result = json.loads(report.read_text())
    assert result["n"] == 8 and result["protocol"]["flow"] == "dis"
    assert main(words("--mode", "eval")) == 0
    again = json.loads(report.read_text())
    assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-6)
    with (tmp_path / "work" / "eval" / "val_predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    capsys.readouterr()
    asked = [row["path"], "--checkpoint", str(tmp_path / "work"), "--crops", "3", "--json"]
    assert predict.run(asked) == 0  # it knows how flow is computed
    (entry,) = json.loads(capsys.readouterr().out)
    for told in entry["predictions"]:
        assert told["probability"] == pytest.approx(float(row[f"p({told['label']})"]), abs=1e-4)


def test_a_recipe_without_flow_is_refused_before_any_data_is_made(words, tmp_path, capsys):
    assert main(words("--config.data.flow=none")) == 1
    assert "model 'two_stream' sees optical flow: set data.flow" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
