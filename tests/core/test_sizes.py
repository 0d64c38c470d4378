import pytest

from jaxvid.core import sizes


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (83_400, "83 kB"),
        (1_449_000, "1.4 MB"),
        (12_345_000_000, "12.3 GB"),
        (2.1e12, "2.1 TB"),
    ],
)
def test_in_words(count, words):
    assert sizes.in_words(count) == words
