import sys
import types

import grain
import pytest

from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, UnknownNameError
from jaxvid.data.transform_list import build_transforms
from jaxvid.data.transforms.centre_crop import CentreCrop
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop


def test_specs_become_transforms_in_order():
    specs = (
        {"name": "random_resized_crop", "size": 32, "scale": (0.5, 1.0)},
        {"name": "centre_crop", "size": 24},
    )
    built = build_transforms(specs)
    assert built == (RandomResizedCrop(32, scale=(0.5, 1.0)), CentreCrop(24))
    assert specs[1] == {"name": "centre_crop", "size": 24}  # left as it was
    assert build_transforms([]) == ()


OPTIONS = {  # of those that do not make clips of a size
    "box_crop": {"margin": 0.5},
    "rand_augment": {"policy": "rand-m9-n2"},
    "repeat_views": {"times": 3},
}


@pytest.mark.parametrize("name", lookup.names("transform"))
def test_every_transform_can_be_built_by_name(name):
    options = OPTIONS.get(name, {"size": 16})
    (transform,) = build_transforms([{"name": name, **options}])
    assert isinstance(transform, grain.transforms.Map | grain.transforms.RandomMap)
    assert {option: getattr(transform, option) for option in options} == options
    assert hash(transform)


def test_the_options_of_a_transform_are_checked_by_name():
    with pytest.raises(UnknownNameError, match="unknown transform 'center_crop'.*'centre_crop'"):
        build_transforms([{"name": "center_crop", "size": 24}])
    with pytest.raises(
        ConfigError, match="'centre_crop' has no option 'sise'.*'size'.*Known: size"
    ):
        build_transforms([{"name": "centre_crop", "sise": 24}])
    with pytest.raises(ConfigError, match="transform 'centre_crop' needs 'size'"):
        build_transforms([{"name": "centre_crop"}])
    with pytest.raises(ConfigError, match="CentreCrop: size is 0"):
        build_transforms([{"name": "centre_crop", "size": 0}])


@pytest.mark.parametrize("spec", ["centre_crop", {"size": 24}, {"name": 3}, ("centre_crop", 24)])
def test_a_spec_is_a_dict_with_a_name(spec):
    with pytest.raises(ConfigError, match='transform number 1 of the list is .*"centre_crop"'):
        build_transforms([{"name": "centre_crop", "size": 24}, spec])


def test_a_dotted_name_is_a_users_own_module(monkeypatch):
    class Brighten(grain.transforms.Map):
        def map(self, clip):
            return clip

    mine = types.ModuleType("my_transforms.brighten")
    monkeypatch.setitem(sys.modules, "my_transforms", types.ModuleType("my_transforms"))
    monkeypatch.setitem(sys.modules, "my_transforms.brighten", mine)
    spec = {"name": "my_transforms.brighten"}
    with pytest.raises(ConfigError, match="module my_transforms.brighten has no 'build'"):
        build_transforms([spec])
    mine.build = lambda **options: options
    with pytest.raises(ConfigError, match="builds a dict, expected a grain.transforms.Map"):
        build_transforms([spec])
    mine.build = lambda **options: Brighten()
    assert isinstance(build_transforms([{**spec, "whatever": 1}])[0], Brighten)
