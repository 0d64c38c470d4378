"""What compiling has cost this process so far, and how much of it the persistent cache has spared."""

import dataclasses
import functools
from typing import Self

import jax

_COMPILED = (
    "/jax/core/compile/backend_compile_duration"  # also of programs that come from the cache
)
_FROM_CACHE = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Compilation:
    """programs: compiled or read from the cache; seconds: of both; from_cache: of those programs."""

    programs: int = 0
    from_cache: int = 0
    seconds: float = 0.0

    def copy(self) -> Self:
        """What it is now."""
        return dataclasses.replace(self)

    def since(self, before: Self) -> Self:
        """What has been added to an earlier copy."""
        return type(self)(
            self.programs - before.programs,
            self.from_cache - before.from_cache,
            self.seconds - before.seconds,
        )

    def words(self) -> str:
        """For the log."""
        return (
            f"{self.seconds:.1f} s of it compiling: {self.programs - self.from_cache} programs compiled, "
            f"{self.from_cache} read from the cache"
        )


@functools.cache
def watch() -> Compilation:
    """Of this process, from the first call on; it goes on counting."""
    counts = Compilation()

    def on_event(name: str, **_) -> None:
        counts.from_cache += name == _FROM_CACHE

    def on_duration(name: str, seconds: float, **_) -> None:
        if name == _COMPILED:
            counts.programs += 1
            counts.seconds += seconds

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    return counts
