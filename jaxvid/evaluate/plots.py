"""The pictures of a run as PNG files: confusion, learning curves, reconstructions.

Figures are drawn with matplotlib's objects, without pyplot: no display, no state of the process.
"""

import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxvid.core.files import write_atomically

# Above so many classes names do not fit beside the matrix; the most confused pairs are listed.
_NAMED_CLASSES = 60
# Up to so many classes every cell has its numbers.
_COUNTED_CLASSES = 15
_LISTED_PAIRS = 30
_LONGEST_NAME = 32
_AS_IT_IS = {"parse_math": False}  # a "$" in a name is a dollar
_CURVE_POINTS = 60  # a training curve of more points is drawn faint, under its running mean
_SHOWN_FRAMES = 8


def confusion_png(
    path: epath.PathLike, matrix: np.ndarray, class_names: Sequence[str], *, title: str = ""
) -> None:
    """Draws int (K, K) counts, row = label, column = prediction; colour is the share of the row.

    Up to 60 classes are named at the axes, up to 15 have their counts in the cells; with more the
    most confused pairs are listed beside the matrix.
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count):
        raise ValueError(f"a matrix of shape {matrix.shape} for {count} class names")
    names = [shorten(name) for name in class_names]
    support = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, support, out=np.zeros(matrix.shape), where=support > 0)
    named = count <= _NAMED_CLASSES
    figure, axes = _matrix_axes(count, max(map(len, names)) if named else 0)
    # Where cells have no numbers a square root lets the pale ones, the errors, be seen.
    norm = PowerNorm(1.0 if count <= _COUNTED_CLASSES else 0.5, vmin=0.0, vmax=1.0)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the label's clips")
    axes.set(xlabel="predicted", ylabel="label")
    correct = np.trace(matrix) / max(1, matrix.sum())
    figure.suptitle(f"{title}\n{correct:.1%} correct".lstrip(), **_AS_IT_IS)
    if named:
        _name_axes(axes, names)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.set(xlabel="predicted (class index)", ylabel="label (class index)")
        _list_pairs(figure, matrix, shares, names)
    if count <= _COUNTED_CLASSES:
        _write_counts(axes, matrix, shares)
    _save(figure, path)


def _matrix_axes(count: int, longest: int):
    if not longest:
        figure = Figure(figsize=(16, 9), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
        return figure, figure.add_subplot(grid[0, 0])
    cell = 0.9 if count <= 6 else 0.55 if count <= _COUNTED_CLASSES else 0.24
    side = count * cell + 0.075 * longest
    figure = Figure(figsize=(max(5.0, side + 2.0), max(4.2, side + 1.3)), layout="constrained")
    return figure, figure.subplots()


def _name_axes(axes, names: Sequence[str]) -> None:
    size = 9 if len(names) <= _COUNTED_CLASSES else 7
    flat = len(names) <= 6 and max(map(len, names)) <= 12
    turned = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, fontsize=size, **turned, **_AS_IT_IS)
    axes.set_yticks(range(len(names)), names, fontsize=size, **_AS_IT_IS)


def _write_counts(axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    roomy = len(matrix) <= 6
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{count}\n{share:.0%}" if roomy else str(count),
            ha="center",
            va="center",
            fontsize=11 if roomy else 8,
            color="white" if share > 0.6 else "black",
        )


def _list_pairs(figure: Figure, matrix, shares, names: Sequence[str]) -> None:
    """The cells off the diagonal with most clips, as text in the right half."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.lexsort((-shares.ravel(), -wrong.ravel()))[:_LISTED_PAIRS]
    axes = figure.add_subplot(figure.axes[0].get_gridspec()[0, 1])
    axes.axis("off")
    axes.set_title("most frequent confusions: label → predicted (clips, share)", fontsize=10)
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    for line, (i, j) in enumerate(p for p in pairs if wrong[p]):
        y = 1.0 - (line + 0.5) / _LISTED_PAIRS
        text = f"{i} {names[i]}  →  {j} {names[j]}"
        axes.text(0.0, y, text, fontsize=8, va="center", transform=axes.transAxes, **_AS_IT_IS)
        number = f"{wrong[i, j]}  {shares[i, j]:.0%}"
        axes.text(1.0, y, number, fontsize=8, va="center", ha="right", transform=axes.transAxes)


