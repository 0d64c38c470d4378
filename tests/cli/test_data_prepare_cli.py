"""`jaxvid data prepare` and `jaxvid data bench` from the command line."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from jaxvid import build, cli, config
from jaxvid.core.errors import DataError
from jaxvid.core.record import VideoRecord
from jaxvid.data import store_index, store_writer
from jaxvid.data.datasets import rwf2000, table
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store
from jaxvid.data.transform_list import build_transforms

RECIPE = "configs/videomae_rwf.py:test"
HEARS = "configs/audio_visual_rwf.py:test"


@pytest.fixture
def root(tmp_path, write_video):
    """RWF-2000's layout with one clip of each."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(
        ("train/Fight/a b", "train/NonFight/c", "val/Fight/d", "val/NonFight/e")
    ):
        path = tmp_path / "set" / f"{name}.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, rng.integers(0, 256, (8 + number, 32, 48, 3), np.uint8))
    return tmp_path / "set"


@pytest.fixture
def run(capsys):
    def run(*words):
        code = cli.main(["data", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_store_is_made_and_gone_on_with(run, root, tmp_path):
    store = tmp_path / "the store"
    words = ("prepare", root, "--store", store, "--short-side", 24)
    code, out, _ = run(*words, "--dry-run")
    assert code == 0 and not store.exists()
    assert "0 of 4 videos are there; the other 4 will take about " in out
    code, out, err = run(*words, "--split", "train", "--workers", 1)
    assert code == 0 and "2 videos stored" in out and "100%" in err
    assert f"--config.data.store='{store}'" in out
    code, out, _ = run(*words)
    assert code == 0 and "2 of 4 videos are there" in out and "2 videos stored" in out
    opened = Store(store)
    assert len(opened) == 4 and opened.settings.dataset == "rwf2000"
    path = root / "val" / "Fight" / "d.mp4"
    with opened(VideoRecord(str(path), "d")) as clip:
        assert clip.meta.num_frames == 10 and clip.meta.height == 24


def test_a_recipe_says_how(run, root, tmp_path):
    store = tmp_path / "store"
    code, out, _ = run(
        *("prepare", "--config", RECIPE, f"--config.data.root={root}", "--store", store, "--json")
    )
    told = json.loads(out)
    assert code == 0 and told["videos"] == told["to_do"] == 4 and not told["stopped"]
    asked = config.load(RECIPE).data
    assert told["settings"]["short_side"] == asked.decode_short_side
    assert told["settings"]["audio_rate"] == 0 and told["settings"]["dataset"] == "rwf2000"
    assert told["bytes"] > 0


def test_sound_is_kept_when_the_recipe_hears(run, root, tmp_path):
    pytest.importorskip("librosa", reason="needs the extra: pip install -e '.[audio]'")
    words = ("prepare", "--config", HEARS, f"--config.data.root={root}", "--store", tmp_path / "s")
    code, out, _ = run(*words, "--config.data.audio=log_mel", "--json", "--dry-run")
    assert code == 0 and json.loads(out)["settings"]["audio_rate"] == 16000
    code, out, _ = run(*words, "--config.data.audio=none", "--json", "--dry-run")
    assert code == 0 and json.loads(out)["settings"]["audio_rate"] == 0


def kept(store, split="train", **options):
    choices = store_index.choices(rwf2000.load, options)
    return store_index.read(store, dataset="rwf2000", split=split, chosen=choices, root="there")


def test_the_records_of_what_was_prepared_are_kept(run, root, tmp_path):
    store = tmp_path / "store"
    words = ("prepare", root, "--store", store, "--short-side", 24)
    assert run(*words, "--dry-run")[0] == 0 and not store.exists()
    code, out, _ = run(*words, "--split", "val")
    assert code == 0 and "records of val (2 clips)" in out
    with pytest.raises(DataError, match="'train' .* not in this store, which holds val"):
        kept(store)
    code, out, _ = run(*words, "--json")
    assert code == 0 and json.loads(out)["splits"] == {"train": 2, "val": 2}
    index = kept(store)
    assert [r.id for r in index.records] == ["train/NonFight/c.mp4", "train/Fight/a b.mp4"]
    assert index.class_names == ("NonFight", "Fight") and index.records[1].labels == (1,)
    assert index.records[1].path == "there/train/Fight/a b.mp4"
    shutil.rmtree(store / "index")  # as of an older version: nothing is decoded again
    code, out, _ = run(*words)
    assert (
        code == 0
        and "4 of 4 videos are there\nnothing to add; records" in out
        and len(kept(store)) == 2
    )


def test_a_split_that_cannot_be_read_is_told_and_counts(run, root, tmp_path):
    shutil.rmtree(root / "val")
    code, out, err = run("prepare", root, "--store", tmp_path / "s", "--short-side", 24)
    assert code == 1 and "error: val: " in err and "records of train (2 clips)" in out


def test_records_of_a_split_that_lacks_files_are_not_kept(run, tmp_path, root):
    lists = (
        "path,label,split\ntrain/Fight/a b.mp4,x,train\ngone.mp4,y,train\nval/Fight/d.mp4,x,val\n"
    )
    (root / "clips.csv").write_text(lists)
    words = ("prepare", root, "--dataset", "table", "--store", tmp_path / "s", "--short-side", 24)
    code, out, err = run(*words, "--split", "train,val", "--json")
    assert code == 1 and json.loads(out)["splits"] == {"val": 1} and "gone.mp4" in err
    assert "the records of train are not kept in the store, since files of it are missing" in err
    code, out, _ = run(*words, "--split", "train,val", "--json", "--option", "max_missing=0.5")
    assert code == 0 and json.loads(out)["splits"] == {"train": 1, "val": 1}


def test_flow_is_kept_when_asked_for(run, root, tmp_path):
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")
    store = tmp_path / "store"
    words = ("prepare", root, "--store", store, "--short-side", 24, "--flow", "dis", "--json")
    code, out, _ = run(*words)
    told = json.loads(out)
    assert code == 0 and told["settings"]["flow"] == "dis" == Store(store).flow
    assert 0.7 * told["bytes"] < told["estimated_bytes"] < 1.5 * told["bytes"]
    path = root / "val" / "Fight" / "d.mp4"
    with Store(store).open(VideoRecord(str(path), "d")) as clip:
        assert clip.flow_at([9, 0]).shape == (2, 24, 36, 2)
    code, _, err = run(*words[:-3])
    assert code == 2 and "made with flow='dis', asked for was 'none'" in err


def test_sigterm_ends_it_as_ctrl_c_does(run, root, tmp_path, monkeypatch):
    real, seen, outside = store_writer._store_video, [], []

    def terminated(path, going, records):
        seen.append(path)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            going.stop.wait(10)
        return real(path, going, records)

    def handler(*_):
        outside.append("came through")

    monkeypatch.setattr(store_writer, "_store_video", terminated)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        code, out, _ = run("prepare", root, "--store", tmp_path / "st", "--workers", 1)
        assert signal.getsignal(signal.SIGTERM) is handler and not outside
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 1 and "2 videos stored" in out and "interrupted: run it again to go on" in out
    assert len(Store(tmp_path / "st")) == 2
    assert not list((tmp_path / "st" / "shards").glob(".*"))


def test_folds_of_one_name_share_a_store(run, root, tmp_path):
    words = ("prepare", root, "--dataset", "table", "--store", tmp_path / "st", "--split", "train")
    for fold, clips in (("1", "train/Fight/a b"), ("2", "train/NonFight/c")):
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "train.csv").write_text(f"path,label\n{clips}.mp4,x\n")
        code, _, err = run(*words, "--option", f"annotations={tmp_path}/{fold}/{{split}}.csv")
        assert code == 0, err
    for fold, name in (("1", "a b.mp4"), ("2", "c.mp4")):
        options = {"annotations": f"/elsewhere/{fold}/{{split}}.csv"}
        chosen = store_index.choices(table.load, options)
        common = {"dataset": "table", "split": "train", "root": "there", "chosen": chosen}
        (record,) = store_index.read(tmp_path / "st", **common).records
        assert record.path.endswith(name)


def test_several_machines_share_the_work(run, root, tmp_path):
    words = ("prepare", root, "--store", tmp_path / "store", "--short-side", 24, "--json")
    found = [json.loads(run(*words, "--part", f"{n}/3")[1])["videos"] for n in (1, 2, 3)]
    assert found == [2, 1, 1] and len(Store(tmp_path / "store")) == 4
    with pytest.raises(SystemExit):
        run(*words, "--part", "4/3")


def test_what_cannot_be_decoded_is_told_and_the_others_are_done(run, root, tmp_path):
    (root / "train" / "Fight" / "wreck.mp4").write_bytes(b"\0" * 999)
    code, out, err = run("prepare", root, "--store", tmp_path / "store", "--short-side", 24)
    assert code == 1 and "4 videos stored" in out
    assert "wreck.mp4: " in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the folder of the store with --store DIR"),
        (("--store", "s", "--short-side", "-1"), "--short-side -1: expected a number of pixels"),
        (("--store", "s", "--quality", "0"), "quality is 0, expected 1 to 100"),
        (("--store", "s", "--split", "tets"), "unknown split of rwf2000 'tets'"),
    ],
)
def test_wrong_words_are_refused(run, root, words, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("prepare", root, *words)
    assert code == 2 and said in err and not (tmp_path / "s").exists()


def test_no_videos_no_store(run, tmp_path):
    (tmp_path / "set").mkdir()
    code, _, err = run(
        *("prepare", tmp_path / "set", "--dataset", "rwf2000", "--store", tmp_path / "store")
    )
    assert code == 2 and "no videos of 'rwf2000' to prepare" in err


def _training_source(c, index):
    specs = build_transforms(c.data.train_transforms)
    return ClipSource(
        index,
        sampling=Sampling(c.data.sampling, c.data.num_frames),
        size=c.data.size,
        transforms=specs,
        open_clip=FileOpener(short_side=c.data.decode_short_side),
    )


# --- bench -------------------------------------------------------------------------------------------


@pytest.fixture
def bench(run, root, monkeypatch):
    monkeypatch.setattr(build, "training_source", _training_source, raising=False)

    def bench(*words):
        shared = (f"--config.data.root={root}", "--config.data.batch_size=8", "--seconds", 0.01)
        return run("bench", RECIPE, *shared, *words)

    return bench


def test_bench_says_what_waits(bench):
    code, out, _ = bench("--needs", 1e9)
    assert code == 0 and "the model waits for data: it could take 1000000000.0 clips/s" in out
    assert "clips/s with" in out and "MB/s read" in out
    assert all(f"  {stage} " in out for stage in ("read", "decode", "resize", "batch", "transfer"))
    code, out, _ = bench("--needs", 1e-3, "--json", "data.threads=2")
    told = json.loads(out)
    assert told["waits"] == "data" and told["threads"] == 2 and told["clips"] >= 8
    assert told["megabytes_given_per_second"] > 0 and told["needs_timed_on"] is None
    assert "the data keep up" in told["verdict"] and told["advice"] == ""


@pytest.mark.slow
def test_the_model_is_timed_where_nobody_says_what_it_needs(bench):
    code, out, _ = bench()
    assert code == 0 and "a training step on cpu: " in out


def test_bench_refuses_what_it_cannot_do(bench, run):
    code, _, err = bench("--config.data.root=nowhere", "--needs", 1)
    assert code == 2 and "error: nowhere" in err
    code, _, err = bench("--config.data.rot=x")
    assert code == 2 and "Did you mean" in err
    for word in ("--fast", "fast"):
        with pytest.raises(SystemExit):
            run("bench", RECIPE, word)
