"""A prediction as text for people and as JSON for programs."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxvid.infer.predictor import Prediction

Ranked = list[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Teller:
    """names: of the classes, those of all heads in a row; heads: {head: its number of classes}, {}
    of one list. top_k: so many are told at most, None: all; threshold: of at least this
    probability."""

    names: Sequence[str]
    heads: Mapping[str, int]
    top_k: int | None
    threshold: float

    def as_json(self, prediction: Prediction) -> dict:
        """{"path", "predictions": […]}, of several heads {"path", "heads": {…}, "actions": […]}, of
        what could not be read {"path", "error"}."""
        if prediction.error is not None:
            return {"path": prediction.path, "error": prediction.error}
        if not self.heads:
            told = _entries(prediction.top(self.top_k, self.threshold), self.names)
            return {"path": prediction.path, "predictions": told}
        names = self._names_of_heads()
        return {
            "path": prediction.path,
            "heads": {
                head: _entries(ranked, names[head])
                for head, ranked in self._of_heads(prediction).items()
            },
            "actions": [
                {
                    "labels": dict(zip(names, self._action(indices), strict=True)),
                    "indices": dict(zip(names, indices, strict=True)),
                    "probability": probability,
                }
                for indices, probability in self._actions(prediction)
            ],
        }

    def as_text(self, prediction: Prediction) -> str:
        """The path, then a line a class, of several heads under their names."""
        if not self.heads:
            ranked = prediction.top(self.top_k, self.threshold)
            return "\n".join([prediction.path, *self._lines(ranked, self.names)])
        lines, names = [prediction.path], self._names_of_heads()
        for head, ranked in self._of_heads(prediction).items():
            lines += [f" {head}", *self._lines(ranked, names[head])]
        actions = [(" · ".join(self._action(i)), p) for i, p in self._actions(prediction)]
        return "\n".join([*lines, " action", *self._table(actions)])

    def _of_heads(self, prediction: Prediction) -> dict[str, Ranked]:
        return prediction.top_of_heads(self.heads, self.top_k, self.threshold)

    def _actions(self, prediction: Prediction) -> list[tuple[tuple[int, ...], float]]:
        found = prediction.top_actions(self.heads, self.top_k or _ACTIONS)
        return [(indices, p) for indices, p in found if p >= self.threshold]

    def _names_of_heads(self) -> dict[str, Sequence[str]]:
        parts, start = {}, 0
        for head, size in self.heads.items():
            parts[head] = self.names[start : start + size]
            start += size
        return parts

    def _action(self, indices: Sequence[int]) -> list[str]:
        return [n[i] for n, i in zip(self._names_of_heads().values(), indices, strict=True)]

    def _lines(self, ranked: Ranked, names: Sequence[str]) -> list[str]:
        return self._table([(names[i], p) for i, p in ranked])

    def _table(self, told: Sequence[tuple[str, float]]) -> list[str]:
        if not told:
            return [f"  nothing of {self.threshold:.1%} or more"]
        return [f"  {p:6.1%}  {name}" for name, p in told]


_ACTIONS = 100  # of all combinations that reach a threshold


def _entries(ranked: Ranked, names: Sequence[str]) -> list[dict]:
    return [{"label": names[i], "index": i, "probability": p} for i, p in ranked]
