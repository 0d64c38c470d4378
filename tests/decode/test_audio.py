"""The sound of a stretch: files the test writes, with tones and clicks at known times."""

import fractions
import types
from pathlib import Path

import av
import numpy as np
import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.decode import audio, video

FPS = 10
MUTE = str(Path(__file__).parents[1] / "data" / "clips" / "arm_wrestling.mp4")


def clicks(seconds, rate, at, length=0.01):
    """float32 (n,): silence with bursts of a 1 kHz tone that begin at these seconds."""
    times = np.arange(round(seconds * rate)) / rate
    out = np.zeros(len(times), np.float32)
    for start in at:
        burst = (times >= start) & (times < start + length)
        out[burst] = 0.5 * np.sin(2 * np.pi * 1000 * (times[burst] - start))
    return out


def sweep(seconds, rate):
    """A tone that rises from 200 to 2200 Hz in each second: no two moments sound alike."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 * times + 1000 * (times % 1) ** 2))).astype(np.float32)


def write(
    path,
    sound,
    *,
    rate=44100,
    codec="pcm_s16le",
    layout="mono",
    fmt=None,
    shift=0.0,
    video=4,
    video_codec="mpeg4",
):
    """A file with `video` seconds of pictures (0: none) and this sound, float32 (n,) or (C, n).

    shift: seconds by which the track starts after the pictures; below 0: before them. Picture i is
    grey, of level 5 i; each 8th is a key frame."""
    with av.open(str(path), "w") as file:
        if video:
            pictures = file.add_stream(video_codec, rate=FPS, options={"g": "8"})
            pictures.width = pictures.height = 32
        track = file.add_stream(codec, rate=rate, layout=layout)
        if video:
            for i in range(video * FPS):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8))
                frame.pts, frame.time_base = (
                    i + round(max(0, -shift) * FPS),
                    fractions.Fraction(1, FPS),
                )
                file.mux(pictures.encode(frame))
            file.mux(pictures.encode(None))
        sound = np.atleast_2d(sound)
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        fifo.write(frame)
        resampler = av.AudioResampler(fmt or track.codec_context.format, layout, rate)
        while (part := fifo.read(track.codec_context.frame_size or 1024, partial=True)) is not None:
            for converted in resampler.resample(part):
                converted.pts += round(max(0, shift) * rate)
                file.mux(track.encode(converted))
        file.mux(track.encode(None))
    return str(path)


def onsets(waveform, rate, level=0.05):
    """Seconds at which silence ends."""
    loud = np.flatnonzero(np.abs(waveform) > level)
    return loud[np.diff(loud, prepend=-(10**9)) > 0.05 * rate] / rate


# --- where in time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize(
    "name, codec", [("a.avi", "pcm_s16le"), ("a.mp4", "aac"), ("a.mkv", "libopus")]
)
def test_a_click_is_where_it_was_put(tmp_path, name, codec, rate):
    path = write(tmp_path / name, clicks(4, 48000, [0.5, 1.5, 3.25]), rate=48000, codec=codec)
    whole = audio.read(path, 0.0, 4.0, rate)
    assert whole.shape == (4 * rate,) and whole.dtype == np.float32
    np.testing.assert_allclose(onsets(whole, rate), [0.5, 1.5, 3.25], atol=0.003)
    later = audio.read(path, 3.0, 3.5, rate)  # sought
    np.testing.assert_allclose(onsets(later, rate), [0.25], atol=0.003)


@pytest.mark.parametrize("shift", [0.0, 0.6, -0.5])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_time_counts_from_the_first_picture(tmp_path, name, shift):
    path = write(tmp_path / name, clicks(3, 44100, [1.0, 2.0]), codec="aac", shift=shift)
    got = audio.read(path, 0.0, 4.0, 16000)
    np.testing.assert_allclose(onsets(got, 16000), [1.0 + shift, 2.0 + shift], atol=0.003)
    assert not got[: round(max(0, shift) * 16000)].any()
    sought = audio.read(path, 2.0 + shift - 0.25, 2.5 + shift, 16000)
    np.testing.assert_allclose(onsets(sought, 16000), [0.25], atol=0.003)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_recording_that_begins_between_key_frames(tmp_path, share):
    """Its first pictures are never shown: time counts from the first one that is."""
    sound = clicks(4, 48000, [3.5])
    path = write(tmp_path / "a.ts", sound, rate=48000, codec="mp2", video_codec="libx264")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[int(share * len(data)) // 188 * 188 :])
    with video.open(path) as reader:
        lost_seconds = round(reader.frames_at([0]).mean() / 5) / FPS
        assert (lost_seconds > 0) == (share > 0)
        got = reader.waveform(0.0, 4.0, 16000)
        np.testing.assert_allclose(onsets(got, 16000), [3.5 - lost_seconds], atol=0.003)
        sought = reader.waveform(3.25 - lost_seconds, 3.75 - lost_seconds, 16000)
        np.testing.assert_allclose(onsets(sought, 16000), [0.25], atol=0.003)


@pytest.mark.parametrize("start, end", [(0.0, 0.5), (1.0, 2.0), (0.3337, 2.71), (2.9, 4.0)])
@pytest.mark.parametrize("name, codec", [("a.avi", "pcm_s16le"), ("a.mp4", "aac")])
def test_a_stretch_is_that_part_of_the_whole(tmp_path, name, codec, start, end):
    path = write(tmp_path / name, sweep(4, 44100), codec=codec)
    whole = audio.read(path, 0.0, 4.0, 16000)
    part = audio.read(path, start, end, 16000)
    # AAC's decoder fills quiet bands with noise of its own.
    tolerance = 0.05 if codec == "aac" else 1e-5
    expected = whole[round(start * 16000) : round(end * 16000)]
    np.testing.assert_allclose(part, expected, atol=tolerance)


def test_resampling_keeps_what_both_rates_can_hold(tmp_path):
    path = write(tmp_path / "a.avi", sweep(2, 44100))
    got = audio.read(path, 0.0, 2.0, 16000)
    inside = slice(400, 15000)  # of one sweep: where it begins anew no lower rate can follow
    np.testing.assert_allclose(got[inside], sweep(2, 16000)[inside], atol=0.001)


# --- what there is ---------------------------------------------------------------------------------


def test_past_the_end_is_silence(tmp_path):
    path = write(tmp_path / "a.avi", sweep(1, 44100), video=4)
    got = audio.read(path, 0.5, 3.0, 16000)
    assert got.shape == (40000,) and np.abs(got[:7900]).max() > 0.3
    assert not got[8100:].any()
    assert not audio.read(path, 3.0, 3.5, 16000).any()
    assert not audio.read(path, 100.0, 100.5, 16000).any()


@pytest.mark.parametrize(
    "codec, fmt",
    [("pcm_s16le", "s16"), ("pcm_u8", "u8"), ("pcm_s32le", "s32"), ("pcm_f32le", "flt")],
)
def test_channels_are_averaged_and_full_scale_is_one(tmp_path, codec, fmt):
    both = np.stack([np.full(44100, 0.75), np.full(44100, -0.25)]).astype(np.float32)
    path = write(tmp_path / "a.mkv", both, codec=codec, layout="stereo", fmt=fmt, video=1)
    got = audio.read(path, 0.1, 0.9, 44100)
    np.testing.assert_allclose(got, 0.25, atol=0.01)


def test_louder_than_full_scale_is_cut(tmp_path):
    path = write(tmp_path / "a.mkv", np.full(44100, 1.5, np.float32), codec="pcm_f32le", video=1)
    assert audio.read(path, 0.0, 0.5, 44100).max() == 1


def test_no_track_and_no_file_of_sound(tmp_path):
    (tmp_path / "frames").mkdir()
    assert audio.read(str(tmp_path / "frames"), 0, 1, 16000) is None
    assert audio.read(MUTE, 0, 1, 16000) is None


def test_sound_without_pictures(tmp_path):
    path = write(tmp_path / "a.wav", clicks(2, 44100, [1.5]), video=0)
    np.testing.assert_allclose(onsets(audio.read(path, 1, 2, 16000), 16000), [0.5], atol=0.003)


def test_a_stretch_of_damaged_packets_is_silent(tmp_path):
    path = write(tmp_path / "a.mp3", sweep(4, 44100), codec="libmp3lame", video=0)
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    Path(path).write_bytes(data)
    got = audio.read(path, 0.0, 4.0, 16000)
    assert np.abs(got[:16000]).max() > 0.3 and np.abs(got[-16000:-2000]).max() > 0.3


def test_a_packet_is_silent_whatever_the_codec_says_of_it(tmp_path):
    """FFmpeg's AAC decoder has several numbers for damage, some of them without a text."""
    path = write(tmp_path / "a.mp4", sweep(4, 44100), codec="aac")
    data, whole = bytearray(Path(path).read_bytes()), audio.read(path, 0.0, 4.0, 16000)
    with av.open(path) as file:
        places = [(p.pos, p.size) for p in file.demux(audio=0) if p.size and p.pos is not None]
    place, size = places[len(places) // 2]
    data[place : place + size] = b"\xff" * size
    Path(path).write_bytes(data)
    got = audio.read(path, 0.0, 4.0, 16000)
    assert 0 < np.mean(np.abs(got - whole) > 0.02) < 0.1


# --- the reader ------------------------------------------------------------------------------------


def test_the_readers_waveform(tmp_path, backend):
    path = write(tmp_path / "a.mp4", clicks(4, 44100, [2.5]), codec="aac")
    with video.open(path, backend=backend) as reader:
        assert reader.has_audio is None
        got = reader.waveform(2.0, 3.0, 16000)
        assert reader.has_audio and reader.frames_at([3]).shape == (1, 32, 32, 3)
    np.testing.assert_allclose(onsets(got, 16000), [0.5], atol=0.003)
    with video.open(MUTE, backend=backend) as reader:
        silent = reader.waveform(0.5, 1.25, 16000)
        assert reader.has_audio is False
    assert silent.shape == (12000,) and silent.dtype == np.float32 and not silent.any()
    with pytest.raises(ValueError, match="the reader is closed; ask for sound before close"):
        reader.waveform(0, 1, 16000)


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stretch", [(1.0, 1.0), (-0.5, 1.0), (0.0, float("inf")), (float("nan"), 1)]
)
def test_stretches_that_cannot_be(stretch):
    with pytest.raises(
        ValueError, match=r"x.mp4: sound was asked for .* expected 0 <= start < end"
    ):
        audio.read("x.mp4", *stretch, 16000)


