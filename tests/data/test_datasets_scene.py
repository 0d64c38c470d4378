"""The generated scenes differ by motion alone, and nothing blind to order tells them from each other.

The blind probe sees each frame's pixels and each pair of neighbours, but neither which came first nor
when. The seeing probe is given two numbers that change their sign when a clip runs backwards.
"""

import numpy as np
import pytest

from jaxvid.data.datasets._scene import CLASSES, render

NUM_FRAMES, SIZE, TRAIN, VAL = 8, 32, 150, 250
LEFT, RIGHT, APPROACHING, RECEDING = range(4)


@pytest.mark.parametrize("forwards, backwards", [("left", "right"), ("approaching", "receding")])
@pytest.mark.parametrize("seed", [0, (3, 1, 4)])
def test_one_is_the_other_played_backwards(forwards, backwards, seed):
    a = render(forwards, seed, num_frames=6, size=32)
    b = render(backwards, seed, num_frames=6, size=32)
    assert a.dtype == np.uint8 and a.shape == (6, 32, 32, 3)
    np.testing.assert_array_equal(a[::-1], b)
    assert not np.array_equal(a, b)


def test_seeds():
    clip = render("left", 5, num_frames=4, size=24)
    np.testing.assert_array_equal(clip, render("left", 5, num_frames=4, size=24))
    assert not np.array_equal(clip, render("left", 6, num_frames=4, size=24))


def test_motion_does_what_its_name_says():
    for name, of in (("left", 0), ("right", 0), ("approaching", 1), ("receding", 1)):
        turns = np.array(
            [ordered_features(render(name, s, num_frames=8, size=48)) for s in range(20)]
        )
        forward = turns[:, of] * (-1 if name in ("left", "receding") else 1)
        assert np.mean(forward > 0) >= 0.9, name


@pytest.fixture(scope="module")
def clips():
    """{split: (clips, labels)}, every clip from a seed of its own."""

    def draw(split, count):
        seeds = [(split, label, k) for label in range(4) for k in range(count)]
        names = list(CLASSES)
        videos = [render(names[s[1]], s, num_frames=NUM_FRAMES, size=SIZE) for s in seeds]
        return np.float32(videos) / 255, np.array([s[1] for s in seeds])

    return {"train": draw(0, TRAIN), "val": draw(1, VAL)}


def test_blind_to_order_half_at_most(clips):
    probe = accuracies(clips, blind_features)
    assert probe["left or right"] <= 0.56  # 0.5 and nearly three standard deviations of 500 coins
    assert probe["approaching or receding"] <= 0.56
    assert probe["which pair"] >= 0.85  # it is no poor probe: this is what half of it comes from
    assert 0.4 <= probe["all four"] <= 0.55


def test_the_first_frame_does_not_tell_left_from_right(clips):
    probe = accuracies(
        clips, lambda x: x[0].reshape(8, SIZE // 8, 8, SIZE // 8, 3).mean((1, 3)).ravel()
    )
    assert probe["left or right"] <= 0.56
    assert probe["approaching or receding"] >= 0.7  # sizes begin where they begin: it can see


def test_seeing_order_it_is_easy(clips):
    probe = accuracies(clips, lambda x: np.concatenate([ordered_features(x), blind_features(x)]))
    assert min(probe.values()) >= 0.85, probe


def blind_features(clip: np.ndarray) -> np.ndarray:
    """Numbers that any order of the frames leaves as they are, up to who is whose neighbour."""
    grid = clip.reshape(len(clip), 4, SIZE // 4, 4, SIZE // 4, 3).mean((2, 4))  # (T, 4, 4, 3)
    change = np.abs(np.diff(clip, axis=0)).mean(-1)  # (T-1, H, W)
    change = change.reshape(len(change), 4, SIZE // 4, 4, SIZE // 4).mean((2, 4))
    bright = (clip.max(-1) > 0.7).mean((1, 2))
    return np.concatenate(
        [
            grid.mean(0).ravel(),
            grid.std(0).ravel(),
            change.mean(0).ravel(),
            np.sort(change.mean((1, 2))),
            np.sort(bright),
            np.sort(clip.mean((1, 2, 3))),
            np.sort(clip.std((1, 2, 3))),
        ]
    )


def ordered_features(clip: np.ndarray) -> np.ndarray:
    """(how far the bright part goes to the right a frame, by how much it grows a frame)."""
    bright = (clip.max(-1) > 0.7 * clip.max()).astype(np.float32)  # (T, H, W)
    size = clip.shape[2]
    circle = np.exp(2j * np.pi * np.arange(size) / size)  # what leaves on the right comes back
    turns = np.angle(np.exp(1j * np.diff(np.angle((bright.sum(1) * circle).sum(1)))))
    area = bright.sum((1, 2)) + 1
    time = np.arange(len(clip)) - (len(clip) - 1) / 2
    return np.array([np.median(turns), (np.log(area) * time).sum() / (time**2).sum()])


def accuracies(clips, features) -> dict[str, float]:
    x, val_x = (np.stack([features(c) for c in clips[split][0]]) for split in ("train", "val"))
    y, val_y = clips["train"][1], clips["val"][1]
    questions = {
        "left or right": ([LEFT, RIGHT], [0, 1]),
        "approaching or receding": ([APPROACHING, RECEDING], [0, 1]),
        "which pair": (range(4), [0, 0, 1, 1]),
        "all four": (range(4), range(4)),
    }
    result = {}
    for name, (classes, answers) in questions.items():
        answer = np.zeros(4, int)
        answer[list(classes)] = list(answers)
        asked, val_asked = np.isin(y, list(classes)), np.isin(val_y, list(classes))
        guess = ridge(x[asked], answer[y[asked]], val_x[val_asked])
        result[name] = np.mean(guess == answer[val_y[val_asked]])
    return result


def ridge(x, y, val_x, weight: float = 10.0) -> np.ndarray:
    """Labels of val_x by a linear classifier, least squares on one-hot labels."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, val_x = (np.c_[(a - mean) / scale, np.ones(len(a))] for a in (x, val_x))
    target = np.eye(y.max() + 1)[y]
    solution = np.linalg.solve(x.T @ x + weight * np.eye(x.shape[1]), x.T @ target)
    return (val_x @ solution).argmax(1)
