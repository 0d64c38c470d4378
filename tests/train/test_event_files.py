import logging

import pytest
from tensorboardX import SummaryWriter

from jaxvid.train import event_files
from jaxvid.train.event_files import EventFile


@pytest.fixture
def bucket(monkeypatch):
    """{name: content}; with "denied" set, nothing can be written."""
    objects = {}

    def write(path, data):
        if objects.get("denied"):
            raise PermissionError(13, "denied", path)
        objects[path] = data

    monkeypatch.setattr(event_files, "write_atomically", write)
    return objects


def test_numbers_of_a_run_in_s3_are_in_its_event_file(bucket):
    event_files.enable()
    board = SummaryWriter("s3://bucket/run/tensorboard", flush_secs=1000)
    board.add_scalar("train/loss", 0.5, 1)
    board.flush()
    board.add_scalar("val/top1", 0.5, 2)
    board.close()
    ((name, content),) = bucket.items()
    assert name.startswith("s3://bucket/run/tensorboard/events.out.tfevents.")
    assert content.count(b"train/loss") == 1 and content.count(b"val/top1") == 1


def test_a_flush_that_fails_is_said_and_made_up_for(bucket, caplog):
    file = EventFile("s3://bucket/events")
    file.write(b"one")
    bucket["denied"] = True
    with caplog.at_level(logging.WARNING, logger="jaxvid"):
        file.flush()
    assert "TensorBoard's numbers are not written now: [Errno 13] denied" in caplog.text
    with pytest.raises(PermissionError):
        file.close()
    bucket["denied"] = False
    file.write(b"two")
    file.close()
    assert bucket["s3://bucket/events"] == b"onetwo"