@pytest.mark.parametrize("rate", [0, 0.5])
def test_rates_that_cannot_be(rate):
    with pytest.raises(ValueError, match="x.mp4: the sample rate is .* whole number from 1"):
        audio.read("x.mp4", 0, 1, rate)


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 20)
    for name in ("a.mp4", "missing.mp4"):
        with pytest.raises(DecodeError, match=rf"{name}: .* by audio: FFmpeg says of its sound: "):
            audio.read(str(tmp_path / name), 0, 1, 16000)


def test_a_track_of_rubbish(tmp_path):
    path = write(tmp_path / "a.mkv", sweep(2, 44100), codec="flac", video=2)
    with av.open(path) as file:
        places = [(p.pos, p.size) for p in file.demux(file.streams.audio[0]) if p.size]
    data = bytearray(Path(path).read_bytes())
    for place, size in places:
        data[place + 16 : place + size] = bytes(size - 16)
        at = data.find(b"\xff\xf8", place - 1, place + 16)
        data[at : at + 2] = b"\0\0"
    Path(path).write_bytes(data)
    with pytest.raises(
        DecodeError, match=r"none of the \d+ packets of its audio track can be decoded"
    ):
        audio.read(path, 0, 2, 16000)


class _Frame:
    def __init__(self, pts, sample_rate):
        self.pts, self.sample_rate, self.samples = pts, sample_rate, 100


class _Stream:
    time_base = fractions.Fraction(1, 1000)
    codec_context = types.SimpleNamespace(sample_rate=1000)


def test_a_rate_that_changes_on_the_way():
    frames = iter([_Frame(5000, 1000), _Frame(5100, 2000)])
    with pytest.raises(
        DecodeError, match="changes from 1000 to 2000 Hz at 0.10 seconds; re-encode"
    ):
        audio._collected(frames, _Stream, 5.0, 0.15, 4.0, "a.ts")


def test_a_codec_that_ffmpeg_does_not_know():
    track = types.SimpleNamespace(codec_context=None)
    container = types.SimpleNamespace(streams=types.SimpleNamespace(audio=[track, track]))
    with pytest.raises(DecodeError, match="its 2 audio tracks have codecs unknown to this FFmpeg"):
        audio._track(container, "a.mp4")
