"""Every file of configs/ resolves, and builds a model that takes the clips it asks for."""

from pathlib import Path

import jax
import pytest

from jaxvid import build, build_data, config
from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(file.name for file in CONFIGS.glob("*.py"))
FIELDS = {n: lookup.module("model", n).MODULE.__dataclass_fields__ for n in lookup.names("model")}
CLASSIFIERS = {name for name, known in FIELDS.items() if {"num_classes", "class_texts"} & {*known}}
CLASSIFIERS -= {"feature_head"}  # sees no clips
WITH_TEST = [name for name in RECIPES if name != "quickstart.py"]


def of_the_set(c):
    """What the task takes from the data, for sets that are not two classes of videos."""
    names = tuple(name for pair in c.data.flip_swaps for name in pair) or ("a", "b")
    kind = lookup.module("objective", c.objective.name).TASK
    heads = {"verb": 97, "noun": 300} if kind == "multihead" else {}
    size = 8 if build_data.sees_features(c) else 0
    classes = sum(heads.values()) or len(names)
    return {"num_classes": classes, "class_names": names, "heads": heads, "feature_size": size}


def shapes(recipe):
    c = config.load(str(CONFIGS / recipe))
    return jax.eval_shape(build.task(c, **of_the_set(c)).init, jax.random.key(0))["params"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_its_model(name):
    assert shapes(name)


@pytest.mark.parametrize("name", WITH_TEST)
def test_its_test_variant_is_small(name):
    count = sum(x.size for x in jax.tree.leaves(shapes(f"{name}:test")))
    assert count < 1e6


def test_every_classifier_has_a_recipe_for_the_fights():
    # `resnet` and `vit` are what the models of frames and of clips start from.
    assert {f"{name}_rwf.py" for name in CLASSIFIERS - {"resnet", "vit"}} <= set(RECIPES)


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_the_quickstart_trains_every_classifier(name):
    assert shapes(f"quickstart.py:{name}")


def test_models_that_pad_take_any_size():
    for name, fits in (("video_swin", True), ("vivit", False)):
        odd = ["data.size=50", "data.num_frames=15"]
        c = config.load(f"{CONFIGS / 'quickstart.py'}:{name}", odd)
        if fits:
            assert jax.eval_shape(build.task(c, num_classes=2).init, jax.random.key(0))
        else:
            with pytest.raises(ConfigError, match="must be multiples of the model's tubelet"):
                build.task(c, num_classes=2)


def test_a_pretraining_model_has_no_classes():
    c = config.load(f"{CONFIGS / 'videomae_pretrain_rwf.py'}:test", ["objective.name=classify"])
    with pytest.raises(
        ConfigError, match="'videomae_pretrain' fills in .* objective.name='classify'"
    ):
        build.task(c, num_classes=2)
