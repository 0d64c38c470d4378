"""Log-mel spectrograms of a clip's sound: what the audio streams of audio-visual models hear.

    hear = LogMel(rate=16000, frames=128, mels=80)
    hear(reader, 1.0, 3.0)  # of an open video -> float32 (128, 80)
    log_mel(waveform, 16000, frames=128, mels=80)  # of samples, float32 (n,) -> float32 (128, 80)

As PyTorchVideo makes them for Audiovisual SlowFast: Hann windows of 32 ms, power, mel filters on
HTK's scale without normalisation of their areas, natural logarithm of at least 1e-10; then
normalised with its mean and standard deviation over Kinetics, -7.03 and 4.66. Digital silence is
-3.43 everywhere. There the frames are 16 ms apart and 128 of them are picked; here they are spread
over the clip, and where that leaves far more than 16 ms between them, each is the mean power of
several windows: whatever the length of a clip, all of it is heard.

The spectrograms are librosa's (the extra `audio`).
"""

import dataclasses

import numpy as np

from jaxvid.core.errors import ConfigError
from jaxvid.decode.reader import Reader

WINDOW_SECONDS = 0.032
STEP_SECONDS = 0.016  # from window to window, up to half of it more
FLOOR = 1e-10
MEAN, STD = -7.03, 4.66


@dataclasses.dataclass(frozen=True)
class LogMel:
    """What is heard of a video while a clip is seen, in samples of 16 bits; picklable.

    rate: samples a second, higher tones than half of it are not heard. frames, mels: the size of a
    spectrogram. Raises ConfigError for numbers that cannot be.
    """

    rate: int = 16000
    frames: int = 128
    mels: int = 80

    def __post_init__(self):
        spectrograms()  # if librosa is missing: now, not at the first clip
        check(rate=self.rate, frames=self.frames, mels=self.mels)

    def __call__(self, reader: Reader, start_seconds: float, end_seconds: float) -> np.ndarray:
        """float32 (frames, mels) of [start, end); silence where the video has no track. Raises
        DecodeError for a track that is damaged."""
        samples = _as_stored(reader.waveform(start_seconds, end_seconds, self.rate))
        return log_mel(samples, self.rate, frames=self.frames, mels=self.mels)


def _as_stored(samples: np.ndarray) -> np.ndarray:
    """In steps of 16 bits, as stores keep sound: finer steps make empty mel bins quieter in files."""
    return np.round(samples * np.float32(32767)) / np.float32(32767)


def log_mel(waveform: np.ndarray, rate: int, *, frames: int, mels: int) -> np.ndarray:
    """float32 (n,) in [-1, 1] at `rate` samples a second -> float32 (frames, mels), time first.

    Frame i is of the i-th of `frames` equal parts of the waveform, which is cut or filled up with
    silence by at most half a sample a window to divide. Mel bin 0 is the lowest; the highest ends at
    rate / 2. Normalised as the file's head says: about zero mean and unit variance.

    Raises ConfigError for numbers that cannot be, ValueError for another kind of array.
    """
    check(rate=rate, frames=frames, mels=mels)
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or not waveform.size:
        raise ValueError(
            f"a log-mel spectrogram was asked of {waveform.dtype} of shape {waveform.shape}, expected "
            "at least one sample of mono sound, float (n,)"
        )
    window = window_samples(rate)
    each = max(1, round(waveform.size / (frames * STEP_SECONDS * rate)))  # windows a frame
    step = max(1, round(waveform.size / (frames * each)))
    samples = np.zeros(frames * each * step, np.float32)
    samples[: waveform.size] = waveform[: samples.size]
    before = max(0, window - step) // 2  # so that windows stand in the middle of their steps
    samples = np.pad(samples, (before, max(0, window - step) - before))
    power = spectrograms().melspectrogram(
        y=samples,
        sr=rate,
        n_fft=window,
        hop_length=step,
        n_mels=mels,
        center=False,
        htk=True,
        norm=None,
    )  # (mels, frames · each)
    energy = power.reshape(mels, frames, each).mean(axis=2).T
    return ((np.log(np.maximum(energy, FLOOR)) - MEAN) / STD).astype(np.float32)


def spectrograms():
    """librosa.feature. Raises ConfigError with what to install when librosa is missing."""
    try:
        import librosa.feature
    except ImportError as error:
        raise ConfigError(
            "log-mel spectrograms need librosa, which is not installed: pip install 'jaxvid[audio]'"
        ) from error
    return librosa.feature


def check(*, rate: int, frames: int, mels: int) -> None:
    """Raises ConfigError for numbers of which `log_mel` can make no spectrogram."""
    for name, value in (("rate", rate), ("frames", frames), ("mels", mels)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"data.audio_{name} is {value!r}, expected a whole number from 1")
    bins = window_samples(rate) // 2
    if mels > bins:
        raise ConfigError(
            f"data.audio_mels is {mels}: sound of {rate} samples a second (data.audio_rate) has no more "
            f"than {bins} frequencies to tell apart; take fewer mel bins or a higher rate"
        )


def window_samples(rate: int) -> int:
    """Samples of one window, an even number."""
    return 2 * round(WINDOW_SECONDS * rate / 2)
