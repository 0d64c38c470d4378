import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from jaxvid.decode import jpeg


@pytest.fixture(params=["simplejpeg", "Pillow"])
def codec(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")
    return jpeg


def picture():
    """Smooth, with strong colours that change from one pixel to the next in places."""
    y, x = np.mgrid[:40, :60]
    frame = np.stack([4 * x, 6 * y, 255 - 2 * x - 2 * y], -1).astype(np.uint8)
    frame[10:20, 10:20, 0] = np.where((x[10:20, 10:20]) % 2, 255, 0)
    return frame


def test_a_frame_comes_back_nearly_as_it_was(codec):
    frame, out = picture(), np.empty((40, 60, 3), np.uint8)
    codec.decode_into(codec.encode(frame, 90), out)
    assert np.sqrt(np.mean((frame - out.astype(float)) ** 2)) < 4  # with halved colours: 10
    better = np.empty_like(out)
    codec.decode_into(codec.encode(frame, 98), better)
    assert np.abs(frame - better.astype(int)).mean() < np.abs(frame - out.astype(int)).mean()


def as_filmed():
    """What a camera gives: detail in the light, colours that change slowly."""
    y, x = np.mgrid[:64, :96]
    light = np.random.default_rng(0).integers(0, 60, (64, 96))
    return np.stack([x + light, 60 + y + light, 150 - x + light], -1).astype(np.uint8)


def error_and_colours(codec, frame, quality):
    data, out = codec.encode(frame, quality), np.empty_like(frame)
    codec.decode_into(data, out)
    with Image.open(io.BytesIO(data)) as image:
        colours = JpegImagePlugin.get_sampling(image)
    return np.mean((frame - out.astype(float)) ** 2), {0: "whole", 2: "halved"}[colours]


def test_colours_are_halved_where_that_costs_nothing(codec):
    error, colours = error_and_colours(codec, as_filmed(), 90)
    whole = np.empty((64, 96, 3), np.uint8)
    codec.decode_into(codec._coloured(as_filmed(), 90, "4:4:4"), whole)
    assert colours == "halved" and error < np.mean((as_filmed() - whole.astype(float)) ** 2)


def test_strong_colours_and_the_best_quality_stay_whole(codec):
    assert error_and_colours(codec, picture(), 90)[1] == "whole"
    error, colours = error_and_colours(codec, as_filmed(), 100)
    assert colours == "whole" and error < 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (5, 1, 3), (15, 17, 3)])
def test_frames_of_any_size_come_back(codec, shape):
    frame, out = np.full(shape, (200, 30, 90), np.uint8), np.empty(shape, np.uint8)
    codec.decode_into(codec.encode(frame, 95), out)
    assert np.abs(frame - out.astype(int)).max() <= 3


def test_the_loss_of_halved_colours_is_that_of_the_formula():
    """Against JFIF's conversion to Y, Cb, Cr, means of 2x2 and its way back."""
    frame = np.random.default_rng(0).integers(0, 256, (2, 50, 3)).astype(np.uint8)
    to = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    colours = frame @ to.T
    blocks = colours[..., 1:].reshape(2, 25, 2, 2)
    halved = np.broadcast_to(blocks.mean((0, 2), keepdims=True), blocks.shape)
    shared = np.concatenate([colours[..., :1], halved.reshape(2, 50, 2)], -1)
    error = np.mean((shared @ np.linalg.inv(to).T - frame) ** 2)
    np.testing.assert_allclose(jpeg._halving_loss(frame), error, rtol=1e-4)


def test_both_codecs_give_the_same_pixels(monkeypatch):
    pytest.importorskip("simplejpeg")
    data = jpeg.encode(picture(), 90)
    outs = np.empty((2, 40, 60, 3), np.uint8)
    jpeg.decode_into(data, outs[0])
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    jpeg.decode_into(data, outs[1])
    np.testing.assert_array_equal(outs[0], outs[1])


def test_views_that_are_not_contiguous_can_be_encoded(codec):
    frame, out = picture(), np.empty((40, 30, 3), np.uint8)
    codec.decode_into(codec.encode(frame[:, ::2], 95), out)
    assert np.abs(out[30:].astype(int) - frame[30:, ::2]).max() < 12


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: b"no JPEG", lambda d: d[:-200]])
def test_what_is_no_whole_jpeg_is_refused(codec, damage):
    data = codec.encode(picture(), 90)
    with pytest.raises(ValueError):
        codec.decode_into(damage(data), np.empty((40, 60, 3), np.uint8))


@pytest.mark.parametrize("shape", [(40, 62, 3), (42, 60, 3), (20, 20, 3)])
def test_another_size_is_refused(codec, shape):
    data = codec.encode(picture(), 90)
    with pytest.raises(ValueError, match="40.*60"):
        codec.decode_into(data, np.empty(shape, np.uint8))
