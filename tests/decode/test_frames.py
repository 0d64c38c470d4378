import os

import numpy as np
import pytest
from PIL import Image

from jaxvid.core.errors import DecodeError
from jaxvid.decode import frames, video


def save(folder, name, level, size=(6, 4), mode="RGB", **options):
    folder.mkdir(exist_ok=True)
    Image.new(mode, size, (level,) * 3 if mode == "RGB" else level).save(folder / name, **options)


def test_natural_order_and_what_counts_as_a_frame(tmp_path):
    folder = tmp_path / "clip"
    for number in (10, 2, 1, 11):
        save(folder, f"frame{number}.png", number)
    save(folder, "Frame12.BMP", 12)
    save(folder, "frame9.webp", 9, lossless=True)
    save(folder, "._frame1.png", 99)  # what macOS leaves beside a copied file
    (folder / "labels.txt").write_text("no frame")
    with video.open(folder) as reader:
        levels = reader.frames_at(np.arange(6))[:, 0, 0, 0]
        assert levels.tolist() == [1, 2, 9, 10, 11, 12]
        assert reader.frames_at([5, 0, 5])[:, 0, 0, 0].tolist() == [12, 1, 12]
        assert reader.backend == "frames"


def test_optical_flow_beside_the_frames_is_none_of_them(tmp_path):
    folder = tmp_path / "clip"
    for number in (1, 2):
        save(folder, f"img_{number:05}.jpg", 10 * number)
        save(folder, f"flow_x_{number:05}.jpg", 200)
        save(folder, f"flow_y_{number:05}.jpg", 200)
    with video.open(folder) as reader:
        assert reader.frames_at([0, 1])[:, 0, 0, 0].tolist() == [10, 20]
        assert reader.meta.num_frames == 2
    for name in ("img_00001.jpg", "img_00002.jpg"):
        (folder / name).unlink()
    with video.open(folder) as reader:  # then they are what was asked for
        assert reader.meta.num_frames == 4


def test_natural_key_orders_ties_by_the_name_itself():
    names = ["b1", "a01", "a1", "a10", "a2", "a"]
    assert sorted(names, key=frames.natural_key) == ["a", "a01", "a1", "a2", "a10", "b1"]


def test_meta_and_rgb(tmp_path, backend):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (6, 4), (255, 128, number)).save(folder / f"{number}.png")
    with video.open(folder, backend=backend) as reader:
        meta = reader.meta
        assert (meta.num_frames, meta.height, meta.width, meta.rotation_degrees) == (3, 4, 6, 0)
        assert meta.fps == frames.DEFAULT_FPS
        assert meta.duration_seconds == pytest.approx(3 / frames.DEFAULT_FPS)
        got = reader.frames_at([2])
    assert (got.shape, got.dtype) == ((1, 4, 6, 3), np.uint8)
    np.testing.assert_array_equal(got[0, 0, 0], [255, 128, 2])


def test_palette_gray_and_alpha_become_rgb(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "1.png")
    Image.new("RGBA", (4, 4), (1, 2, 3, 128)).save(tmp_path / "2.png")
    Image.new("RGB", (4, 4), (9, 8, 7)).convert("P").save(tmp_path / "3.png")
    with video.open(tmp_path) as reader:
        got = reader.frames_at([0, 1, 2])[:, 0, 0]
    assert got[0].tolist() == [77, 77, 77]
    assert got[1].tolist() == [1, 2, 3]


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "1.jpg", exif=exif)
    with video.open(tmp_path) as reader:
        assert (reader.meta.height, reader.meta.width) == (4, 8)
        assert reader.frames_at([0]).shape == (1, 4, 8, 3)


def test_short_side_of_a_big_jpeg(tmp_path):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (480, 640, 3))
    Image.fromarray(picture).save(tmp_path / "1.jpg", quality=95)
    with video.open(tmp_path, short_side=60) as reader:
        assert (reader.meta.height, reader.meta.width) == (60, 80)
        got = reader.frames_at([0])[0].astype(int)
    expected = np.asarray(Image.fromarray(picture).resize((80, 60), Image.BILINEAR)).astype(int)
    assert np.abs(got - expected).max() <= 4


def test_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DecodeError, match=r"holds no images \(\.jpg, .*\) among its 1 entries"):
        video.open(tmp_path)


def test_frames_of_two_sizes(tmp_path):
    save(tmp_path, "1.png", 1)
    save(tmp_path, "2.png", 2, size=(8, 4))
    with (
        video.open(tmp_path) as reader,
        pytest.raises(DecodeError, match=r"2\.png is 8x4 pixels, 1\.png is 6x4") as info,
    ):
        reader.frames_at([0, 1])
    assert info.value.frame == 1


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_frame_that_is_no_image(tmp_path, content):
    save(tmp_path, "1.png", 1)
    (tmp_path / "2.png").write_bytes(content)
    with (
        video.open(tmp_path) as reader,
        pytest.raises(DecodeError, match=r"frame 1 by frames: 2\.png cannot be read as an image"),
    ):
        reader.frames_at([1])


def test_a_frame_that_is_cut_short(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    with (
        video.open(tmp_path) as reader,
        pytest.raises(DecodeError, match=r"1\.jpg cannot be read as an image: .*truncated"),
    ):
        reader.frames_at([0])


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "1.png")
    with (
        video.open(tmp_path) as reader,
        pytest.raises(DecodeError, match="more than 8 bits a pixel .* convert the frames"),
    ):
        reader.frames_at([0])


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DecodeError, match="the folder cannot be listed: Permission denied"):
        video.open(tmp_path)
