import numpy as np
import pytest

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
