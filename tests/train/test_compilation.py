import jax
import jax.numpy as jnp

from jaxvid.train.compilation import Compilation, watch


def test_programs_that_are_compiled_are_counted_once():
    before = watch().copy()
    compiled = jax.jit(lambda x: jnp.sin(x) * 1234.5)
    x = jnp.ones(7)
    before = watch().copy()
    compiled(x), compiled(x)
    added = watch().since(before)
    assert (added.programs, added.from_cache) == (1, 0) and added.seconds > 0


def test_what_came_from_the_cache_is_told(tmp_path):
    keep = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_enable_compilation_cache": True,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in keep}
    from jax.experimental.compilation_cache import compilation_cache

    try:
        for name, value in keep.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        x, found = jnp.ones(9), []
        for _ in range(2):
            counts = watch().copy()
            jax.jit(lambda x: jnp.cos(x) * 5432.1)(x)
            found.append(watch().since(counts))
            jax.clear_caches()
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert [(f.programs, f.from_cache) for f in found] == [(1, 0), (1, 1)]


def test_in_words():
    words = Compilation(programs=5, from_cache=2, seconds=31.04).words()
    assert words == "31.0 s of it compiling: 3 programs compiled, 2 read from the cache"
