"""What a conversion table offers, and how the right one is found.

A table is `jaxvid/convert/<model>.py` beside `jaxvid/models/<model>.py` and has

    SOURCES    {"hf/videomae": Source(…), …}: one entry for each reference the weights come from
    HEAD       path patterns of the leaves that depend on the number of classes
    EXPORT     the source that `save_pretrained` writes; absent: jaxvid's own keys
    TRANSFERS  {other model: Transfer(…)} whose checkpoints may start this model; optional
    example_inputs(arguments, clip)  inputs that initialise the model; absent: a batch of one video
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jaxvid.convert import apply
from jaxvid.convert.layout import LayoutError
from jaxvid.convert.rules import Entry, Rule, Waive, leaf, patterns
from jaxvid.core import lookup
from jaxvid.core.errors import ConversionError, UnknownNameError, nearest

log = logging.getLogger("jaxvid")

Clip = tuple[int, int, int, int]  # T, H, W, C
NATIVE = "jaxvid"
HEAD = ("head/{leaf:.+}",)  # of models without a table
NATIVE_ENTRIES = (leaf("{path:.+}", "{path}"),)
WRAPPERS = ("module.", "model.")  # of DataParallel and Lightning
WRAPPED_WITHIN = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # of torch


@dataclasses.dataclass(frozen=True)
class Source:
    """One reference a model's weights come from, in the reference's own terms.

    entries: the rules. arguments: its config -> keyword arguments of the model, `num_classes`
    among them; raises ConversionError for what the model cannot be. clip: its config -> (T, H, W,
    C) of its input. config: (the model's arguments, clip) -> its config, the way back. guess: (key
    -> shape, what lay beside the weights) -> a config, for files that come without one.
    prepare_save: flat variables -> equal variables the reference can express. prefixes: what
    wrappers put before keys (what they put between is left out everywhere). begin: what the
    reference's own keys begin with, though wrappers may put the same. preprocessing: what the
    reference is known to use, for checkpoints that do not say; a function of its config where that
    matters. fresh: path pattern -> why, of leaves that such checkpoints never have (the head, of an
    encoder's). model_type, architectures, processor: as a Hugging Face config.json and
    preprocessor_config.json name them.
    """

    entries: tuple[Entry, ...]
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    clip: Callable[[Mapping[str, Any]], Clip]
    config: Callable[[Mapping[str, Any], Clip], dict[str, Any]] | None = None
    guess: Callable[[Mapping[str, tuple], Mapping], dict[str, Any]] | None = None
    prepare_save: Callable[[dict], dict] | None = None
    prefixes: tuple[str, ...] = WRAPPERS
    begin: str = ""
    preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: {}
    fresh: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    processor: str | None = None


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How a checkpoint of one model starts another: what stays fresh, what is left behind, and why.

    Patterns are paths of the parameter trees (batch_stats/… for statistics). arguments: those of the
    checkpoint's model -> those of this one, without `num_classes` unless the checkpoint has them.
    clip: of the checkpoint's model -> one this model can be initialised with; None: the same.
    adapt: (path, array, shape this model has there) -> array, for leaves of another shape (2D weights
    inflated into 3D, jaxvid/convert/inflate.py). copies: pairs (path pattern of the checkpoint's
    model, path pattern of this one) where names differ or one leaf starts several; () means the same
    path on both sides.
    """

    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    fresh: Mapping[str, str]
    dropped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clip: Callable[[Clip], Clip] | None = None
    adapt: Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray] | None = None
    copies: tuple[tuple[str, str], ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """From the leaves of the checkpoint's model to those of this one."""
        pairs = self.copies or (("{path:.+}", "{path}"),)
        rules = [Rule((theirs,), (ours,), _Adapted(self.adapt)) for theirs, ours in pairs]
        return (*rules, *(Waive(path, reason) for path, reason in self.dropped.items()))


@dataclasses.dataclass(frozen=True)
class _Adapted:
    """The operation of a transfer: as it is where the shapes agree, else through `adapt`."""

    adapt: Callable | None

    def load(self, arrays, shapes):
        (array,), (shape,) = arrays, shapes
        if self.adapt is None or array.shape == tuple(shape):
            return [array]
        try:
            return [self.adapt("", array, tuple(shape))]
        except ConversionError as error:
            raise LayoutError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Found:
    """A source together with its name and the model whose table it stands in."""

    model: str
    arch: str
    source: Source


def table(model: str) -> ModuleType:
    """The conversion table of a model. Raises UnknownNameError when it has none."""
    return lookup.module("conversion", model)


def transfers(model: str) -> Mapping[str, Transfer]:
    """The other models whose checkpoints may start this one; none when it has no table."""
    return getattr(table(model), "TRANSFERS", {}) if has_table(model) else {}


def has_table(model: str) -> bool:
    """Whether `jaxvid/convert/<model>.py` exists."""
    return model in lookup.names("conversion")


def head_patterns(model: str) -> tuple[str, ...]:
    """Path patterns of the leaves that depend on the number of classes."""
    return table(model).HEAD if has_table(model) else HEAD


def heads(paths: Iterable[str]) -> list[str]:
    """Those of the paths that are of a head, by any table's word."""
    texts = {*HEAD, *(text for name in lookup.names("conversion") for text in head_patterns(name))}
    found = [pattern for text in texts for pattern in patterns(text)]
    return [path for path in paths if any(p.match(path) is not None for p in found)]


def all_sources() -> list[Found]:
    """Every source of every table, in the order of the tables' names."""
    return [found for model in lookup.names("conversion") for found in sources_of(model)]


def sources_of(model: str) -> list[Found]:
    """The sources of one model's table, the most common first."""
    return [Found(model, arch, source) for arch, source in table(model).SOURCES.items()]


def find(arch: str, keys: Iterable[str] | None = None) -> Found:
    """The source called `arch` ("torchvision/r2plus1d_18", or "r2plus1d_18" where only one is called
    so), or, for the plain name of a model, the one of its sources, or of those it can start from,
    that knows most of these keys; where others have the same keys, a warning says so.

    Raises UnknownNameError with the nearest name and the list.
    """
    by_name = {found.arch: found for found in all_sources()}
    if arch in by_name:
        return by_name[arch]
    alone = [found for name, found in by_name.items() if name.partition("/")[2] == arch]
    if len(alone) == 1 and not has_table(arch):
        return alone[0]
    if has_table(arch) and keys is not None:
        started_from = [name for name in transfers(arch) if has_table(name)]
        best = detect(keys, [f for name in (arch, *started_from) for f in sources_of(name)])
        _warn_of_others(best)
        return best
    known = [*by_name, *lookup.names("conversion")]
    raise UnknownNameError(
        f"unknown arch {arch!r}.{nearest(arch, known)} Known: {', '.join(known)}."
    )


def _warn_of_others(found: Found) -> None:
    """A length and size of clips that the keys do not tell are those of the source that was taken."""
    mine = found.source
    same = [
        other.arch
        for other in sources_of(found.model)
        if other.source.model_type == mine.model_type  # folders of Hugging Face name themselves
        and other.source.entries == mine.entries
        and other.source.clip != mine.clip
    ]
    if same:
        log.warning(
            "the keys are those of %s, and of %s: taken for the first; say which with arch=…",
            found.arch,
            ", ".join(same),
        )


def detect(keys: Iterable[str], candidates: Iterable[Found]) -> Found:
    """The candidate that knows most of these keys; the earlier one of equals.

    Raises ConversionError when none knows any.
    """
    keys, candidates = list(keys), list(candidates)

    def known(found: Found) -> int:
        stripped = [strip(key, found.source) for key in keys]
        return apply.matched(stripped, found.source.entries)

    best = max(candidates, key=known)
    if known(best) == 0:
        raise ConversionError(
            f"none of the keys is known to {', '.join(f.arch for f in candidates)}; the checkpoint "
            f"has {', '.join(keys[:10])}{', …' if len(keys) > 10 else ''}"
        )
    return best


def find_hf(config: Mapping[str, Any], keys: Iterable[str], where: str) -> Found:
    """The source that a Hugging Face config.json names by model_type and architectures; of several the
    one that knows most of the keys.

    Raises ConversionError with the known ones.
    """
    with_type = [f for f in all_sources() if f.source.model_type is not None]
    same_type = [f for f in with_type if f.source.model_type == config.get("model_type")]
    if not same_type:
        known = sorted({f.source.model_type for f in with_type})
        raise ConversionError(
            f"{where}: model_type {config.get('model_type')!r} is not known; "
            f"known: {', '.join(known)}"
        )
    named = config.get("architectures") or []
    exact = [f for f in same_type if set(named) & set(f.source.architectures)]
    if named and not exact:
        known = ", ".join(name for f in same_type for name in f.source.architectures)
        raise ConversionError(
            f"{where}: architecture {', '.join(named)} is not known; known: {known}"
        )
    return exact[0] if len(exact) == 1 else detect(keys, exact or same_type)


def strip(key: str, source: Source) -> str:
    """The key without what wrappers put before it, any number of times, and within it."""
    for wrapper in WRAPPED_WITHIN:
        key = key.replace(wrapper, "")
    short = key
    while found := next((p for p in source.prefixes if short.startswith(p)), None):
        short = short.removeprefix(found)
    whole = source.begin + short
    return whole if key.endswith(whole) else short


def strip_all(state: Mapping[str, Any], source: Source, where: str) -> dict[str, Any]:
    """The state with all keys stripped. Raises ConversionError when two become one."""
    stripped: dict[str, Any] = {}
    for key, value in state.items():
        short = strip(key, source)
        if short in stripped:
            raise ConversionError(
                f"{where}: two keys are {short!r} without their prefixes: {key!r}"
            )
        stripped[short] = value
    return stripped
