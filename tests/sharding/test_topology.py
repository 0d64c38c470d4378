import importlib.util

import jax
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.sharding import topology
from jaxvid.sharding.topology import absent_devices, devices_per_chip

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed (extra tpu): no slice can be made of which to compile for",
)


@pytest.mark.parametrize(
    "name", ["16x16", "v5e", "v5e-256", "v9:4x4", "v5e:4x", "v5e:0", "v4:2x2x1"]
)
def test_what_is_no_slice(name):
    with pytest.raises(ConfigError, match=f"topology='{name}' is no slice; expected the family"):
        absent_devices(name)


@pytest.mark.parametrize(
    "name, said",
    [
        ("v5e:4x4x4", "v5e have 2 axes, of 256 chips at most"),
        ("v6e:32x32", "v6e have 2 axes, of 256 chips at most"),
        ("v5p:4x4", "v5p have 3 axes; such as"),
        ("tpu7x:0x2x2", "tpu7x have 3 axes"),
    ],
)
def test_slices_of_another_shape_than_the_family_has(name, said):
    with pytest.raises(ConfigError, match=f"topology='{name}': slices of {said}"):
        absent_devices(name)


def test_without_libtpu(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs libtpu.* pip install 'jaxvid\[tpu\]'"):
        absent_devices("v5e:4x4")


@needs_libtpu
@pytest.mark.parametrize(
    "name, devices, a_chip, kind",
    [
        ("v5e:16x16", 256, 1, "TPU v5 lite"),
        ("v5e:1x1", 1, 1, "TPU v5 lite"),
        ("v5p:2x2x1", 4, 1, "TPU v5"),
        ("v6e:2x4", 8, 1, "TPU v6 lite"),
        (" V6E:2X4 ", 8, 1, "TPU v6 lite"),
        ("tpu7x:2x2x1", 8, 2, "TPU7x"),
    ],
)
def test_slices(name, devices, a_chip, kind):
    found = absent_devices(name)
    assert (len(found), devices_per_chip(found), found[0].device_kind) == (devices, a_chip, kind)
    assert jax.devices()[0].platform == "cpu"


@needs_libtpu
def test_a_slice_that_cannot_be():
    with pytest.raises(ConfigError, match=r"'v5e:3x5': libtpu makes no such slice .* even numbers"):
        absent_devices("v5e:3x5")


def test_what_the_user_has_set_stays():
    given = {"TPU_WORKER_HOSTNAMES": "mine"}
    topology._quieten(given)
    assert given["TPU_WORKER_HOSTNAMES"] == "mine" and given["TPU_SKIP_MDS_QUERY"] == "1"


def test_no_tpu_has_one_device_a_chip():
    assert devices_per_chip(jax.devices()) == 1
