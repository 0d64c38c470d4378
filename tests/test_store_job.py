"""A store is enough: a machine without the files trains and evaluates as one that has them."""

import json
import shutil

import jobs
import pytest

from jaxvid import build_data, cli, config
from jaxvid.core.errors import DataError

TRAIN = ("data.batch_size=8", "data.decode_short_side=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return jobs.make_data(tmp_path_factory.mktemp("rwf") / "set", write_video)


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """Made as a user makes it; one validation clip is a copy of a training one."""
    shutil.copy(data / "train/Fight/clip 0.mp4", data / "val/Fight/clip 0.mp4")
    store = tmp_path_factory.mktemp("stores") / "rwf"
    assert cli.main(["data", "prepare", str(data), "--store", str(store), "--short-side", "0"]) == 0
    return store


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    return tmp_path_factory.mktemp("empty") / "rwf"


def recipe(root, store, *more):
    return config.load(jobs.RECIPE, [f"data.root={root}", f"data.store={store}", *TRAIN, *more])


def told(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {(row["split"], row["step"]): row["loss"] for row in rows}


@pytest.mark.slow
def test_a_machine_without_the_files_has_the_same_run(
    data, store, nowhere, tmp_path, tmp_path_factory
):
    """The same losses and report; and a run goes on there that was begun where the files are."""
    environment = jobs.make_environment(tmp_path_factory.mktemp("cache"), devices=1)
    of_store = f"--config.data.store={store}"

    def run(root, workdir, *more, steps=4):
        more = (of_store, "--config.eval.every_steps=2", *more)
        words = jobs.arguments(root, tmp_path / workdir, *more, steps=steps)
        process = jobs.start([environment["PYTHON"], "-m", "jaxvid.main", *words], environment)
        code, stderr = jobs.finish(process)
        assert code == 0, stderr
        return stderr

    run(data, "with files")
    said = run(nowhere, "without")
    assert "the records of train come from the store" in said
    ours, theirs = told(tmp_path / "without"), told(tmp_path / "with files")
    assert ours == theirs and len(theirs) >= 6
    reports = [
        json.loads((tmp_path / f / "eval/val.json").read_text()) for f in ("without", "with files")
    ]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    (found,) = reports[0]["duplicates"]
    assert found["path"] == str(nowhere / "val/Fight/clip 0.mp4")
    assert len(reports[1]["duplicates"]) == 1
    assert reports[0]["metrics_without_duplicates"] == reports[1]["metrics_without_duplicates"]
    said = run(nowhere, "with files", steps=5)
    assert "resumed from the checkpoint of step" in said
    assert ("train", 5) in told(tmp_path / "with files")


def test_records_are_those_of_the_files(data, store, nowhere):
    for split in ("train", "val"):
        ours = build_data.index(recipe(nowhere, store), split)
        theirs = build_data.index(recipe(data, store), split)
        assert ours.class_names == theirs.class_names and len(ours) == len(theirs) > 5
        for a, b in zip(ours.records, theirs.records, strict=True):
            assert (a.id, a.labels) == (b.id, b.labels)
            assert a.path == b.path.replace(str(data), str(nowhere))


def test_what_the_store_does_not_hold(data, store, nowhere, tmp_path):
    with pytest.raises(DataError, match="'rwf2000', and data.dataset is 'folder'"):
        build_data.index(recipe(nowhere, store, "data.dataset=folder"), "train")
    c = recipe(nowhere, store)
    with pytest.raises(DataError, match="the split 'test' of 'rwf2000' is not in .* train, val"):
        build_data.index(c, "test")
    old = shutil.copytree(store, tmp_path / "old")
    shutil.rmtree(old / "index")
    with pytest.raises(DataError, match="an older jaxvid made it"):
        build_data.index(recipe(nowhere, old), "train")
    assert len(build_data.index(recipe(data, old), "train")) == 12  # the files do without


def test_the_files_count_where_they_are(data, store, tmp_path, caplog):
    mine = shutil.copytree(data, tmp_path / "mine")
    shutil.move(mine / "train/Fight/clip 1.mp4", mine / "train/NonFight/clip 9.mp4")
    changed = build_data.index(recipe(mine, store), "train")
    assert [r.labels for r in changed.records].count((1,)) == 5
    assert "its records of train are others than those that" in caplog.text
    shutil.rmtree(mine / "train")
    with pytest.raises(DataError, match="the train split of RWF-2000 is not there") as error:
        build_data.index(recipe(mine, store), "train")
    assert "holds the records of 'train' and would do, but" in str(error.value)
    with pytest.raises(DataError, match="is not there") as error:
        build_data.index(recipe(mine, tmp_path / "no store"), "train")
    assert "would do" not in str(error.value)


def test_the_folder_of_the_videos_says_whether_they_are_here(data, store, nowhere):
    c = recipe(nowhere, store)
    assert (
        build_data.content_of(c) is not None and build_data.content_of(recipe(data, store)) is None
    )
    c.data.options.videos = f"{data.parent}/{{split}}/videos"
    assert build_data.content_of(c) is None
    c.data.options.videos = str(nowhere / "videos")
    assert build_data.content_of(c) is not None
    assert build_data.content_of(recipe(nowhere, "")) is None
