"""What an evaluation leaves behind: JSON, CSV and PNG in the workdir, and one screen of text."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxvid.core.batch import LABEL, ROW
from jaxvid.core.files import plain, write_atomically, write_json
from jaxvid.core.record import DatasetIndex
from jaxvid.evaluate.by_kind import head_parts
from jaxvid.evaluate.plots import confusion_png, learning_curves, reconstruction_png

__all__ = [
    "format_table",
    "learning_curves",
    "reconstruction_png",
    "summary",
    "write_evaluation",
    "write_predictions",
]

# Up to so many classes the table of predictions has a probability for each, above it the five best.
_ALL_PROBABILITIES = 10
# Up to so many classes one screen shows them all, above it the worst of them.
_SCREEN_CLASSES = 20
_WORST_CLASSES = 10
_SCREEN_CONFUSION = 8
_SCREEN_SKIPPED = 5


def write_evaluation(
    workdir: epath.PathLike,
    result: Mapping[str, Any],
    *,
    index: DatasetIndex,
    rows: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes workdir/eval/SPLIT.json; with `rows` also SPLIT_predictions.csv, SPLIT_confusion.png.

    result: {"split", "n", "step", "checkpoint", "protocol", "metrics", …}, written as it is, with
    null for what is not finite. rows: {"row": int (n,), "label": int (n, L) or "label_<head>" int
    (n, 1), "probabilities": float (n, K)}, None where nothing was classified. Sets with heads have the
    files of each: SPLIT_HEAD_predictions.csv. The JSON comes last: where it stands, the others do.
    Raises OSError naming the file that could not be written.
    """
    folder, split = epath.Path(workdir) / "eval", result["split"]
    tables = result["metrics"].get("heads", {"": result["metrics"]})
    parts = head_parts(index) or {"": slice(None)}
    for head, table in tables.items():
        stem, names = f"{split}_{head}" if head else split, index.class_names[parts[head]]
        if rows is not None:
            write_predictions(
                folder / f"{stem}_predictions.csv",
                records=[index.records[i] for i in rows[ROW]],
                labels=rows[f"{LABEL}_{head}" if head else LABEL],
                probabilities=rows["probabilities"][:, parts[head]],
                class_names=names,
            )
        if "confusion" in table:
            title = f"{stem}, step {result['step']}: {result['n']} clips"
            matrix = np.asarray(table["confusion"])
            confusion_png(folder / f"{stem}_confusion.png", matrix, names, title=title)
    write_json(folder / f"{split}.json", result)


def write_predictions(
    path: epath.PathLike,
    *,
    records: Sequence[Any],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """A CSV with one line a clip: id, path, label, predicted, correct (1 or 0) and probabilities.

    records: VideoRecords (n,); labels: int (n, L) padded with -1, several joined by ";"; clips without
    any leave label and correct empty. correct: whether the predicted class, the one of the highest
    probability, is among the labels. probabilities: float (n, K). Up to 10 classes have a column
    `p(NAME)` each; with more there are top1 … top5 with p1 … p5. Raises ValueError where the lengths
    differ.
    """
    if not len(records) == len(labels) == len(probabilities):
        raise ValueError(
            f"{len(records)} records, {len(labels)} labels and {len(probabilities)} rows of "
            "probabilities: expected as many of each"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    few = len(class_names) <= _ALL_PROBABILITIES
    writer.writerow(["id", "path", "label", "predicted", "correct", *_score_columns(class_names)])
    for record, own, scores in zip(records, labels, probabilities, strict=True):
        best = np.argsort(-scores, kind="stable")[:5]
        known = [int(label) for label in own if label >= 0]
        there = ";".join(class_names[label] for label in known)
        line = [record.id, record.path, there, class_names[best[0]]]
        line.append(int(best[0] in known) if known else "")
        ranked = [x for i in best for x in (class_names[i], f"{scores[i]:.6f}")]
        writer.writerow([*line, *([f"{p:.6f}" for p in scores] if few else ranked)])
    write_atomically(path, text.getvalue().encode())


def _score_columns(class_names: Sequence[str]) -> list[str]:
    if len(class_names) <= _ALL_PROBABILITIES:
        return [f"p({name})" for name in class_names]
    return [column for i in range(1, 6) for column in (f"top{i}", f"p{i}")]


def format_table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Aligned columns for a terminal; numbers stand right, floats with four digits, None is "–"."""
    text = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max(len(line[i]) for line in [headers, *text]) for i in range(len(headers))]
    lines = [headers, ["─" * width for width in widths], *text]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def summary(result: Mapping[str, Any]) -> str:
    """One screen of a result (see write_evaluation): the protocol, the numbers, the classes."""
    result = plain(dict(result))
    metrics = result["metrics"]
    protocol = ", ".join(f"{name} {value}" for name, value in result["protocol"].items())
    head = f"{result['split']}: {result['n']} clips, step {result['step']}, {result['checkpoint']}"
    parts = [f"{head}\n{protocol}"]
    numbers = [[k, v] for k, v in metrics.items() if isinstance(v, float | None)]
    if metrics.get("positive_class"):
        names = ("roc_auc", "average_precision")
        numbers = [
            [f"{k} ({metrics['positive_class']})" if k in names else k, v] for k, v in numbers
        ]
    parts.append(format_table(numbers, ["metric", "value"]))
    if metrics.get("per_class"):
        parts.append(_classes(metrics["per_class"]))
    if 0 < len(metrics.get("confusion", ())) <= _SCREEN_CONFUSION:
        parts.append(_confusion(metrics["confusion"], [r["class"] for r in metrics["per_class"]]))
    for head, table in metrics.get("heads", {}).items():
        parts.append(f"{head}\n{_classes(table['per_class'])}")
    if result.get("duplicates"):
        parts.append(_without_duplicates(result))
    if metrics.get("unlabelled"):
        parts.append(f"without a label, so not in the numbers: {metrics['unlabelled']} clips")
    if metrics.get("undefined"):
        parts.append("\n".join(f"not defined: {reason}" for reason in metrics["undefined"]))
    if result.get("skipped"):
        parts.append(_skipped(result["skipped"]))
    return "\n\n".join(parts)


def _without_duplicates(result: Mapping[str, Any]) -> str:
    numbers = list(result["metrics_without_duplicates"].items())
    title = f"without the {len(result['duplicates'])} clips that stand in training too"
    return (
        f"{title}:\n{format_table(numbers, ['metric', 'value'])}"
        if numbers
        else f"no clip is left {title}"
    )


def _classes(table: list[dict]) -> str:
    """The rows of classes, or the worst of them by the last of their numbers."""
    headers = list(table[0])
    title, by = "", headers[-1]
    if len(table) > _SCREEN_CLASSES:
        title = f"the {_WORST_CLASSES} classes of lowest {by} among {len(table)}:\n"
        table = [row for row in table if row[by] is not None]
        table = sorted(table, key=lambda row: row[by])[:_WORST_CLASSES]
    return title + format_table([[row[h] for h in headers] for row in table], headers)


def _confusion(matrix: list[list[int]], names: list[str]) -> str:
    rows = [[name, *counts] for name, counts in zip(names, matrix, strict=True)]
    return format_table(rows, ["label \\ predicted", *names])


def _skipped(paths: Sequence[Any]) -> str:
    shown = [f"  {path}" for path in paths[:_SCREEN_SKIPPED]]
    more = len(paths) - len(shown)
    shown += [f"  … and {more} more"] * (more > 0)
    return "\n".join([f"not evaluated, because they could not be decoded: {len(paths)}", *shown])
