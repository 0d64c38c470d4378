"""When a device's memory is full: how that is known, and what helps."""

# What jaxlib raises; by name, as files that must not wait for jax import this.
_OF_DEVICES = ("JaxRuntimeError", "XlaRuntimeError")


def is_full(error: BaseException) -> bool:
    """Whether a device, or a compiler for it, found no room."""
    return type(error).__name__ in _OF_DEVICES and "RESOURCE_EXHAUSTED" in str(error)


def what_is_full(error: BaseException) -> str:
    """Its first line, without the code: later ones list buffers."""
    line = str(error).strip().partition("\n")[0]
    return line.partition("RESOURCE_EXHAUSTED:")[2].strip().rstrip(".") or line


def what_helps(on_cpu: bool) -> str:
    """Of a training step, as the end of a sentence."""
    # XLA's CPU backend computes again in loops only.
    again = "model.overrides.remat=True" + (" with scan_layers=True" if on_cpu else "")
    return (
        "A smaller data.batch_size, more devices, optim.accumulate_steps, mesh.fsdp or, in models that "
        f"have it, {again} helps"
    )
