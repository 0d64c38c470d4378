"""A model's variables as a reference has them: its keys, its config."""

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import apply, hf_folder, source
from jaxvid.convert.shaped_source import rules_for
from jaxvid.core.errors import ConfigError, ConversionError

log = logging.getLogger("jaxvid")


@dataclasses.dataclass(frozen=True)
class Written:
    """state: key -> array. arguments: of the model these weights are of, which may be a simpler equal
    of the one given. config: of the reference, None for jaxvid's own keys."""

    state: Mapping[str, Any]
    arguments: Mapping[str, Any]
    config: Mapping[str, Any] | None


def to_state(
    model: str,
    arguments: Mapping[str, Any],
    variables: Mapping[str, Any],
    arch: str,
    clip: source.Clip,
) -> Written:
    """The model's flat variables {path: array} under the keys of `arch`.

    Raises ConversionError when `arch` is of another model or cannot express this one; says in the
    log where it can but for an epsilon.
    """
    if arch == source.NATIVE:
        return Written(apply.save(variables, source.NATIVE_ENTRIES), arguments, None)
    found = source.find(arch)
    if found.model != model:
        known = ", ".join(f.arch for f in source.all_sources() if f.model == model) or "none"
        raise ConversionError(f"{arch} is of model {found.model!r}, not {model!r}; of it: {known}")
    variables, arguments = dict(variables), dict(arguments)
    if found.source.prepare_save is not None:
        variables, arguments = found.source.prepare_save(variables, arguments)
    config = None
    if found.source.config is not None:
        config = found.source.config(arguments, clip)
        _check_expressed(arguments, found.source.arguments(config), arch)
    entries = rules_for(found.source, config)
    return Written(apply.save(variables, entries, arch), arguments, config)


def hf_config(written: Written, arch: str, info: Mapping[str, Any]) -> dict[str, Any] | None:
    """config.json of a Hugging Face folder; None for what Hugging Face has not.

    info: of `from_pretrained`, or {}. What the config.json of a checkpoint of the same `arch` said and
    the model has no field for, such as norm_pix_loss, is said again. Raises ConfigError when there are
    more or fewer class names than classes.
    """
    found = None if arch == source.NATIVE else source.find(arch).source
    if found is None or found.model_type is None or written.config is None:
        return None
    config = dict(written.config)
    labels = config.pop("num_labels", None)
    if labels is not None:
        names = list(info.get("class_names") or [f"LABEL_{i}" for i in range(labels)])
        if len(names) != labels:
            raise ConfigError(f"info has {len(names)} class_names, the model {labels} classes")
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    if (info.get("task") or {}).get("kind") == "multilabel":
        config["problem_type"] = hf_folder.SEVERAL_LABELS
    head = {"architectures": [found.architectures[0]], "model_type": found.model_type}
    same = (info.get("source") or {}).get("arch") == arch
    before = (info.get("config") or {}) if same else {}
    kept = {name: x for name, x in before.items() if name not in {*config, *head, *_OF_A_FILE}}
    return {**kept, **head, "torch_dtype": "float32", **config}


# Of config.json: what is said of its own weights and classes alone.
_OF_A_FILE = ("id2label", "label2id", "num_labels", "problem_type", "dtype", "transformers_version")
_OF_A_FILE += ("_name_or_path", "quantization_config", "auto_map")
_OF_A_FILE += ("text_config_dict", "vision_config_dict")  # count before those that are written


def _check_expressed(ours: Mapping, theirs: Mapping, arch: str) -> None:
    """What the reference would build from the config that is written, against what is meant."""
    both = {n: (ours[n], theirs[n]) for n in theirs if n in ours}
    wrong = {n: pair for n, pair in both.items() if not _same(*pair)}
    hard = {n: pair for n, pair in wrong.items() if not n.endswith("_eps")}
    if hard:
        lines = "".join(f"\n    {n}: {a!r} here, {b!r} there" for n, (a, b) in hard.items())
        raise ConversionError(f"{arch} cannot express this model:{lines}")
    for field, (here, there) in wrong.items():
        log.warning(
            "%s: %s is %g here, always %g there: outputs differ by about as much as rounding",
            arch,
            field,
            here,
            there,
        )


def _same(here: Any, there: Any) -> bool:
    numbers = isinstance(here, int | float) and isinstance(there, int | float)
    return math.isclose(here, there) if numbers else here == there
