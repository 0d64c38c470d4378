"""`jaxvid data check` and `jaxvid data stats` on small sets that the test writes."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import youtube8m_shards as shards
from PIL import Image

from jaxvid import build_data, cli, config
from jaxvid.cli import _data_check
from jaxvid.cli._data_stats import in_words, training_clips
from jaxvid.core.errors import ConfigError
from jaxvid.core.record import DatasetIndex

RECIPE = "configs/videomae_rwf.py:test"
TFDS = Path(__file__).parents[1] / "data" / "tfds_prepared"


@pytest.fixture(scope="module")
def sound(tmp_path_factory, write_video):
    """RWF-2000's layout, six clips of noise and of other sizes."""
    root = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    for number, name in enumerate(
        ("train/Fight/a b", "train/Fight/c", "train/NonFight/d,#", "train/NonFight/e")
        + ("val/Fight/f", "val/NonFight/g")
    ):
        path = root / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = rng.integers(0, 256, (12 + number, 48, 64, 3), np.uint8)
        write_video(path, frames, 10)
    return root


@pytest.fixture
def faulty(sound, tmp_path):
    """The same with a copy across the split, a file of noise, and no clip that is named in a table."""
    root = tmp_path / "faulty"
    for path in sound.rglob("*.mp4"):
        copy = root / path.relative_to(sound)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (root / "val/Fight/copy.mp4").write_bytes((sound / "train/Fight/c.mp4").read_bytes())
    (root / "train/Fight/noise.mp4").write_bytes(bytes(range(256)) * 9)
    return root


