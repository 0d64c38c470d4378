"""The locked tree, recipes, overrides: everything wrong is said before any data is read."""

import logging
import textwrap

import pytest

from jaxvid import config
from jaxvid.cli import config as show
from jaxvid.core.errors import ConfigError

GOOD = """
from jaxvid.config import default

def get_config(arg=""):
    c = default()
    c.data.dataset = "folder"
    c.model.name, c.model.variant = "videomae", "test"
    c.data.num_frames = int(arg or 4)
    {extra}
    return c
"""


@pytest.fixture
def recipe(tmp_path):
    def write(extra="", text=GOOD):
        path = tmp_path / "recipe.py"
        path.write_text(textwrap.dedent(text).format(extra=extra))
        return str(path)

    return write


def test_a_good_recipe_with_argument_and_overrides(recipe):
    c = config.load(
        recipe() + ":8", ["optim.learning_rate=3e-4", "data.root=/a b/c", "run.steps=7"]
    )
    assert (c.data.num_frames, c.optim.learning_rate, c.run.steps) == (8, 3e-4, 7)
    assert c.data.root == "/a b/c"
    assert config.load(recipe(), ["optim.learning_rate=1"]).optim.learning_rate == 1.0


@pytest.mark.parametrize(
    "extra, words",
    [
        ("c.optim.learning_rat = 1.0", "learning_rate"),
        ("c.data.batch_size = '8'", "type"),
        ("c.run.profile_steps = (10,)", "run.profile_steps is (10,), expected two whole"),
        ("c.run.profile_steps = (10, -1)", "the first step and how many, such as"),
        ("c.run.profile_steps = (0, 3)", "and steps are counted from 1: (10, 3) are the steps 10"),
        ("c.opt = 1", "opt"),
        ("c.data.decoder = 'pyavv'", "Did you mean 'pyav'"),
        ("c.model.variant = 'Q'", "no variant 'Q'"),
        ("c.model.name = 'videmae'", "unknown model 'videmae'. Did you mean 'videomae'"),
        ("c.data.dataset = 'rwf200'", "unknown dataset 'rwf200'. Did you mean 'rwf2000'"),
        ("c.objective.name = 'classfy'", "unknown objective 'classfy'. Did you mean 'classify'"),
        ("c.model.overrides.drop_path_rat = 0.1", "Did you mean 'drop_path_rate'"),
        ("c.data.options.max_mising = 0.1", "Did you mean 'max_missing'"),
        (
            "c.data.train_transforms = (dict(name='random_resized_crp', size=8),)",
            "Did you mean 'random_resized_crop'",
        ),
        (
            "c.data.train_transforms = (dict(name='random_resized_crop', sise=8),)",
            "no option 'sise'. Did you mean 'size'",
        ),
        ("c.data.flip_probability = 2.0", "data.flip_probability is 2.0, expected 0 to 1"),
        ("c.data.colour_jitter = (0.1, 0.1)", "expected four numbers"),
        ("c.unlock(); c.optim = __import__('ml_collections').ConfigDict()", "section was replaced"),
        ("c.optim = 3", "optim"),
        ("c.unlock(); c.optim.momentun = 3.0", "unknown field optim.momentun. Did you mean"),
        ("return 5", "the config was replaced by int"),
        ("c.optim.frozen = ('back(',)", "optim.frozen: 'back(' is no regular expression"),
        (
            "c.eval.precise_bn_batches = 3",
            "model 'videomae' has no batch normalisation: set it to 0",
        ),
        ("c.optim.frozen = (1,)", "optim.frozen: 1 is no regular expression, expected a string"),
        ("c.optim.rate_factors = ('head', 10)", "optim.rate_factors has 'head', expected pairs"),
        ("c.optim.ema_decay = 1.0", "optim.ema_decay is 1.0, expected 0 or more and less than 1"),
        (
            "c.objective.label_smoothing = 1.0",
            "objective.label_smoothing is 1.0, expected 0 or more and less",
        ),
        ("c.eval.early_stop_patience = -1", "eval.early_stop_patience is -1, expected 0 to"),
        ("c.run.seed = 2**40", "run.seed is 1099511627776, expected 0 to 4294967295"),
        (
            "c.eval.metric = 'loss'",
            "eval.metric='loss' is better when smaller: set eval.mode='min'",
        ),
        ("c.eval.mode = 'min'", "is better when larger: set eval.mode='max', not 'min'"),
        ("c.model.name = 'os.path'", "model.name='os.path': posixpath has no VARIANTS"),
        ("c.data.flow = 'tv1'", "unknown data.flow 'tv1'. Did you mean 'tvl1'"),
        ("c.data.flow = 'dis'", "data.flow='dis', and model 'videomae' sees no flow"),
        (
            "c.model.name = 'two_stream'",
            "'two_stream' sees optical flow: set data.flow to 'tvl1",
        ),
        (
            "c.model.name, c.data.flow, c.data.num_frames = 'two_stream', 'dis', 1",
            "a clip has 1: set data.num_frames to 2 or more",
        ),
        (
            "c.model.name, c.data.flow = 'two_stream', 'stored'",
            "data.flow='stored' is read from a store: make one with jaxvid data prepare --flow",
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_with_the_nearest_name(recipe, extra, words):
    with pytest.raises(ConfigError) as error:
        config.load(recipe(extra))
    assert words in str(error.value)


@pytest.mark.parametrize("field", ["crops", "final_crops"])
def test_mirrored_views_where_classes_have_sides(recipe, field, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxvid"), "propagate", True)
    swaps = f"c.data.flip_swaps = (('left', 'right'),); c.eval.{field} = "
    with pytest.raises(ConfigError) as error:
        config.load(recipe(swaps + "10"))
    assert f"eval.{field}=10 looks at mirrored views too, and data.flip_swaps says" in str(
        error.value
    )
    assert f"would be averaged with the other class's; set eval.{field}=3" in str(error.value)
    config.load(recipe(swaps + "3"))
    config.load(recipe(f"c.eval.{field} = 10"))
    assert not caplog.records
    for _ in range(2):
        config.load(recipe(f"c.data.flip_probability = 0.0; c.eval.{field} = 10"))
    (said,) = caplog.messages
    assert f"eval.{field}=10 looks at mirrored views too, and data.flip_probability is 0" in said
    assert f"or text is read, set eval.{field}=3" in said


def test_several_mistakes_are_listed_at_once(recipe):
    with pytest.raises(ConfigError) as error:
        config.load(recipe("c.data.decoder = 'x'; c.data.sampling = 'y'; c.eval.crops = 2"))
    assert all(word in str(error.value) for word in ("data.decoder", "data.sampling", "eval.crops"))


@pytest.mark.parametrize(
    "override, words",
    [
        (
            "optim.learning_rat=1",
            "--config.optim.learning_rat: there is no 'learning_rat'. Did you",
        ),
        ("optin.learning_rate=1", "there is no 'optin'. Did you mean 'optim'"),
        ("run.steps=many", "expected int such as 0"),
        ("run.tensorboard=3", "expected bool"),
        ("optim=3", "--config.optim is a section; assign one of"),
        ("run.seed.x=3", "there is no 'x'"),
    ],
)
def test_a_wrong_override(recipe, override, words):
    with pytest.raises(ConfigError) as error:
        config.load(recipe(), [override])
    assert words in str(error.value)


def test_open_sections_take_new_names_that_exist(recipe):
    c = config.load(recipe(), ["model.overrides.drop_path_rate=0.1", "run.tensorboard=false"])
    assert c.model.overrides.drop_path_rate == 0.1 and c.run.tensorboard is False


def test_a_recipe_without_its_folder(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "videomae_rwf.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'configs/videomae_rwf.py'"):
        config.load("videomae_rwf.py")


def test_files_that_are_no_recipes(recipe, tmp_path):
    with pytest.raises(ConfigError, match="there is no such file.*Did you mean"):
        recipe()
        config.load(str(tmp_path / "recipee.py"))
    with pytest.raises(ConfigError, match="does not"):
        config.load(recipe(text="x = 1"))
    with pytest.raises(ConfigError, match="takes no argument, got '8'"):
        config.load(recipe(text=GOOD.replace('arg=""', "").replace("arg or ", "")) + ":8")


def test_difference_names_the_leaves():
    old, new = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}
    assert config.difference(old, new) == ["a.c: 2 -> 3", "d: '(absent)' -> 4"]


def test_a_field_that_an_older_version_did_not_have_has_its_default():
    new = config.plain(config.default())
    old = {k: dict(v) for k, v in new.items()}
    del old["data"]["jitter_frames"]
    assert config.difference(old, new) == []
    new["data"]["jitter_frames"] = 2
    assert config.difference(old, new) == ["data.jitter_frames: 0 -> 2"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("('head/',)", "expected pairs of a regular expression"),
        ("('(', 2.0)", "no regular expression"),
    ],
)
def test_a_wrong_rate_factor_is_named(recipe, pair, message):
    with pytest.raises(ConfigError, match=f"optim.rate_factors.*{message}"):
        config.load(recipe(), [f"optim.rate_factors=({pair},)"])


def test_jaxvid_config_prints_it(recipe, capsys):
    assert show.run([recipe(), "--config.run.steps=7"]) == 0
    assert "steps                    7" in capsys.readouterr().out
    assert show.run([recipe(), "run.stepz=7"]) == 1
    assert "Did you mean 'steps'" in capsys.readouterr().err
