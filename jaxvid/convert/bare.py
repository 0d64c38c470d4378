"""Hugging Face's models without a head (ViTModel, VideoMAEModel, …), which start a classifier."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvid.convert.rules import Entry, Rule, Waive
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.source import Source

NO_HEAD = {"head/{leaf:.+}": "a model without a head has no classes"}
_POOLER = Waive("pooler.{rest:.+}", "a layer on the class token that a classifier has not")


def bare(whole: Source, architecture: str, fresh: Mapping[str, str] = NO_HEAD) -> Source:
    """The source of folders of `architecture`, of which `whole` is the classifier.

    Their keys lack what stands before the encoder's in the classifier ("vit."), and they bring no
    classes. fresh: path pattern -> why, of what the classifier has besides.
    """
    prefix = f"{whole.model_type}."

    def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x for name, x in whole.arguments(config).items() if name != "num_classes"}

    made = dataclasses.replace(
        whole,
        entries=_without(whole.entries, prefix),
        arguments=arguments,
        config=None,
        prepare_save=None,
        fresh=fresh,
        architectures=(architecture,),
        processor=None,
    )
    if not isinstance(whole, ShapedSource) or whole.rules is None:
        return made
    return dataclasses.replace(made, rules=lambda config: _without(whole.rules(config), prefix))


def _without(entries: Sequence[Entry], prefix: str) -> tuple[Entry, ...]:
    """The entries of keys that begin with the prefix, without it."""
    made: list[Entry] = []
    for entry in entries:
        keys = entry.keys if isinstance(entry, Rule) else (entry.key,)
        if not all(key.startswith(prefix) for key in keys):
            continue
        short = tuple(key.removeprefix(prefix) for key in keys)
        name = {"keys": short} if isinstance(entry, Rule) else {"key": short[0]}
        made.append(dataclasses.replace(entry, **name))
    return (*made, _POOLER)
