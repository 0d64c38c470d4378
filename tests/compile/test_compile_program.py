import jax
import jax.numpy as jnp
import pytest

from jaxvid.compile import program
from jaxvid.compile.program import TooLarge, compile_program, memory_limit, too_large
from jaxvid.sharding.mesh import batch_sharding, make_mesh, replicated


def test_a_product_on_eight_devices():
    mesh = make_mesh()
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=batch_sharding(mesh))
    w = jax.ShapeDtypeStruct((32, 16), jnp.float32, sharding=replicated(mesh))
    found = compile_program(jax.jit(lambda x, w: jnp.sum(x @ w)).trace(x, w), 8)
    assert found.arguments == (8 * 32 + 32 * 16) * 4
    assert found.outputs == 4
    assert found.touched_bytes >= (8 * 32 + 32 * 16) * 4
    assert found.collectives["all-reduce"].bytes == 2 * 4 * 7 / 8
    assert found.memory == found.arguments + found.outputs + found.temporaries + found.code
    assert found.seconds > 0


def test_what_a_loop_touches_counts_each_time():
    def touched(length):
        def squared(x):
            return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=length)[0]

        traced = jax.jit(squared).trace(jax.ShapeDtypeStruct((64, 64), jnp.float32))
        return compile_program(traced, 1).touched_bytes

    assert touched(40) > 8 * touched(4)


@pytest.mark.parametrize(
    "message, memory, limit",
    [
        (
            "RESOURCE_EXHAUSTED: HLO temporaries (73.78G) exceeds available HBM (15.75G).",
            int(73.78 * 2**30),
            int(15.75 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 900.5M of 512.00M hbm.",
            int(900.5 * 2**20),
            512 * 2**20,
        ),
        ("RESOURCE_EXHAUSTED: something else", None, None),
    ],
)
def test_the_compilers_words_for_too_large(message, memory, limit):
    assert too_large(message) == TooLarge(memory, limit, message)


class Refusing:
    def __init__(self, message):
        self.message = message

    def lower(self, lowering_platforms):
        raise jax.errors.JaxRuntimeError(self.message)


def test_what_is_too_large_is_told_from_what_is_broken():
    assert compile_program(Refusing("RESOURCE_EXHAUSTED: no"), 8).memory is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compile_program(Refusing("INTERNAL: no"), 8)


def test_cpus_share_the_machines_memory(monkeypatch):
    monkeypatch.setattr(program.os, "sysconf", {"SC_PAGE_SIZE": 8, "SC_PHYS_PAGES": 100}.get)
    assert memory_limit() == 100
