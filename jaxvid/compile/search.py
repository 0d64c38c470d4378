"""The largest number that still fits, in few tries."""

from collections.abc import Callable


def largest(fits: Callable[[int], bool], start: int, limit: int) -> int:
    """The largest n of 1 … limit with fits(n), or 0: doubling from `start`, then halving the rest.

    Where n fits, every smaller one is taken to fit too. Each n is tried once at most.
    """
    low, high = 0, limit + 1  # low fits, high does not
    guess = min(max(start, 1), limit)
    while high - low > 1:
        if fits(guess):
            low = guess
        else:
            high = guess
        # Until something did not fit there is no upper end to halve the distance to.
        guess = min(2 * low, limit) if high > limit else (low + high) // 2
    return low
