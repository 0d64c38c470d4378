"""What these tests compile runs once or twice: quickly made is better than quick."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
