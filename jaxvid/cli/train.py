"""train or evaluate a recipe: the same as `python -m jaxvid.main`"""

from collections.abc import Sequence

from jaxvid.main import main


def run(argv: Sequence[str]) -> int:
    """See jaxvid/main.py."""
    return main(argv)
