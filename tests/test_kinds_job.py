"""Every kind of label and of input from files to a prediction: trained two steps, evaluated, asked."""

import csv
import json
import logging
import math
from fractions import Fraction

import av
import numpy as np
import pytest

from jaxvid.cli import predict
from jaxvid.main import main

STEPS = 2


def pictures(rng, seconds=1.0, fps=8):
    """uint8 (n, 36, 40, 3)"""
    return rng.integers(0, 256, (round(seconds * fps), 36, 40, 3), dtype=np.uint8)


def write_with_sound(path, frames, tone, fps=8, rate=16000):
    """A Matroska file of the pictures with a tone of so many Hz; 0: silence."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        track = file.add_stream("pcm_s16le", rate=rate, layout="mono")
        for time, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = time, 1 / Fraction(fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        times = np.arange(rate * len(frames) // fps) / rate
        samples = (0.5 * np.sin(2 * np.pi * tone * times) * 32767).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        file.mux(track.encode(sound))
        file.mux(track.encode())


def write_rows(path, *rows, header=None):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), *rows])


def job(recipe, home, *more):
    """Trains, evaluates what was saved, compares both; (result, workdir)"""
    workdir = home / "work"
    words = [
        *("--config", f"configs/{recipe}", "--workdir", str(workdir)),
        *(f"--config.data.root={home}", f"--config.run.steps={STEPS}"),
        *("--config.run.log_every_steps=1", "--config.run.tensorboard=false"),
        *("--config.run.compilation_cache=false", "--config.data.threads=2"),
        *("--config.data.batch_size=8", "--config.data.on_error=raise"),
        *("--config.eval.every_epochs=0", "--config.optim.warmup_epochs=0"),
        *more,
    ]
    assert main(words) == 0
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    (report,) = (workdir / "eval").glob("*.json")
    first = json.loads(report.read_text())
    assert main([*words, "--mode", "eval"]) == 0
    again = json.loads(report.read_text())
    assert again["metrics"]["loss"] == pytest.approx(first["metrics"]["loss"], abs=1e-6)
    return again, workdir


def ask(capsys, workdir, path, *more):
    """The entry of one file in the JSON of `jaxvid predict`."""
    capsys.readouterr()
    assert predict.run([str(path), "--checkpoint", str(workdir), "--json", *more]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    return entry


def probabilities(workdir, split, video):
    """{class: probability} of a clip in the evaluation's table."""
    with (workdir / "eval" / f"{split}_predictions.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["path"] == str(video)]
    return {k[2:-1]: float(v) for k, v in row.items() if k.startswith("p(")}


def test_charades_several_labels_a_video(tmp_path, write_video, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "Charades_v1_480").mkdir()
    classes = ["c000 Holding clothes", "c001 Sitting down", "c002 Opening a door"]
    (tmp_path / "Charades_v1_classes.txt").write_text("\n".join(classes))
    actions = ["c000 0.0 0.5;c002 0.1 0.9", "c001 0.0 1.0", "", "c002 0.0 0.4"]
    for split in ("train", "test"):
        names = [f"{split[0].upper()}{i}" for i in range(4)]
        for name in names:
            write_video(tmp_path / "Charades_v1_480" / f"{name}.mp4", pictures(rng), fps=8)
        rows = [(name, text, 1.0) for name, text in zip(names, actions, strict=True)]
        write_rows(
            tmp_path / f"Charades_v1_{split}.csv", *rows, header=("id", "actions", "length")
        )
    result, workdir = job("slowfast_charades.py:test", tmp_path)
    assert result["n"] == 4 and 0 <= result["metrics"]["mAP"] <= 1
    assert result["protocol"]["pooling"] == "max of the views' sigmoid"
    video = tmp_path / "Charades_v1_480" / "T0.mp4"
    expected = probabilities(workdir, "test", video)
    found = ask(capsys, workdir, video)["predictions"]
    assert {p["label"]: p["probability"] for p in found} == pytest.approx(expected, abs=1e-4)
    assert sum(expected.values()) != pytest.approx(1, abs=1e-2)  # each class on its own
