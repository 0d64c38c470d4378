"""`jaxvid data split`: a folder of classes becomes lists that dataset `table` reads."""

import csv

import numpy as np
import pytest

from jaxvid import cli
from jaxvid.data.datasets import table
from jaxvid.data.detect import detect


@pytest.fixture
def root(tmp_path, write_video):
    """Two classes of ten clips of five cameras; the first clip of calm is there twice."""
    root = tmp_path / "my videos"
    rng = np.random.default_rng(0)
    for name in ("calm, very", "fight"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            frames = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
            write_video(root / name / f"camera{number // 2}_{number}.mp4", frames)
    copied = (root / "calm, very" / "camera0_0.mp4").read_bytes()
    (root / "calm, very" / "camera9_copy.mp4").write_bytes(copied)
    return root


def run(capsys, *words):
    code = cli.main(["data", "split", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def listed(root, split):
    with open(root / f"{split}.csv", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def test_the_lists_are_read_by_the_table_reader(capsys, root):
    code, out, err = run(capsys, root)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert ["class", "train", "val"] in rows and ["fight", "8", "2"] in rows
    assert f"--config.data.dataset=table --config.data.root='{root}'" in out
    assert detect(root) == "table"
    train, val = table.load(root, "train"), table.load(root, "val")
    assert train.class_names == val.class_names == ("calm, very", "fight")
    assert len(train) + len(val) == 21 and {r.labels for r in val.records} == {(0,), (1,)}
    copies = {"calm, very/camera0_0.mp4", "calm, very/camera9_copy.mp4"}
    assert copies <= set(listed(root, "train")) or copies <= set(listed(root, "val"))


@pytest.mark.parametrize("how", ["regex", "table"])
def test_a_recording_stays_on_one_side(capsys, root, how, tmp_path):
    words = ["--recording", r"(camera\d+)_"]
    if how == "table":
        clips = [p.relative_to(root).as_posix() for p in root.rglob("*.mp4")]
        lines = [f'"{c}",{c.split("/")[1].split("_")[0]}' for c in clips]
        (tmp_path / "groups.csv").write_text("\n".join(["path,group", *lines]))
        words = ["--groups", tmp_path / "groups.csv"]
    assert run(capsys, root, "--test", "0.2", *words)[0] == 0
    sides = [
        {p.split("/")[1].split("_")[0] for p in listed(root, s)} for s in ("train", "val", "test")
    ]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert any({"camera0", "camera9"} <= side for side in sides), "they share a clip's content"


def test_lists_that_are_there_are_kept(capsys, root):
    (root / "val.csv").write_text("mine")
    code, _, err = run(capsys, root)
    assert code == 2 and "val.csv: there already; give --overwrite" in err
    assert (root / "val.csv").read_text() == "mine" and not (root / "train.csv").exists()
    assert run(capsys, root, "--overwrite")[0] == 0 and len(listed(root, "val")) == 4


@pytest.mark.parametrize(
    "words, said",
    [
        (["--val", "1.5"], "expected those of val"),
        (["--recording", "(x"], "--recording '(x'"),
        (["--recording", "camera"], "no (...) that finds the recording"),
        (["--recording", r"(\d+)_never"], "finds nothing in 21 of 21 clips"),
        (["--recording", "(a)", "--groups", "g.csv"], "leave one out"),
    ],
)
def test_words_that_cannot_be(capsys, root, words, said):
    code, _, err = run(capsys, root, *words)
    assert code == 2 and said in err and not (root / "train.csv").exists()


def test_folders_that_cannot_be_divided(capsys, tmp_path):
    code, _, err = run(capsys, tmp_path / "nothing")
    assert code == 2 and "it holds nothing, it does not exist" in err
    for name in ("train", "val"):
        (tmp_path / "done" / name).mkdir(parents=True)
    code, _, err = run(capsys, tmp_path / "done")
    assert code == 2 and "divided already, into train, val" in err
    for name in ("a;b", "c"):
        (tmp_path / "marks" / name).mkdir(parents=True)
    code, _, err = run(capsys, tmp_path / "marks")
    assert code == 2 and "a;b: a class in a table may not hold ; or |" in err
    for name in ("a", "b"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    code, _, err = run(capsys, tmp_path / "empty")
    assert code == 2 and "the class folder holds no clip" in err
