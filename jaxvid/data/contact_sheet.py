"""A picture of clips as a model gets them: a row a clip, its frames from left to right, its labels
above."""

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 2  # pixels between frames
TITLE = 22  # pixels of a row's title
_LETTERS = 14
_BACKGROUND, _INK = (24, 24, 24), (235, 235, 235)


def contact_sheet(
    clips: np.ndarray, titles: Sequence[str], *, frames: int = 8, height: int = 160
) -> np.ndarray:
    """clips: uint8 (N, T, H, W, 3); titles: one a clip. Returns uint8 (h, w, 3).

    frames: so many of the T are shown, evenly spread, the first and the last among them. height: of
    a frame in pixels; larger frames are made smaller, smaller ones larger by whole factors so that
    their pixels stay visible. Raises ValueError for arrays that are no clips, or too few titles.
    """
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3 or 0 in clips.shape:
        raise ValueError(
            f"a contact sheet was given {clips.dtype} of shape {clips.shape}, expected uint8 "
            "(clips, frames, height, width, RGB) with nothing empty"
        )
    if len(titles) != len(clips):
        raise ValueError(f"{len(titles)} titles for {len(clips)} clips: give one for each")
    shown = np.unique(np.linspace(0, clips.shape[1] - 1, frames).round().astype(int))
    tall, wide = _size(*clips.shape[2:4], height)
    sheet = Image.new(
        "RGB",
        (GAP + len(shown) * (wide + GAP), len(clips) * (TITLE + tall + GAP)),
        _BACKGROUND,
    )
    draw, font = ImageDraw.Draw(sheet), _font()
    for row, (clip, title) in enumerate(zip(clips, titles, strict=True)):
        top = row * (TITLE + tall + GAP)
        draw.text((GAP + 2, top + 3), _cut(title, draw, font, sheet.width), _INK, font)
        for column, frame in enumerate(clip[shown]):
            picture = Image.fromarray(frame).resize((wide, tall), _filter(frame.shape[0], tall))
            sheet.paste(picture, (GAP + column * (wide + GAP), top + TITLE))
    return np.asarray(sheet)


def _size(tall: int, wide: int, height: int) -> tuple[int, int]:
    scale = height / tall if tall > height else height // tall
    return round(tall * scale), round(wide * scale)


def _filter(stored: int, shown: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if shown >= stored else Image.Resampling.BOX


def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib brings a font that knows more than Latin letters.
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(os.path.join(folder, "DejaVuSans.ttf"), _LETTERS)


def _cut(title: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    title = " ".join(title.split())
    if draw.textlength(title, font) <= width - 8:
        return title
    while title and draw.textlength(title + "…", font) > width - 8:
        title = title[:-1]
    return title + "…"