def shorten(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name, or its start and its end around an ellipsis, in at most `longest` characters.

    Names such as "Pulling [something] from left to right" differ at their end.
    """
    half = (longest - 1) // 2
    return name if len(name) <= longest else name[:half].rstrip() + "…" + name[-half:].lstrip()


def learning_curves(metrics_jsonl: epath.PathLike, png: epath.PathLike) -> None:
    """Draws loss and top-1 of every split against the step, from a run's metrics.jsonl.

    Lines are {"step", "split", "loss", "top1", …}; a step that stands twice (a resumed run) counts
    as it came last, null is a gap. Lines that are no JSON (a killed run can leave half a line) are
    left out, and the picture says how many. A metric that is nowhere gets no panel.
    """
    lines, broken = _read_lines(metrics_jsonl)
    panels = [
        (label, _series(lines, name), best)
        for name, label, best in (
            ("loss", "loss", np.argmin),
            ("top1", "top-1 accuracy (fraction)", np.argmax),
        )
    ]
    panels = [p for p in panels if p[1]]
    figure = Figure(figsize=(max(6.0, 5.5 * len(panels)), 4.2), layout="constrained")
    for i, (label, series, best) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        _draw_curves(axes, label, series, best)
    figure.suptitle(epath.Path(metrics_jsonl).parent.name, **_AS_IT_IS)
    if not panels:
        figure.text(0.5, 0.5, "no loss and no top1 measured yet", ha="center", va="center")
    if broken:
        figure.supxlabel(f"lines of metrics.jsonl left out as unreadable: {broken}", fontsize=8)
    _save(figure, png)


def _read_lines(path: epath.PathLike) -> tuple[list[dict], int]:
    lines, broken = [], 0
    for text in epath.Path(path).read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            broken += 1
            continue
        if isinstance(line, dict) and {"step", "split"} <= line.keys():
            lines.append(line)
        else:
            broken += 1
    return lines, broken


def _series(lines: Sequence[Mapping], name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{split: (steps, values)} sorted by step, training first."""
    points: dict[str, dict[int, float]] = {}
    for line in lines:
        if line.get(name) is not None:
            points.setdefault(line["split"], {})[line["step"]] = line[name]
    splits = sorted(points, key=lambda split: (split != "train", split))
    return {
        split: (
            np.array(sorted(points[split])),
            np.array([v for _, v in sorted(points[split].items())]),
        )
        for split in splits
    }


def _draw_curves(axes, label: str, series: Mapping, best) -> None:
    others = ("tab:orange", "tab:green", "tab:red", "tab:purple")
    evaluated = 0
    for split, (steps, values) in series.items():
        if split == "train":
            _draw_training(axes, steps, values)
            continue
        colour = others[evaluated % len(others)]
        evaluated += 1
        top = best(values)
        text = f"{split}: best {values[top]:.3f} at step {steps[top]}"
        axes.plot(steps, values, "o-", color=colour, markersize=3.5, label=text, zorder=3)
        axes.plot(steps[top], values[top], "*", color=colour, markersize=13, zorder=4)
    axes.set(xlabel="step", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def _draw_training(axes, steps: np.ndarray, values: np.ndarray) -> None:
    many = len(values) > _CURVE_POINTS
    faint = {"alpha": 0.3, "linewidth": 0.8} if many else {"label": "train"}
    axes.plot(steps, values, "-" if len(values) > 1 else "o", color="tab:blue", **faint)
    if many:
        width = len(values) // 25
        mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
        middle = steps[width // 2 : width // 2 + len(mean)]
        axes.plot(middle, mean, color="tab:blue", label=f"train (mean of {width} points)")


def reconstruction_png(
    path: epath.PathLike,
    original: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    *,
    title: str = "",
) -> None:
    """Draws masked autoencoding: for each clip its frames, what the encoder saw, what came back.

    All three: (N, T, H, W, 3), uint8 or float in [0, 1] (clipped: reconstructions overshoot). Up to
    8 frames a clip, evenly taken from first to last. Raises ValueError for other or unequal shapes.
    """
    videos = {"original": original, "masked input": masked, "reconstruction": reconstructed}
    shapes = {name: np.shape(video) for name, video in videos.items()}
    shape = shapes["original"]
    if len(set(shapes.values())) > 1 or len(shape) != 5 or shape[-1] != 3:
        raise ValueError(f"reconstruction_png was given {shapes}, expected one (N, T, H, W, 3)")
    n, frames, height, width, _ = shape
    chosen = np.unique(np.linspace(0, frames - 1, min(frames, _SHOWN_FRAMES)).round().astype(int))
    cell = 1.5
    size = (cell * len(chosen) + 1.4, (cell * height / width + 0.06) * 3 * n + 0.25 * n + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(3 * n, len(chosen), squeeze=False)
    for row in range(3 * n):
        name = list(videos)[row % 3]
        for column, frame in enumerate(chosen):
            axes = grid[row, column]
            axes.imshow(_displayable(np.asarray(videos[name][row // 3, frame])))
            axes.set(xticks=[], yticks=[])
            if row % 3 == 0:
                axes.set_title(f"frame {frame}", fontsize=8)
        grid[row, 0].set_ylabel(name, fontsize=8)
    if title:
        figure.suptitle(title, **_AS_IT_IS)
    _save(figure, path)


def _displayable(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint8:
        return frame
    return np.clip(frame.astype(np.float32), 0.0, 1.0)


def _save(figure: Figure, path: epath.PathLike) -> None:
    png = io.BytesIO()
    # All that is drawn: the layout forgets the labels below a square that is as high as its figure.
    figure.savefig(png, format="png", dpi=120, bbox_inches="tight")
    write_atomically(path, png.getvalue())
