"""Every kind of label and of input from files to a prediction: trained two steps, evaluated, asked."""

import csv
import json
import math
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import youtube8m_shards as shards

import jaxvid
from jaxvid.cli import predict
from jaxvid.main import main

STEPS = 2
BALANCED = "--config.objective.class_weights=balanced"
# The recipes, with a model that compiles in a second.
QUICK = ("--config.model.name=videomae",)


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


def loss_without(workdir, video):
    """The mean negative logarithm of the labels' probabilities of all clips but this one."""
    with (workdir / "eval" / "val_predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"] != str(video)]
    return np.mean([-math.log(float(row[f"p({row['label']})"])) for row in rows])


@pytest.mark.slow
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
        write_rows(tmp_path / f"Charades_v1_{split}.csv", *rows, header=("id", "actions", "length"))
    result, workdir = job("slowfast_charades.py:test", tmp_path, *QUICK)
    assert result["n"] == 4 and 0 <= result["metrics"]["mAP"] <= 1
    assert result["protocol"]["pooling"] == "max of the views' sigmoid"
    video = tmp_path / "Charades_v1_480" / "T0.mp4"
    expected = probabilities(workdir, "test", video)
    found = ask(capsys, workdir, video)["predictions"]
    assert {p["label"]: p["probability"] for p in found} == pytest.approx(expected, abs=1e-4)
    assert sum(expected.values()) != pytest.approx(1, abs=1e-2)  # each class on its own
    few = ask(capsys, workdir, video, "--threshold", str(max(expected.values())))["predictions"]
    assert len(few) == 1
    (workdir / "task.json").unlink()  # which workdirs of an earlier version do not have
    assert ask(capsys, workdir, video)["predictions"] == found


