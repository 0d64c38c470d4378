import logging

from jaxvid.core.warn_once import warn_once


def test_the_same_words_are_said_once(caplog):
    logger = logging.getLogger("jaxvid.data")
    with caplog.at_level("WARNING"):
        for text in ("first words", "other words", "first words"):
            warn_once(logger, text)
    assert [r.getMessage() for r in caplog.records] == ["first words", "other words"]
