"""A SlowFast checkpoint starts what sees in AVSlowFast; what hears and the head stay fresh."""

import jax
import numpy as np
import pytest

import jaxvid
from jaxvid import model_tree, saving
from jaxvid.convert import source
from jaxvid.core.errors import ConversionError

ARCH = "pytorchvideo/slowfast_r50"
CLIP = (32, 64, 64, 3)


@pytest.fixture(scope="module")
def checkpoint():
    """(SlowFast's variables, its weights under PyTorchVideo's keys, the config)"""
    fields = {"width": 16, "stage_sizes": (1, 1, 1, 1), "head_pools": None}
    model = jaxvid.create_model("slowfast", variant="R50_8x8", num_classes=5, **fields)
    rng = np.random.default_rng(0)
    shapes = model_tree.variable_shapes(model, CLIP)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=ARCH, clip=CLIP)
    arguments = {n: x for n, x in model_tree.arguments_of(model).items() if n != "head_pools"}
    return variables, state, source.find(ARCH).source.config(arguments, CLIP)


def test_what_sees_comes_from_slowfast(checkpoint):
    theirs, state, config = checkpoint
    model, variables, info = jaxvid.from_state_dict(
        state, arch="avslowfast", config=config, num_classes=7, audio_fusion_width=8
    )
    assert model_tree.model_name(model) == "avslowfast"
    assert (model.num_classes, model.width, model.alpha) == (7, 16, 4)
    assert model.head_pools == ((8, 2, 2), (32, 2, 2)) and model.drop_pathway_rate == 0.8
    for collection in ("params", "batch_stats"):
        for name, tree in theirs[collection]["backbone"].items():
            ours = variables[collection]["backbone"][name]
            jax.tree.map(np.testing.assert_array_equal, ours, tree)
    starts = ("backbone/audio", "batch_stats/backbone/audio", "head/")
    assert all(path.startswith(starts) for path in info["fresh"])
    for start in ("backbone/audio/", "backbone/audio_fusion_2/", "backbone/audio_fusion_3/"):
        assert any(path.startswith(start) for path in info["fresh"])
    aside = [key for key in info["waived"] if "num_batches" not in key]
    assert len(aside) == 2  # of the head
    params = variables["params"]
    assert params["head"]["kernel"].shape == (512 + 64 + 256, 7)
    assert params["backbone"]["audio_fusion_3"]["conv_1"]["kernel"].shape == (5, 1, 128, 8)


def test_a_difference_is_an_error_that_lists_all(checkpoint):
    _, state, config = checkpoint
    wrong = dict(state)
    missing = "blocks.2.multipathway_fusion.norm.bias"
    del wrong[missing]
    wrong["blocks.9.weight"] = np.zeros(3)
    misshaped = "blocks.0.multipathway_blocks.1.conv.weight"
    wrong[misshaped] = state[misshaped][:, :2]
    with pytest.raises(ConversionError) as error:
        jaxvid.from_state_dict(wrong, arch="avslowfast", config=config)
    said = str(error.value)
    assert "1 missing, 1 left over, 1 of another shape" in said
    assert missing in said and "blocks.9.weight (3,)" in said and misshaped in said


def test_its_own_weights_have_no_reference(checkpoint):
    model = jaxvid.create_model("avslowfast", variant="test", num_classes=5)
    with pytest.raises(
        ConversionError, match="is of model 'slowfast', not 'avslowfast'; of it: none"
    ):
        saving.to_state_dict(model, {"params": {}}, arch=ARCH)
