import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.evaluate import report
from jaxvid.evaluate.classify import classification_metrics


def case(n=6, names=("NonFight", "Fight"), seed=0):
    """(result, index, rows) as an evaluation hands them over."""
    rng = np.random.default_rng(seed)
    records = tuple(
        VideoRecord(f"/data/val/a, b/{i}.avi", f"v{i}", (i % len(names),)) for i in range(n + 1)
    )
    index = DatasetIndex(records, tuple(names))
    probabilities = rng.dirichlet(np.ones(len(names)), n).astype(np.float32)
    rows = {
        "row": np.arange(1, n + 1, dtype=np.int32),
        "label": np.array([[r.labels[0]] for r in records[1:]], np.int32),
        "probabilities": probabilities,
    }
    result = {
        "split": "val",
        "n": n,
        "step": 1200,
        "checkpoint": "runs/videomae_rwf",
        "protocol": {"views": 6, "clips": 2, "crops": 3, "sampling": "uniform"},
        "skipped": [records[0].path],
        "metrics": classification_metrics(probabilities, rows["label"][:, 0], names),
    }
    return result, index, rows


def test_the_folder_of_an_evaluation(tmp_path):
    result, index, rows = case()
    report.write_evaluation(tmp_path, result, index=index, rows=rows)
    folder = tmp_path / "eval"
    assert sorted(p.name for p in folder.iterdir()) == [
        "val.json",
        "val_confusion.png",
        "val_predictions.csv",
    ]
    assert json.loads((folder / "val.json").read_text()) == result
    with Image.open(folder / "val_confusion.png") as image:
        assert image.format == "PNG" and min(image.size) > 300


def test_numbers_without_the_clips_that_stand_in_training_too():
    result, _, _ = case()
    without = {
        "duplicates": [{"path": "a", "of": "b"}],
        "metrics_without_duplicates": {"top1": 0.25},
    }
    shown = report.summary(result | without)
    assert "without the 1 clips that stand in training too:" in shown and "0.2500" in shown
    assert "no clip is left without the 1" in report.summary(
        result | without | {"metrics_without_duplicates": {}}
    )


def test_predictions_are_those_of_the_rows(tmp_path):
    result, index, rows = case()
    report.write_evaluation(tmp_path, result, index=index, rows=rows)
    lines = list(csv.DictReader((tmp_path / "eval" / "val_predictions.csv").open()))
    assert len(lines) == 6
    for i, line in enumerate(lines):
        p = rows["probabilities"][i]
        assert line["id"] == f"v{i + 1}" and line["path"] == index.records[i + 1].path
        assert line["label"] == index.class_names[rows["label"][i, 0]]
        assert line["predicted"] == index.class_names[p.argmax()]
        assert line["correct"] == str(int(line["label"] == line["predicted"]))
        assert float(line["p(Fight)"]) == pytest.approx(p[1], abs=1e-6)
    share = np.mean([line["correct"] == "1" for line in lines])
    assert share == pytest.approx(result["metrics"]["top1"])


def test_predictions_of_many_classes_are_the_best_five(tmp_path):
    _, index, rows = case(names=[f"c{i}" for i in range(12)])
    labels = rows["label"].copy()
    labels[0] = -1
    report.write_predictions(
        tmp_path / "p.csv",
        records=index.records[1:],
        labels=labels,
        probabilities=rows["probabilities"],
        class_names=index.class_names,
    )
    lines = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert lines[0]["label"] == lines[0]["correct"] == "" and lines[0]["predicted"]
    for line, p in zip(lines, rows["probabilities"], strict=True):
        assert [line[f"top{i}"] for i in range(1, 6)] == [f"c{i}" for i in np.argsort(-p)[:5]]
        assert [float(line[f"p{i}"]) for i in range(1, 6)] == pytest.approx(
            np.sort(p)[::-1][:5], abs=1e-6
        )


def test_unequal_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 records, 1 labels and 1 rows of probabilities"):
        report.write_predictions(
            tmp_path / "p.csv",
            records=[1, 2],
            labels=np.zeros((1, 1), int),
            probabilities=np.ones((1, 1)),
            class_names=["a"],
        )


def test_an_evaluation_without_classes_is_its_numbers(tmp_path):
    result, index, _ = case()
    result = result | {"metrics": {"loss": float("nan")}}
    report.write_evaluation(tmp_path, result, index=index, rows=None)
    assert [p.name for p in (tmp_path / "eval").iterdir()] == ["val.json"]
    assert json.loads((tmp_path / "eval" / "val.json").read_text())["metrics"] == {"loss": None}
    assert "loss        –" in report.summary(result)


def test_when_a_file_cannot_be_written_no_json_claims_otherwise(tmp_path):
    result, index, rows = case()
    (tmp_path / "eval" / "val_confusion.png").mkdir(parents=True)
    with pytest.raises(OSError, match="val_confusion.png"):
        report.write_evaluation(tmp_path, result, index=index, rows=rows)
    assert not (tmp_path / "eval" / "val.json").exists()


def test_format_table():
    table = report.format_table(
        [["fight", 0.5, 12, None], ["no", 1e-5, 3, "x"]], ["class", "f1", "n", "note"]
    )
    assert table.splitlines() == [
        "class         f1   n  note",
        "─────  ─────────  ──  ────",
        "fight     0.5000  12  –",
        "no     1.000e-05   3  x",
    ]
    assert report.format_table([], ["a", "bc"]).splitlines() == ["a  bc", "─  ──"]


def test_summary_is_one_screen_with_everything_that_counts():
    result, _, _ = case()
    text = report.summary(result)
    assert "val: 6 clips, step 1200, runs/videomae_rwf\nviews 6, clips 2, crops 3" in text
    assert f"top1                       {result['metrics']['top1']:.4f}" in text
    assert "roc_auc (Fight)" in text and "average_precision (Fight)" in text
    assert "label \\ predicted" in text and "NonFight" in text
    assert "could not be decoded: 1\n  /data/val/a, b/0.avi" in text
    assert len(text.splitlines()) < 40


def test_summary_of_many_classes_shows_the_worst():
    names = [f"class{i:03d}" for i in range(60)]
    result, _, _ = case(n=300, names=names, seed=1)
    result["skipped"] = [f"{i}.avi" for i in range(9)]
    text = report.summary(result)
    f1 = {r["class"]: r["f1"] for r in result["metrics"]["per_class"]}
    assert "the 10 classes of lowest f1 among 60" in text
    worst = [line.split()[0] for line in text.splitlines() if line.startswith("class0")]
    assert len(worst) == 10
    best_shown = max(f1[name] for name in worst)
    assert sum(value < best_shown for value in f1.values() if value is not None) <= 10
    assert "… and 4 more" in text and len(text.splitlines()) < 50
