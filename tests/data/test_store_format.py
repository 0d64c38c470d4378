"""Contents of videos are told apart, also by stores that an older jaxvid made."""

import hashlib
import json

import pytest
from PIL import Image

from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings, digest_of


def test_digests_see_the_pixels_of_frames_of_one_size(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.bmp").write_bytes(bytes(9))
    (tmp_path / "folder").mkdir()
    before = digest_of(tmp_path)
    assert digest_of(tmp_path) == before
    for number in (0, 2, 4):
        (tmp_path / f"{number}.bmp").write_bytes(b"x" * 9)
        assert digest_of(tmp_path) != before
        (tmp_path / f"{number}.bmp").write_bytes(bytes(9))
    assert digest_of(tmp_path) == before


def test_frames_in_an_older_store_are_known_by_their_names_and_sizes(tmp_path):
    frames = tmp_path / "set" / "clip"
    frames.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 24), (number, 0, 0)).save(frames / f"{number}.bmp")
    settings = Settings("folder", str(tmp_path / "set"), None, 90, "pyav")
    store_writer.start(tmp_path / "store", settings)
    common = {"root": tmp_path / "set", "workers": 1, "show": False}
    store_writer.write(tmp_path / "store", [str(frames)], settings, **common)
    index = DatasetIndex((VideoRecord(str(frames), "clip"),), ("a",))

    def pending():
        return store_writer.pending(tmp_path / "store", [str(frames)], tmp_path / "set")

    def check():
        Store(tmp_path / "store", root=tmp_path / "set").check(index)

    check()
    whole = {path: path.read_bytes() for path in frames.iterdir()}
    (frames / "1.bmp").write_bytes(whole[frames / "2.bmp"])
    assert pending() == [str(frames)]
    with pytest.raises(DataError, match="the file is not the one that .* was made from"):
        check()
    (list_file,) = (tmp_path / "store" / "shards").glob("*.json")
    told = json.loads(list_file.read_text())
    older = hashlib.blake2b(b"".join(b"%d.bmp\n2358\n" % n for n in range(3)), digest_size=12)
    told["videos"][0]["digest"] = older.hexdigest()
    list_file.write_text(json.dumps(told))
    check()
    assert not pending()
    (frames / "1.bmp").write_bytes(b"another size")
    assert pending() == [str(frames)]
