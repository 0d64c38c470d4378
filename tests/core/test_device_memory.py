import jax
import jax.numpy as jnp
import pytest

from jaxvid.core.device_memory import is_full, what_helps, what_is_full


def test_more_than_there_is():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(2**46).block_until_ready()
    assert is_full(caught.value), repr(caught.value)
    assert "emory" in what_is_full(caught.value)


def test_what_is_said_of_it():
    error = jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.\nLargest buffers: …"
    )
    assert is_full(error)
    assert what_is_full(error) == "Out of memory while trying to allocate 8 bytes"
    assert not is_full(jax.errors.JaxRuntimeError("INTERNAL: no"))
    assert not is_full(ValueError("RESOURCE_EXHAUSTED: a bucket's quota"))


def test_what_helps_where():
    assert "model.overrides.remat=True with scan_layers=True" in what_helps(on_cpu=True)
    assert "scan_layers" not in what_helps(on_cpu=False)
