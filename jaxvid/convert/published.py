"""Weights without a config: they tell widths and depths, but no strides."""

from jaxvid.core.errors import ConversionError


def refuse_unpublished(arch: str, found: object, published: object, words: str) -> None:
    """Raises ConversionError unless what the shapes tell is one of the published models.

    found: what the shapes tell. published: all that it may be. words: those of the config that say
    what weights do not.
    """
    if found not in published:
        raise ConversionError(
            f"{arch}: weights do not tell {words}, and these, with {_said(found)}, are of no published "
            f"model ({'; '.join(map(_said, published))}): give config={{…}} with the reference's "
            f"arguments, {words} among them"
        )


def _said(fields: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in dict(fields).items())
