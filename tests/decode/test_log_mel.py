"""Log-mel spectrograms: against librosa, and of sounds whose spectrum is known."""

import pickle
import sys
import types
import warnings

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.decode import log_mel
from jaxvid.decode.log_mel import FLOOR, MEAN, STD

RATE = 16000
SILENCE = (np.log(FLOOR) - MEAN) / STD


def tone(hertz, seconds, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f")


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.fixture
def librosa():
    return pytest.importorskip("librosa", reason="the reference: pip install librosa")


@pytest.mark.parametrize("rate, mels", [(16000, 80), (48000, 128), (22050, 40)])
def test_as_librosa_makes_it(librosa, rate, mels):
    window = round(0.032 * rate / 2) * 2
    step, frames = window // 2, 20
    sound = noise(frames * step)
    around = (window - step) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lowest filters are narrower than a bin
        theirs = librosa.feature.melspectrogram(
            y=np.pad(sound, (around, window - step - around)),
            sr=rate,
            n_fft=window,
            hop_length=step,
            n_mels=mels,
            center=False,
            htk=True,
            norm=None,
        )
    theirs = (np.log(np.maximum(theirs, 1e-10)) + 7.03) / 4.66
    ours = log_mel.log_mel(sound, rate, frames=frames, mels=mels)
    assert ours.dtype == np.float32 and ours.shape == (frames, mels)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-4)


def test_a_tone_is_loudest_in_its_own_bin():
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82) / 2595) - 1)
    for hertz in (440, 1000, 3000):
        got = log_mel.log_mel(tone(hertz, 2.0), RATE, frames=128, mels=80)
        nearest = np.abs(edges[1:-1] - hertz).argmin()
        assert np.abs(got[1:-1].argmax(axis=1) - nearest).max() <= 1


@pytest.mark.parametrize("seconds", [0.7, 2.048, 10.0])
def test_time_runs_along_the_first_axis_over_the_whole_clip(seconds):
    """Silence, then a tone from 3/4 on, whatever the length: the frames are parts of the clip."""
    sound = tone(1000, seconds)
    sound[: round(0.75 * len(sound))] = 0
    loud = log_mel.log_mel(sound, RATE, frames=64, mels=40).max(axis=1)
    np.testing.assert_allclose(loud[:44], SILENCE, atol=1e-5)
    assert loud[49:63].min() > 0.5


def test_long_frames_hear_all_of_their_part():
    """A click anywhere in a frame of 156 ms is heard in that frame."""
    for place in (300, 1200, 2400):
        sound = np.zeros(20 * RATE, np.float32)
        sound[50 * 2500 + place] = 1
        loud = log_mel.log_mel(sound, RATE, frames=128, mels=40).max(axis=1)
        assert loud.argmax() == 50 and loud[[48, 52]].max() < loud[50] - 0.5


def test_silence_and_few_samples():
    silent = log_mel.log_mel(np.zeros(32000, np.float32), RATE, frames=128, mels=80)
    np.testing.assert_allclose(silent, -3.4326, atol=1e-4)
    short = log_mel.log_mel(noise(5), RATE, frames=16, mels=8)
    assert short.shape == (16, 8) and np.isfinite(short).all()


@pytest.mark.parametrize(
    "sound, numbers, error, says",
    [
        (
            noise(9)[None],
            {},
            ValueError,
            r"was asked of float32 of shape \(1, 9\), expected at least",
        ),
        (noise(0), {}, ValueError, "expected at least one sample of mono sound"),
        (np.arange(9), {}, ValueError, "was asked of int64"),
        (noise(9), {"frames": 0}, ConfigError, "data.audio_frames is 0, expected a whole number"),
        (noise(9), {"mels": 2.5}, ConfigError, "data.audio_mels is 2.5, expected a whole number"),
        (noise(9), {"mels": 300}, ConfigError, "no more than 256 frequencies to tell apart"),
    ],
)
def test_what_cannot_be_is_refused(sound, numbers, error, says):
    with pytest.raises(error, match=says):
        log_mel.log_mel(sound, RATE, **({"frames": 4, "mels": 4} | numbers))


class _Heard:
    """Stands for an open video: a second of silence, a second of noise."""

    def waveform(self, start, end, rate):
        sound = np.concatenate([np.zeros(rate, np.float32), noise(rate)])
        return sound[round(start * rate) : round(end * rate)]


def test_what_is_heard_of_a_video():
    hear = pickle.loads(pickle.dumps(log_mel.LogMel(rate=8000, frames=32, mels=16)))
    got = hear(_Heard(), 0.5, 1.5)
    assert got.shape == (32, 16) and got.dtype == np.float32
    np.testing.assert_allclose(got[:15], SILENCE, atol=1e-5)
    assert got[17:].min() > SILENCE + 1
    with pytest.raises(ConfigError, match="data.audio_rate is 0, expected a whole number from 1"):
        log_mel.LogMel(rate=0)


def test_files_are_heard_in_the_steps_of_a_store():
    faint = noise(RATE) * np.float32(1e-4)
    kept = np.round(faint * 32767).astype("<i2")  # as data/store_writer.py writes it
    from_store = kept / np.float32(32767)  # as data/store.py reads it
    readers = [types.SimpleNamespace(waveform=lambda *_, s=s: s) for s in (faint, from_store)]
    hear = log_mel.LogMel(RATE, frames=16, mels=80)
    file, store = (hear(reader, 0.0, 1.0) for reader in readers)
    np.testing.assert_array_equal(file, store)
    assert np.abs(file - log_mel.log_mel(faint, RATE, frames=16, mels=80)).max() > 0.01
    every = np.arange(-32767, 32768, dtype="<i2") / np.float32(32767)
    np.testing.assert_array_equal(log_mel._as_stored(every), every)


def test_without_librosa_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, "librosa.feature", None)
    with pytest.raises(ConfigError, match=r"need librosa, which is not installed: pip install"):
        log_mel.LogMel()