def run(capsys, *words):
    """(exit code, stdout, stderr) of `jaxvid data …`"""
    code = cli.main(["data", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_actions_are_listed(capsys):
    code, out, _ = run(capsys)
    assert code == 0 and all(
        f"jaxvid data {a}" in out for a in ("check", "split", "stats", "prepare", "bench")
    )
    code, _, err = run(capsys, "chek")
    assert code == 2 and "unknown action 'chek'. Did you mean 'check'?" in err
    assert "data" in cli.verbs() and not [v for v in cli.verbs() if v.startswith("_")]


class TestCheck:
    def test_a_sound_set(self, capsys, sound):
        code, out, err = run(capsys, "check", sound)
        assert code == 0, out
        assert f"{sound}: dataset rwf2000, found out by its files" in out
        assert "train: 4 clips in 4 files, 4 decoded" in out and "0 errors, 0 warnings" in out
        table = [line.split() for line in out.splitlines()]
        assert ["class", "train", "val"] in table and ["Fight", "2", "1"] in table
        assert "64x48 (4)" in out and "10 (4)" in out
        assert "decoding" in err  # the progress bar

    def test_faults_as_text(self, capsys, faulty):
        code, out, _ = run(capsys, "check", faulty, "--dataset", "rwf2000")
        assert code == 1 and "2 errors, 0 warnings" in out and "found out" not in out
        assert (
            "error (unreadable): files that cannot be decoded: 1" in out
            and "noise.mp4: it is" in out
        )
        assert "error (duplicate): videos in two splits with the same content: 1;" in out
        assert "c.mp4 (train) = " in out and "copy.mp4 (val)" in out

    def test_faults_as_json(self, capsys, faulty):
        code, out, err = run(capsys, "check", faulty, "--json")
        told = json.loads(out)
        assert (code, told["errors"], told["detected"], err) == (1, 2, True, "")
        assert {f["kind"] for f in told["findings"]} == {"unreadable", "duplicate"}
        assert told["splits"]["train"]["classes"] == {"NonFight": 2, "Fight": 3}
        assert told["splits"]["val"]["num_frames"]["longest"] == 17

    def test_kinds_may_be_allowed(self, capsys, faulty):
        (faulty / "train/Fight/noise.mp4").unlink()
        code, out, _ = run(capsys, "check", faulty, "--allow", "duplicate")
        assert code == 0 and "0 errors, 1 warning" in out and "warning (duplicate)" in out

    def test_sources_from_a_table(self, capsys, sound, tmp_path):
        table = tmp_path / "clips.csv"
        table.write_text("path,source\ntrain/Fight/a b.mp4,s1\nval/Fight/f.mp4,s1\n")
        code, out, _ = run(capsys, "check", sound, "--groups", table, "--frames", "all")
        assert code == 1 and "1 sources have clips in two splits" in out
        assert "s1: train: train/Fight/a b.mp4; val: val/Fight/f.mp4" in out

    def test_a_recipe_says_what_to_check(self, capsys, sound):
        code, out, _ = run(capsys, "check", "--config", RECIPE, f"--config.data.root={sound}")
        assert code == 0 and f"{sound}: dataset rwf2000\n" in out
        code, out, _ = run(capsys, "check", sound, "--config", RECIPE, "--splits", "val")
        assert code == 0 and "train: " not in out and "val: 2 clips" in out

    def test_the_sound_is_read_where_the_recipe_hears(self, capsys, sound, monkeypatch):
        rates, read_facts = [], _data_check.read_facts

        def spy(*args, audio_rate, **kwargs):
            rates.append(audio_rate)
            return read_facts(*args, audio_rate=audio_rate, **kwargs)

        monkeypatch.setattr(_data_check, "read_facts", spy)
        words = ["check", "--config", "configs/avslowfast_rwf.py:test"]
        words += [f"--config.data.root={sound}", "--config.data.audio_rate=8000"]
        assert run(capsys, *words, "--config.data.audio=log_mel")[0] == 0  # no track is silence
        assert run(capsys, *words)[0] == 0
        assert rates == [8000, 0]

    def test_a_split_that_is_not_there(self, capsys, tmp_path, sound):
        (tmp_path / "train").symlink_to(sound / "train")
        code, out, _ = run(capsys, "check", tmp_path)
        assert code == 1 and "error (split): val: " in out and "train: 4 clips" in out

    @pytest.mark.parametrize(
        "words, message",
        [
            (["nowhere"], "nowhere does not exist"),
            (["nowhere", "--dataset", "rwf200"], "Did you mean 'rwf2000'"),
            (["nowhere", "--dataset", "rwf2000", "--option", "fold"], "expected NAME=VALUE"),
            (["nowhere", "--dataset", "rwf2000", "--option", "fold=2"], "'fold'"),
            (["nowhere", "--config", "no_such.py"], "there is no such file"),
        ],
    )
    def test_what_cannot_be_started(self, capsys, words, message):
        code, out, err = run(capsys, "check", *words)
        assert code == 2 and out == "" and "error: " in err and message in err

    @pytest.mark.parametrize(
        "words, message",
        [
            ([], "give the folder of a dataset, or a recipe"),
            (["d", "--frams=3"], "unknown argument '--frams=3'"),
            (["d", "--config.data.root=e"], "unknown argument '--config.data.root=e'"),
            (["d", "--frames", "0"], "0 is below 1"),
            (["--dataset", "folder", "--config", "r.py"], "leave one out"),
        ],
    )
    def test_wrong_words_end_with_the_usage(self, capsys, words, message):
        with pytest.raises(SystemExit) as error:
            cli.main(["data", "check", *words])
        assert error.value.code == 2 and message in capsys.readouterr().err


class TestStats:
    def test_a_folder(self, capsys, sound, tmp_path):
        sheet = tmp_path / "deep" / "sheet.png"
        code, out, err = run(capsys, "stats", sound, "--sheet", sheet, "--rows", 8)
        assert code == 0, err
        assert "train: 4 clips" in out and "pixels of 4 clips" in out
        assert "largest to smallest 1; the largest has 50.0% of the labels" in out
        assert "nearest of the named ones (data.statistics): " in out and str(sheet) in out
        picture = np.asarray(Image.open(sheet))
        assert picture.shape == (8 * (22 + 160 + 2), 2 + 8 * (160 + 2), 3)

    def test_a_recipe(self, capsys, sound, tmp_path):
        sheet = tmp_path / "sheet.png"
        words = ["--config", RECIPE, f"--config.data.root={sound}", "--config.data.train_views=2"]
        code, out, err = run(capsys, "stats", *words, "--sheet", sheet, "--split", "val", "--json")
        assert code == 0, err
        told = json.loads(out)
        assert told["split"] == "val" and told["clips"] == 2
        assert told["classes"] == {"NonFight": 1, "Fight": 1} and told["balance"]["ratio"] == 1
        assert 0.4 < min(told["pixels"]["mean"]) and told["pixels"]["failed"] == []
        assert Image.open(sheet).size == (
            2 + 4 * 162,
            8 * 184,
        )  # 4 frames of 32², five times as large

    def test_what_cannot_be_read(self, capsys, sound, tmp_path):
        sheet = ["--sheet", tmp_path / "sheet.png"]
        code, _, err = run(capsys, "stats", sound, "--split", "tset", *sheet)
        assert code == 2 and "split of rwf2000 'tset'" in err
        assert not (tmp_path / "sheet.png").exists()


def test_titles_of_mixed_clips():
    names = ("run", "jump", "sit")
    single = DatasetIndex((), names)
    assert in_words(single, (1,), np.array([0.3, 0.7, 0.0])) == "jump 70% + run 30%"
    assert in_words(single, (1,), np.array([0.0, 1.0, 1e-4])) == "jump"
    assert in_words(single, (), np.array([0.0, 0.0, 0.0])) == "no label"
    assert in_words(DatasetIndex((), names, multilabel=True), (0, 2), None) == "run, sit"
    heads = DatasetIndex((), names, heads={"verb": 1, "noun": 2})
    assert in_words(heads, (0, 1), None) == "verb run, noun sit"


def test_data_without_pictures(sound, monkeypatch):
    features = iter([{"features": np.zeros((8, 1, 2, 4)), "mask": np.ones(8, bool)}])
    monkeypatch.setattr(build_data, "training_data", lambda *_: contextlib.nullcontext(features))
    c = config.load(RECIPE, [f"data.root={sound}"])
    with pytest.raises(ConfigError, match="'rwf2000' gives features, mask and no pictures"):
        training_clips(c, build_data.index(c, "train"), rows=2, seed=0)


class TestRecords:
    """Sets without video files of their own."""

    @pytest.fixture
    def features(self, tmp_path):
        for name, labels in (("train0", (0, 1)), ("train1", (1,)), ("validate0", (0,))):
            made = [shards.video_level(f"{name}{n}", [n])[0] for n in labels]
            shards.write(tmp_path / "yt" / f"{name}.tfrecord", made)
        (tmp_path / "yt" / "vocabulary.csv").write_text("Index,Name\n0,Game\n1,Food\n")
        return tmp_path / "yt"

    def test_features_are_checked(self, capsys, features):
        words = (
            "check",
            features,
            "--dataset",
            "youtube8m",
            "--frames",
            1,
            "--splits",
            "train,val",
        )
        code, out, err = run(capsys, *words)
        assert code == 0, out
        assert "train: 3 records in 2 shards, " in out and "sizes        8 (2)" in out
        assert "2 read (--frames all: every one)" in out and "0 errors, 0 warnings" in out
        assert ["Food", "2", "0"] in [line.split() for line in out.splitlines()]
        assert "reading" in err and "decoding" not in err
        data = bytearray((features / "train0.tfrecord").read_bytes())
        data[-2] ^= 1  # of the last checksum
        (features / "train0.tfrecord").write_bytes(data)
        (features / "train1.tfrecord").write_bytes(b"nothing of a shard")
        code, out, _ = run(capsys, *words, "--frames", "all")
        assert code == 1 and "2 errors" in out and "all read" in out
        assert "error (unreadable): records that cannot be read: 1" in out
        assert "error (missing): train: youtube8m: 1 of 2 shards cannot be used" in out

    def test_features_have_no_pixels_and_need_no_store(self, capsys, features, tmp_path):
        code, _, err = run(capsys, "stats", features, "--dataset", "youtube8m")
        assert code == 2 and "'youtube8m' is made of features: it has no pixels" in err
        words = ("--dataset", "youtube8m", "--store", tmp_path / "store")
        code, _, err = run(capsys, "prepare", features, *words)
        assert code == 2 and "is made of features, which train as they are" in err
        assert not (tmp_path / "store").exists()

    def test_frames_in_files_of_records(self, capsys, tmp_path):
        root = TFDS / "array_record" / "tiny"
        tfds = ("--dataset", "tfds", "--option", "label_feature=label")
        words = (*tfds, "--splits", "train")
        code, out, err = run(capsys, "check", root, *words)
        assert code == 0, out
        assert "records in " in out and "all read" in out and "num frames" in out
        words = (*tfds, "--store", tmp_path / "store")
        code, _, err = run(capsys, "prepare", root, *words)
        assert code == 2 and "lie as frames in files of records" in err
        sheet = ("--sheet", tmp_path / "sheet.png", "--rows", 2, "--split", "train")
        code, out, err = run(capsys, "stats", root, *tfds, *sheet)
        assert code == 0 and "could not be read" not in out, err
