import numpy as np
import pytest

from jaxvid.data.contact_sheet import GAP, TITLE, contact_sheet


def numbered(clips=2, frames=5, height=20, width=30):
    """Frame t of clip n is flat gray of level 50 n + 10 t."""
    levels = 50 * np.arange(clips)[:, None] + 10 * np.arange(frames)
    shape = (clips, frames, height, width, 3)
    return np.broadcast_to(levels[..., None, None, None], shape).astype(np.uint8)


def levels(sheet, clips, frames, tall, wide):
    """The level in the middle of each picture."""
    rows = [n * (TITLE + tall + GAP) + TITLE + tall // 2 for n in range(clips)]
    columns = [GAP + t * (wide + GAP) + wide // 2 for t in range(frames)]
    return [[int(sheet[y, x, 0]) for x in columns] for y in rows]


def test_a_row_a_clip_and_time_from_left_to_right():
    sheet = contact_sheet(numbered(), ["run", "jump"], height=20)
    assert sheet.shape == (2 * (TITLE + 20 + GAP), GAP + 5 * (30 + GAP), 3)
    assert levels(sheet, 2, 5, 20, 30) == [[0, 10, 20, 30, 40], [50, 60, 70, 80, 90]]


def test_frames_are_picked_evenly_with_first_and_last():
    sheet = contact_sheet(numbered(frames=5), ["a", "b"], frames=3, height=20)
    assert levels(sheet, 2, 3, 20, 30) == [[0, 20, 40], [50, 70, 90]]


@pytest.mark.parametrize("height, tall", [(10, 10), (59, 40), (60, 60)])
def test_small_frames_grow_by_whole_factors(height, tall):
    sheet = contact_sheet(numbered(clips=1, frames=1), ["a"], height=height)
    assert sheet.shape[:2] == (TITLE + tall + GAP, GAP + tall * 3 // 2 + GAP)


def test_titles_are_written_and_cut_where_they_do_not_fit():
    clips = np.zeros((1, 4, 20, 30, 3), np.uint8)
    plain, titled, long = (
        contact_sheet(clips, [title], height=20)[:TITLE].astype(int)
        for title in ("", "жест jump\nrun", "jump " * 99)
    )
    assert (titled != plain).any() and (long != plain).any()
    assert (long[:, -4:] == plain[:, -4:]).all()  # not up to the edge


def test_what_is_no_clip():
    with pytest.raises(ValueError, match=r"was given float64 of shape .* expected uint8 \(clips,"):
        contact_sheet(np.zeros((1, 2, 4, 4, 3)), ["a"])
    with pytest.raises(ValueError, match="1 titles for 2 clips"):
        contact_sheet(numbered(), ["a"])
