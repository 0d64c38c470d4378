"""What becomes of bad files on their way into batches: named, skipped and counted, never a hang."""

import os

import numpy as np
import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.pipeline import evaluation_batches, training_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource
from jaxvid.data.transform_list import build_transforms

CROP = [{"name": "centre_crop", "size": 32}]


@pytest.fixture
def folder(tmp_path, write_video):
    """Six sound clips, one of which the tests spoil."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8)
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", frames, 10)
    return tmp_path


def source(folder, **options):
    records = [VideoRecord(str(folder / f"{n}.mp4"), str(n), (n,)) for n in range(6)]
    return ClipSource(
        DatasetIndex(tuple(records), tuple("abcdef")),
        sampling=Sampling("uniform", 4),
        size=32,
        transforms=build_transforms(CROP),
        **options,
    )


def spoil(path, how):
    data = path.read_bytes()
    path.unlink()
    if how == "stalled":
        os.mkfifo(path)
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 3])
    elif how == "empty":
        path.touch()
    elif how == "a web page":
        path.write_text("<!DOCTYPE html><html><body>404</body></html>" * 3)


@pytest.mark.parametrize("how", ["vanished", "stalled", "truncated", "empty", "a web page"])
def test_a_file_that_is_spoilt_between_two_epochs(folder, caplog, how):
    data = source(folder, on_error="skip", deadline_seconds=1.5)
    with training_batches(data, batch_size=6, seed=0, threads=2) as batches:
        assert next(batches)["mask"].all()
    spoil(folder / "3.mp4", how)
    with training_batches(data, batch_size=6, seed=0, threads=2) as batches:
        batches.set_state({"next_batch": 1})
        batch = next(batches)
    assert sorted(batch["row"]) == list(range(6))
    np.testing.assert_array_equal(batch["mask"], batch["row"] != 3)
    assert batch["label"][:, 0].tolist() == batch["row"].tolist()
    (shown,) = batch["video"][batch["row"] == 3]
    np.testing.assert_array_equal(shown, batch["video"][batch["mask"]][0])
    assert "skipped: " in caplog.text and "3.mp4: cannot be decoded" in caplog.text


@pytest.mark.parametrize("how", ["vanished", "stalled"])
def test_or_the_caller_hears_of_it(folder, how):
    data = source(folder, deadline_seconds=1.5)
    spoil(folder / "3.mp4", how)
    batches = training_batches(data, batch_size=6, seed=0, threads=2)
    with batches, pytest.raises(DecodeError, match=r"3\.mp4: cannot be decoded by pyav: ") as error:
        next(batches)
    assert error.value.path == str(folder / "3.mp4")


def test_evaluation_counts_each_of_the_others_once(folder):
    spoil(folder / "3.mp4", "stalled")
    data = source(folder, on_error="skip", deadline_seconds=1.5)
    seen = [
        row
        for batch in evaluation_batches(data, batch_size=4, threads=2)
        for row in batch["row"][batch["mask"]]
    ]
    assert sorted(seen) == [0, 1, 2, 4, 5]
