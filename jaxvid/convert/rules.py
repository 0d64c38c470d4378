"""The language of the conversion tables: patterns of keys, patterns of paths, what lies between.

A table is a tuple of entries, read both ways:

    RULES = (
        *conv("patch_embed.proj", "encoder/patch_embed", axes="t h w"),
        *norm("blocks.{i}.norm1", "encoder/block_{i}/norm1"),
        *fused_heads("blocks.{i}.attn.qkv", "encoder/block_{i}/attention"),
        *linear("blocks.{i}.mlp.{fc:fc1|fc2}", "encoder/block_{i}/mlp/{fc}"),
        leaf("mask_token", "mask_token", "1 1 d -> d"),
        Waive("blocks.{i}.attn.relative_index", "a table the model computes"),
    )

`{i}` stands for digits and is the same on both sides; `{i+1}` on one side shifts the count;
`{name:regex}` stands for anything the regular expression matches (`{p:query|key}`, `{rest:.+}`) and
is plain `{name}` on the other side. Keys are the checkpoint's, with whatever separator it uses;
paths are '/'-joined paths of the model's `params`, and those of another collection begin with its
name (`batch_stats/stem/norm/mean`). A bundle such as `linear` names the keys that may exist: what
the checkpoint and the model both lack (a missing bias) costs nothing, and what only one of them has
is an error when the table is applied (jaxvid/convert/apply.py).
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.layout import SAME, Layout, Operation, Split

_WILDCARD = re.compile(r"\{(\w+?)([+-]\d+)?(?::([^{}]+))?\}")
Binding = tuple[tuple[str, str], ...]


class Pattern:
    """A key or path with wildcards; `match` finds what they stand for, `fill` puts it back."""

    def __init__(self, text: str, regexes: Mapping[str, str]):
        self.text, self.shifts = text, {}
        expression, end = "", 0
        for found in _WILDCARD.finditer(text):
            name, shift, _ = found.groups()
            expression += re.escape(text[end : found.start()])
            if name in self.shifts:
                expression += f"(?P={name})"
            else:
                expression += f"(?P<{name}>{regexes[name]})"
                self.shifts[name] = int(shift or 0)
            end = found.end()
        self._regex = re.compile(expression + re.escape(text[end:]))

    def match(self, word: str) -> Binding | None:
        """What each wildcard stands for when the pattern is this word, else None."""
        found = self._regex.fullmatch(word)
        if not found:
            return None
        values = found.groupdict()
        for name, shift in self.shifts.items():
            if shift:
                values[name] = str(int(values[name]) - shift)
                if int(values[name]) < 0:
                    return None
        return tuple(sorted(values.items()))

    def fill(self, binding: Binding) -> str:
        """The word for these values of the wildcards."""
        values = dict(binding)
        return _WILDCARD.sub(
            lambda m: str(int(values[m[1]]) + int(m[2])) if m[2] else values[m[1]], self.text
        )


def patterns(*texts: str) -> list[Pattern]:
    """Patterns that share their wildcards: a regular expression is given once, anywhere."""
    regexes: dict[str, str] = {}
    for text in texts:
        for name, _, regex in _WILDCARD.findall(text):
            if regex and regexes.get(name, regex) != regex:
                raise ValueError(f"{{{name}}} has two meanings in {texts}")
            regexes[name] = regex or regexes.get(name, "")
    made = [Pattern(t, {name: regex or r"\d+" for name, regex in regexes.items()}) for t in texts]
    if any(set(p.shifts) != set(regexes) for p in made):
        raise ValueError(f"every wildcard must stand in each of {texts}")
    return made


@dataclasses.dataclass(frozen=True)
class Rule:
    """These keys of the checkpoint are those paths of the model, through an operation."""

    keys: tuple[str, ...]
    paths: tuple[str, ...]
    operation: Operation = SAME

    @functools.cached_property
    def _patterns(self) -> list[Pattern]:
        return patterns(*self.keys, *self.paths)

    @property
    def key_patterns(self) -> list[Pattern]:
        return self._patterns[: len(self.keys)]

    @property
    def path_patterns(self) -> list[Pattern]:
        return self._patterns[len(self.keys) :]


@dataclasses.dataclass(frozen=True)
class Waive:
    """Keys of the checkpoint that the model does not need, and why.

    With `beside` (a path pattern) such a key is written again when saving, with this `value`,
    wherever the model has that path: reference loaders that are strict ask for their counters.
    """

    key: str
    reason: str
    beside: str | None = None
    value: Any = None

    @functools.cached_property
    def patterns(self) -> list[Pattern]:
        return patterns(self.key, *([self.beside] if self.beside else []))


@dataclasses.dataclass(frozen=True)
class Alias:
    """A second key of the same tensor: must equal the first when loading, is written when saving."""

    key: str
    of: str

    @functools.cached_property
    def patterns(self) -> list[Pattern]:
        return patterns(self.key, self.of)


Entry = Rule | Waive | Alias


def leaf(key: str, path: str, layout: str | None = None, **sizes: int) -> Rule:
    """One key to one path, laid out by a line of jaxvid.convert.layout (None: as it is)."""
    return Rule((key,), (path,), Layout(layout, **sizes) if layout else SAME)


def linear(key: str, path: str) -> tuple[Rule, ...]:
    """torch Linear -> flax Dense: `weight` (o, i) -> `kernel` (i, o), and `bias`."""
    return leaf(f"{key}.weight", f"{path}/kernel", "o i -> i o"), leaf(
        f"{key}.bias", f"{path}/bias"
    )


def conv(key: str, path: str, axes: str = "t h w") -> tuple[Rule, ...]:
    """torch Conv -> flax Conv: `weight` (o, i, *axes) -> `kernel` (*axes, i, o), and `bias`.

    `axes`: the names of the kernel's axes, "t h w", "h w" or "t". Also right for depthwise and
    grouped convolutions, where i counts the inputs of one group on both sides.
    """
    weight = leaf(f"{key}.weight", f"{path}/kernel", f"o i {axes} -> {axes} i o")
    return weight, leaf(f"{key}.bias", f"{path}/bias")


def norm(key: str, path: str) -> tuple[Rule, ...]:
    """torch LayerNorm, GroupNorm, RMSNorm: `weight` -> `scale`, and `bias`."""
    return leaf(f"{key}.weight", f"{path}/scale"), leaf(f"{key}.bias", f"{path}/bias")


def batch_norm(key: str, path: str) -> tuple[Entry, ...]:
    """torch BatchNorm: as `norm`, the running mean and variance to the collection batch_stats."""
    mean, var = f"batch_stats/{path}/mean", f"batch_stats/{path}/var"
    counter = f"{key}.num_batches_tracked"
    return (
        *norm(key, path),
        leaf(f"{key}.running_mean", mean),
        leaf(f"{key}.running_var", var),
        Waive(counter, "a counter that inference does not read", beside=mean, value=0),
    )


def heads_in(key: str, path: str) -> tuple[Rule, ...]:
    """A projection into heads: `weight` (h·d, i) -> `kernel` (i, h, d), `bias` (h·d) -> (h, d)."""
    weight = leaf(f"{key}.weight", f"{path}/kernel", "(h d) i -> i h d")
    return weight, leaf(f"{key}.bias", f"{path}/bias", "(h d) -> h d")


def heads_out(key: str, path: str) -> tuple[Rule, ...]:
    """The projection out of heads: `weight` (o, h·d) -> `kernel` (h, d, o), and `bias`."""
    weight = leaf(f"{key}.weight", f"{path}/kernel", "o (h d) -> h d o")
    return weight, leaf(f"{key}.bias", f"{path}/bias")


def fused_heads(
    key: str, path: str, names: tuple[str, ...] = ("query", "key", "value")
) -> tuple[Rule, ...]:
    """A fused qkv projection: `weight` (3·h·d, i) -> three kernels (i, h, d), `bias` likewise."""

    def rule(source: str, target: str, layout: str) -> Rule:
        paths = tuple(f"{path}/{name}/{target}" for name in names)
        return Rule((f"{key}.{source}",), paths, Split(len(names), Layout(layout)))

    return (
        rule("weight", "kernel", "(h d) i -> i h d"),
        rule("bias", "bias", "(h d) -> h d"),
    )
