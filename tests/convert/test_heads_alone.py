"""Files of unpublished widths, of which the config says no more than what weights do not tell."""

import jax
import numpy as np
import pytest

from jaxvid import model_tree, pretrained, saving
from jaxvid.core.errors import ConfigError

CASES = [
    ("videomae", "videomae/finetune", {"num_heads": 4}),
    ("videomae_pretrain", "videomae/pretrain", {"num_heads": 4, "decoder_num_heads": 2}),
    ("timesformer", "timesformer/timesformer", {"num_heads": 4}),
    ("vit", "timm/vit", {"num_attention_heads": 4}),
]


@pytest.mark.parametrize(("name", "arch", "heads"), CASES, ids=str)
def test_the_number_of_heads_is_all_that_must_be_said(name, arch, heads):
    own = {"decoder_num_heads": 2} if name == "videomae_pretrain" else {"num_classes": 3}
    model = pretrained.create_model(name, variant="test", num_heads=4, **own)
    clip = (1 if name == "vit" else 16, 32, 32, 3)
    shapes = model_tree.variable_shapes(model, clip)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), shapes)
    state = saving.to_state_dict(model, variables, arch=arch, clip=clip)
    with pytest.raises(ConfigError, match="do not tell the number of heads: give config="):
        pretrained.from_state_dict(state, arch=arch)
    again, back, _ = pretrained.from_state_dict(state, arch=arch, config=heads)
    assert again.num_heads == model.num_heads and again.width == model.width
    assert getattr(again, "decoder_num_heads", 2) == 2
    jax.tree.map(np.testing.assert_array_equal, back, variables)
