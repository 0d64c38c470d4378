import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxvid.evaluate import plots


@pytest.fixture
def texts(monkeypatch):
    """All texts of the figure that is saved next."""
    found = []
    save = plots._save

    def look(figure, path):
        save(figure, path)
        from matplotlib.text import Text

        found.extend(t.get_text() for t in figure.findobj(Text) if t.get_visible())

    monkeypatch.setattr(plots, "_save", look)
    return found


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("count", [1, 2, 15, 60])
def test_classes_are_named_at_both_axes(tmp_path, texts, count):
    names = [f"name {i}" for i in range(count)]
    plots.confusion_png(tmp_path / "c.png", np.eye(count, dtype=int) * 7, names, title="val")
    assert max(size(tmp_path / "c.png")) < 2500
    assert all(texts.count(name) == 2 for name in names)
    assert any("val\n100.0% correct" in t for t in texts)
    assert any(t.startswith("7") for t in texts) == (count <= 15)


def test_hundreds_of_classes_have_their_confusions_listed(tmp_path, texts):
    matrix = np.eye(400, dtype=int) * 10
    matrix[3, 250] = 30
    matrix[7, 8] = 2
    plots.confusion_png(tmp_path / "c.png", matrix, [f"name {i}" for i in range(400)])
    assert max(size(tmp_path / "c.png")) < 2500
    pairs = [t for t in texts if "  →  " in t]
    assert pairs == ["3 name 3  →  250 name 250", "7 name 7  →  8 name 8"]
    assert "30  75%" in texts


def test_colour_is_the_share_of_the_row_and_empty_rows_are_0(tmp_path, texts):
    plots.confusion_png(tmp_path / "c.png", np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert {"3\n75%", "1\n25%", "0\n0%", "75.0% correct"} <= set(texts)


def test_long_names_keep_their_ends_and_dollars_are_text(tmp_path, texts):
    names = ["Pulling [something] from left to right", "Pulling [something] from right to left"]
    plots.confusion_png(tmp_path / "c.png", np.eye(2, dtype=int), [*names[:1], "$x_$ and $$"])
    assert "$x_$ and $$" in texts
    short = [plots.shorten(name) for name in names]
    assert short[0] != short[1] and all(len(s) <= 32 and "…" in s for s in short)
    assert plots.shorten("Fight") == "Fight"


def test_a_matrix_of_other_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 3 class names"):
        plots.confusion_png(tmp_path / "c.png", np.eye(2), "abc")


def write_lines(path, lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))


def test_learning_curves(tmp_path, texts):
    lines = [{"step": s, "split": "train", "loss": 1 / s, "top1": 0.4} for s in range(1, 100)]
    lines += [{"step": 50, "split": "val", "loss": 0.9, "top1": 0.1}]
    lines += [
        {"step": s, "split": "val", "loss": v, "top1": 1 - v} for s, v in ((50, 0.3), (99, 0.4))
    ]
    lines += [{"step": 99, "split": "train", "loss": None, "learning_rate": 0.1}]
    (tmp_path / "run7").mkdir()
    write_lines(tmp_path / "run7" / "metrics.jsonl", lines)
    with (tmp_path / "run7" / "metrics.jsonl").open("a") as file:
        file.write('\n{"step": 100, "spl')
    plots.learning_curves(tmp_path / "run7" / "metrics.jsonl", tmp_path / "curves.png")
    assert size(tmp_path / "curves.png")[0] > 1000
    assert "val: best 0.300 at step 50" in texts and "val: best 0.700 at step 50" in texts
    assert "train (mean of 3 points)" in texts and "run7" in texts
    assert {"loss", "top-1 accuracy (fraction)"} <= set(texts)
    assert "lines of metrics.jsonl left out as unreadable: 1" in texts


def test_a_metric_that_is_nowhere_has_no_panel(tmp_path, texts):
    write_lines(tmp_path / "m.jsonl", [{"step": 5, "split": "train", "loss": 0.5}])
    plots.learning_curves(tmp_path / "m.jsonl", tmp_path / "c.png")
    assert "loss" in texts and "top-1 accuracy (fraction)" not in texts


def test_nothing_measured_is_said(tmp_path, texts):
    (tmp_path / "m.jsonl").write_text("3\n")
    plots.learning_curves(tmp_path / "m.jsonl", tmp_path / "c.png")
    assert "no loss and no top1 measured yet" in texts
    with pytest.raises(FileNotFoundError):
        plots.learning_curves(tmp_path / "none.jsonl", tmp_path / "c.png")


def test_reconstruction(tmp_path, texts):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (2, 16, 8, 12, 3), dtype=np.uint8)
    floats = video / 255.0
    plots.reconstruction_png(tmp_path / "r.png", video, floats * 0, floats * 3 - 1, title="step 5")
    width, height = size(tmp_path / "r.png")
    assert width < 2500 and height < 2500
    assert texts.count("frame 0") == 2 and texts.count("frame 15") == 2 and "step 5" in texts
    assert sum(t.startswith("frame") for t in texts) == 16
    assert texts.count("original") == texts.count("reconstruction") == 2


def test_reconstruction_shows_the_pixels_it_is_given(tmp_path):
    red = np.zeros((1, 1, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    plots.reconstruction_png(tmp_path / "r.png", red, red / 255.0, red * 2.0)
    with Image.open(tmp_path / "r.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    share = (pixels == [255, 0, 0]).all(axis=1).mean()
    assert share > 0.2


def test_unequal_videos_are_refused(tmp_path):
    video = np.zeros((1, 2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"reconstruction_png was given .*expected one \(N, T, H"):
        plots.reconstruction_png(tmp_path / "r.png", video, video[:, :1], video)


def test_pyplot_and_displays_are_not_touched():
    code = "import jaxvid.evaluate.report, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
