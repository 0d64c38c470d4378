"""The operations on a batch sharded over devices: the same numbers, and no video gathered.

Runs in a process of its own, because the number of CPU devices is fixed when jax starts.
"""

import os
import re
import subprocess
import sys

import pytest

SCRIPT = """
import functools
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxvid.ops import colour, erase, flip, labels, mix, pixels, views

def prepare(rng, video, label, mask):
    keys = jax.random.split(rng, 5)
    n_views = video.shape[1]
    x = views.fold(pixels.to_float(video))
    x = flip.flip_video(x, flip.flip_decisions(keys[0], x.shape[0]))
    x = colour.colour_jitter(keys[1], x, brightness=.4, contrast=.4, saturation=.4, hue=.1)
    x = colour.greyscale(keys[2], x)
    x = pixels.normalise(x, "imagenet")
    x = erase.random_erasing(keys[3], x, probability=0.5)
    targets = views.repeat(labels.one_hot_targets(label, 5, 0.1), n_views)
    weights = views.repeat(mask, n_views)
    return mixing(keys[4], x, targets, weights)

rng = np.random.default_rng(0)
video = rng.integers(0, 256, (8, 2, 3, 16, 16, 3), dtype=np.uint8)
label = rng.integers(0, 5, (8, 1)).astype(np.int32)
mask = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
mesh = Mesh(np.array(jax.devices()), ("data",))
rows = NamedSharding(mesh, P("data"))
put = [jax.device_put(x, rows) for x in (video, label, mask)]
for name in ("alone", "mixed"):
    mixing = (lambda rng, x, t, w: (x, t)) if name == "alone" else mix.mixup_or_cutmix
    function = functools.partial(lambda f, *args: f(*args), prepare)
    sharded = jax.jit(function, out_shardings=rows).lower(jax.random.key(0), *put).compile()
    print("HLO", name)
    print(sharded.as_text())
    print("END")
    one = jax.jit(function)(jax.random.key(0), video, label, mask)
    for a, b in zip(sharded(jax.random.key(0), *put), one):
        assert len(a.sharding.device_set) == 4
        np.testing.assert_allclose(a, b, atol=1e-5)
"""

# A clip here has 3·16·16·3 = 2304 numbers; whatever moves fewer is about labels and decisions.
CLIP = 3 * 16 * 16 * 3


@pytest.fixture(scope="module")
def programs():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=False,
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(re.findall(r"HLO (\w+)\n(.*?)\nEND", done.stdout, flags=re.DOTALL))


def moved(program: str) -> dict[str, int]:
    """{collective: the largest number of values that one of them moves}"""
    pattern = r"= \(?\w+\[([\d,]*)\][^=\n]*? (all-gather|all-reduce|all-to-all|collective-permute)"
    largest: dict[str, int] = {}
    for shape, name in re.findall(pattern, program):
        size = 1
        for n in filter(None, shape.split(",")):
            size *= int(n)
        largest[name] = max(size, largest.get(name, 0))
    return largest


@pytest.mark.slow
def test_no_clip_leaves_its_device_without_mixing(programs):
    assert all(size < CLIP for size in moved(programs["alone"]).values()), moved(programs["alone"])


@pytest.mark.slow
def test_mixing_only_exchanges_partners(programs):
    sizes = moved(programs["mixed"])
    assert sizes.pop("collective-permute") == 4 * CLIP  # a device's own 4 clips against another's 4
    assert all(size < CLIP for size in sizes.values()), sizes
