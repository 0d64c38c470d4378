import pytest

from jaxvid.compile.search import largest


@pytest.mark.parametrize("true", [0, 1, 2, 3, 7, 8, 9, 63, 100])
@pytest.mark.parametrize("start", [1, 4, 64, 500])
def test_the_largest_is_found_and_nothing_tried_twice(true, start):
    tried = []

    def fits(n):
        tried.append(n)
        return n <= true

    assert largest(fits, start, 100) == true
    assert len(tried) == len(set(tried)) and 1 <= min(tried) and max(tried) <= 100


def test_few_tries():
    tried = []
    assert largest(lambda n: tried.append(n) or n <= 37, 4, 4096) == 37
    assert len(tried) <= 10
