"""Warnings that hold for a whole process, and not for each of the many times they are come upon."""

import logging

_said: set[str] = set()


def warn_once(logger: logging.Logger, text: str) -> None:
    """Logs the warning unless this process has said these very words before."""
    if text not in _said:
        _said.add(text)
        logger.warning("%s", text)