def test_epic_a_verb_and_a_noun(tmp_path, write_video, capsys):
    rng = np.random.default_rng(1)
    videos = tmp_path / "P01" / "videos"
    videos.mkdir(parents=True)
    heads = {"verb": ("take", "put"), "noun": ("tap", "spoon", "plate")}
    for head, names in heads.items():
        write_rows(
            tmp_path / f"EPIC_100_{head}_classes.csv", *enumerate(names), header=("id", "key")
        )
    header = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")
    header += ("verb_class", "noun_class")
    for number, split in enumerate(("train", "validation")):
        name = f"P01_0{number}"
        write_video(videos / f"{name}.MP4", pictures(rng, seconds=2), fps=8, muxer={})
        times = [("00:00:00.00", "00:00:01.00"), ("00:00:00.50", "00:00:02.00")]
        rows = [(f"{name}_{i}", name, *times[i], i, 2 - i) for i in range(2)]
        write_rows(tmp_path / f"EPIC_100_{split}.csv", *rows, header=header)
    result, workdir = job(
        "videomae_epic.py:test", tmp_path, "--config.data.class_sampling=balanced", BALANCED
    )
    assert result["n"] == 2 and {"verb_top1", "noun_top1", "action_top1"} <= set(result["metrics"])
    assert (workdir / "eval" / "val_noun_predictions.csv").is_file()
    entry = ask(capsys, workdir, videos / "P01_01.MP4", "--top-k", "6")
    chances = {
        head: {p["label"]: p["probability"] for p in told} for head, told in entry["heads"].items()
    }
    assert {head: set(told) for head, told in chances.items()} == {
        head: set(names) for head, names in heads.items()
    }
    assert [sum(told.values()) for told in chances.values()] == pytest.approx([1, 1], abs=1e-5)
    for action in entry["actions"]:
        verb, noun = action["labels"]["verb"], action["labels"]["noun"]
        product = chances["verb"][verb] * chances["noun"][noun]
        assert action["probability"] == pytest.approx(product, abs=1e-6)
    assert len(entry["actions"]) == 6
    assert predict.run([str(videos / "P01_01.MP4"), "--checkpoint", str(workdir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines[1:] if not line.startswith("  ")] == [
        " verb",
        " noun",
        " action",
    ]


def test_youtube8m_features_in_place_of_videos(tmp_path, capsys):
    for split in ("train", "validate"):
        made = [shards.frame_level(f"{split} {i}", [i % 3], seed=i) for i in range(9)]
        shards.write(tmp_path / f"{split}00.tfrecord", [record for record, _ in made])
    result, workdir = job(
        "feature_head_youtube8m.py:test", tmp_path, "--config.data.options.num_classes=4"
    )
    assert result["n"] == 9 and 0 <= result["metrics"]["GAP"] <= 1
    stored = made[0][1].astype(np.float32) * (4 / 255) - 2 + 4 / 512
    np.save(tmp_path / "own.npy", stored)
    found = ask(capsys, workdir, tmp_path / "own.npy", "--top-k", "4")["predictions"]
    with (workdir / "eval" / "val_predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    expected = {str(i): float(row[f"p({i})"]) for i in range(4)}
    assert {p["label"]: p["probability"] for p in found} == pytest.approx(expected, abs=1e-5)
    jaxvid.save_pretrained(tmp_path / "export", *jaxvid.from_pretrained(workdir))
    exported = ask(capsys, tmp_path / "export", tmp_path / "own.npy", "--top-k", "4")
    assert exported["predictions"] == found


@pytest.mark.slow
def test_a_model_that_sees_and_hears(tmp_path, capsys):
    pytest.importorskip("librosa", reason="log-mel needs the extra: pip install -e '.[audio]'")
    rng = np.random.default_rng(2)
    for split in ("train", "val"):
        for name, tone in (("Fight", 2000), ("NonFight", 0)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                write_with_sound(folder / f"{number}.mkv", pictures(rng), tone)
    copy = tmp_path / "val" / "Fight" / "copy.mkv"
    shutil.copy(tmp_path / "train" / "Fight" / "1.mkv", copy)
    result, workdir = job(
        "audio_visual_rwf.py:test",
        tmp_path,
        *("--config.data.audio=log_mel", "--config.data.audio_frames=32"),
        *("--config.model.overrides.depth=2", "--config.model.overrides.fusion_layer=1"),
        *("--config.data.audio_mels=16", "--config.eval.final_clips=1"),
        "--config.eval.final_crops=1",
    )
    assert result["n"] == 5
    assert result["duplicates"] == [
        {"path": str(copy), "of": str(tmp_path / "train" / "Fight" / "1.mkv")}
    ]
    without = result["metrics_without_duplicates"]
    assert without["loss"] == pytest.approx(loss_without(workdir, copy), abs=1e-4)
    video = tmp_path / "val" / "Fight" / "0.mkv"
    expected = probabilities(workdir, "val", video)
    found = ask(capsys, workdir, video)["predictions"]
    assert {p["label"]: p["probability"] for p in found} == pytest.approx(expected, abs=1e-4)
    mute = tmp_path / "mute.mkv"
    with av.open(str(video)) as source, av.open(str(mute), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    silent = {p["label"]: p["probability"] for p in ask(capsys, workdir, mute)["predictions"]}
    assert abs(silent["Fight"] - expected["Fight"]) > 1e-4  # the same pictures


@pytest.mark.slow
def test_a_table_of_few_and_many(tmp_path, write_video, capsys):
    rng = np.random.default_rng(3)
    rows = [(f"clip {i}.mp4", "rare" if i == 0 else "common", i + 1.0) for i in range(4)]
    for name, _, _ in rows:
        write_video(tmp_path / name, pictures(rng), fps=8)
    for split in ("train", "val"):
        write_rows(tmp_path / f"{split}.csv", *rows, header=("path", "label", "weight"))
    more = ["--config.data.mixup_alpha=0", "--config.data.cutmix_alpha=0"]
    more += ["--config.data.class_sampling=weighted", BALANCED]
    result, workdir = job("videomae_table.py:test", tmp_path, *more)
    assert result["n"] == len(result["duplicates"]) == 4
    assert result["metrics_without_duplicates"] == {}
    expected = probabilities(workdir, "val", tmp_path / "clip 1.mp4")
    found = ask(capsys, workdir, tmp_path / "clip 1.mp4")["predictions"]
    assert {p["label"]: p["probability"] for p in found} == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_ava_one_person_at_a_time(tmp_path, write_video, capsys):
    rng = np.random.default_rng(4)
    (tmp_path / "videos").mkdir()
    blocks = [f'label {{ name: "{n}" label_id: {i} }}' for i, n in ((1, "bow"), (2, "sit"))]
    (tmp_path / "ava_action_list_v2.2.pbtxt").write_text("\n".join(blocks))
    for split in ("train", "val"):
        write_video(tmp_path / "videos" / f"{split}.mp4", pictures(rng, seconds=4), fps=8)
        boxes = [(0.1, 0.2, 0.6, 0.9), (0.5, 0.1, 0.9, 0.8)]
        rows = [(split, 2, *box, 1 + i, i) for i, box in enumerate(boxes)]
        write_rows(tmp_path / f"ava_{split}_v2.2.csv", *rows)
    crop = "{'name': 'box_crop'}"
    result, workdir = job(
        "slowfast_ava.py:test",
        tmp_path,
        *QUICK,
        *("--config.data.options.persons=True", f"--config.data.eval_transforms=({crop},)"),
        "--config.data.options.evaluated_only=False",
        f"--config.data.train_transforms=({crop},{{'name':'random_resized_crop','size':32}})",
    )
    assert result["n"] == 2
    with (workdir / "eval" / "val_predictions.csv").open() as file:
        both = [float(row["p(sit)"]) for row in csv.DictReader(file)]
    assert both[0] != both[1]  # of the same second, each in a box of its own
    video = tmp_path / "videos" / "val.mp4"
    assert predict.run([str(video), "--checkpoint", str(workdir)]) == 2
    assert "was trained on parts of the picture (box_crop)" in capsys.readouterr().err
    sits = []
    for _, _, *box, _, _ in rows:
        told = ask(capsys, workdir, video, "--box", ",".join(map(str, box)))["predictions"]
        sits += [p["probability"] for p in told if p["label"] == "sit"]
    assert sits[0] != sits[1]  # as in the table, of all of the file
