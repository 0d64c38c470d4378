import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvid.core.errors import ConfigError, UnknownNameError
from jaxvid.train.optim import decay_mask, layer_scales, make_optimizer
from jaxvid.train.schedule import warmup_then

PARAMS = {
    "encoder": {
        "patch_embed": {"kernel": jnp.ones((2, 4, 4, 3, 8)), "bias": jnp.ones(8)},
        "block_0": {
            "attention": {"query": {"kernel": jnp.ones((8, 2, 4)), "bias": jnp.ones((2, 4))}},
            "norm1": {"scale": jnp.ones(8)},
            "gamma_1": jnp.ones(8),
        },
        "block_1": {"mlp": {"fc1": {"kernel": jnp.ones((8, 16))}}},
    },
    "mask_token": jnp.ones((1, 1, 8)),
    "head": {"kernel": jnp.ones((8, 3)), "bias": jnp.ones(3)},
}


def test_schedule_by_hand():
    s = warmup_then("cosine", peak=1.0, total_steps=110, warmup_steps=10, end=0.1)
    at = [float(s(i)) for i in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(at, [0.0, 0.5, 1.0, 0.55, 0.1], atol=1e-6)
    assert float(warmup_then("constant", peak=0.3, total_steps=5)(4)) == pytest.approx(0.3)


def test_schedule_errors():
    with pytest.raises(ConfigError, match="warm-up of 10 steps does not fit into a run of 10"):
        warmup_then("cosine", peak=1.0, total_steps=10, warmup_steps=10)
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine'"):
        warmup_then("cosin", peak=1.0, total_steps=10)


def test_decay_skips_biases_norms_tokens_and_layer_scale():
    mask = decay_mask(PARAMS)
    assert mask["head"] == {"kernel": True, "bias": False}
    block = mask["encoder"]["block_0"]
    assert block["attention"]["query"] == {"kernel": True, "bias": False}
    state_space = {
        "A_log": jnp.ones((8, 4)),
        "D": jnp.ones(8),
        "dt_proj": {"kernel": jnp.ones((2, 8))},
    }
    assert decay_mask(state_space) == {"A_log": False, "D": False, "dt_proj": {"kernel": True}}
    assert not block["norm1"]["scale"] and not block["gamma_1"] and not mask["mask_token"]


def test_layer_scales_by_hand_in_both_layouts():
    scales = layer_scales(PARAMS, 0.5)
    assert scales["encoder"]["patch_embed"]["kernel"] == 0.125
    assert scales["encoder"]["block_0"]["gamma_1"] == 0.25
    assert scales["encoder"]["block_1"]["mlp"]["fc1"]["kernel"] == 0.5
    assert scales["head"]["kernel"] == 1.0
    stacked = {"encoder": {"blocks": {"gamma_1": jnp.ones((2, 8))}}}
    np.testing.assert_allclose(
        layer_scales(stacked, 0.5)["encoder"]["blocks"]["gamma_1"][:, 0], [0.25, 0.5]
    )
    with pytest.raises(ConfigError, match="needs a model of blocks"):
        layer_scales({"head": {"kernel": jnp.ones((2, 2))}}, 0.5)


@pytest.mark.parametrize("name", ["position_embedding", "class_token", "bottleneck_token"])
def test_tables_and_tokens_stand_below_the_blocks(name):
    encoder = {name: jnp.ones((1, 8)), **PARAMS["encoder"], "final": {"scale": jnp.ones(8)}}
    scales = layer_scales({"encoder": encoder}, 0.5)["encoder"]
    assert scales[name] == 0.125 and scales["final"]["scale"] == 1.0


def test_layers_are_counted_through_the_stages():
    ones = jnp.ones((2, 2))
    backbone = {
        "stem": {"conv": ones},
        "stage_1": {"block_0": {"conv_1": ones}, "block_1": {"conv_1": ones}},
        "stage_2": {"block_0": {"conv_1": ones}},
    }
    scales = layer_scales({"backbone": backbone, "head": {"kernel": ones}}, 0.5)
    assert scales["backbone"]["stem"]["conv"] == 0.5**4
    assert scales["backbone"]["stage_1"]["block_1"]["conv_1"] == 0.5**2
    assert scales["backbone"]["stage_2"]["block_0"]["conv_1"] == 0.5
    assert scales["head"]["kernel"] == 1.0


def test_blocks_need_nothing_around_them():
    ones = jnp.ones((2, 2))
    flat = {"stem": {"kernel": ones}, "block_0": {"fc": ones}, "block_1": {"fc": ones}}
    scales = layer_scales({**flat, "norm": {"scale": ones}}, 0.5)
    assert scales["stem"]["kernel"] == 0.5**3 and scales["block_0"]["fc"] == 0.5**2
    assert scales["block_1"]["fc"] == 0.5 and scales["norm"]["scale"] == 1.0


def test_adamw_equals_optax_times_rate():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
    grads = jax.tree.map(lambda x: jnp.sin(x) + 0.1, params)
    ours = make_optimizer("adamw", weight_decay=0.1)
    theirs = optax.adamw(0.01, weight_decay=0.1, mask={"w": True, "bias": False})
    mine, _ = ours.update(grads, ours.init(params), params)
    want, _ = theirs.update(grads, theirs.init(params), params)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(-0.01 * a, b, rtol=1e-6)


def test_optimizer_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'adamw'"):
        make_optimizer("adam")
    with pytest.raises(ConfigError, match="layer_decay=1.5"):
        make_optimizer("adamw", layer_decay=1.5)


def test_what_is_frozen_stays_under_weight_decay_too():
    tx = make_optimizer("adamw", weight_decay=0.1, frozen=("encoder/", "head/bias$"))
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    assert not any(np.any(x) for x in jax.tree.leaves(updates["encoder"]))
    assert np.all(updates["head"]["kernel"] != 0) and not np.any(updates["head"]["bias"])
    with pytest.raises(ConfigError, match="'decoder' finds no parameter; there are, for example"):
        make_optimizer("adamw", frozen=("decoder",)).init(PARAMS)


def test_factors_scale_the_rate_of_what_they_find():
    grads = jax.tree.map(jnp.ones_like, PARAMS)

    def updates(**options):
        tx = make_optimizer("sgd", weight_decay=0.1, **options)
        return tx.update(grads, tx.init(PARAMS), PARAMS)[0]

    plain = updates()
    scaled = updates(rate_factors=(("head/kernel", 10.0), ("head/", 0.5)))
    np.testing.assert_allclose(scaled["head"]["kernel"], 10 * plain["head"]["kernel"])
    np.testing.assert_allclose(scaled["head"]["bias"], 0.5 * plain["head"]["bias"])
    for a, b in zip(
        jax.tree.leaves(scaled["encoder"]), jax.tree.leaves(plain["encoder"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ConfigError, match="optim.rate_factors: 'hed/' finds no parameter"):
        updates(rate_factors=(("hed/", 10.0),))
    with pytest.raises(ConfigError, match="expected factors from 0"):
        updates(rate_factors=(("head/", -1.0),))


def test_merging_of_patches_belongs_to_the_stage_after_it():
    ones = jnp.ones((2, 2))
    stages = {f"stage_{i}": {"block_0": {"mlp": ones}} for i in (1, 2)}
    scales = layer_scales({"encoder": {**stages, "merge_1": {"reduction": ones}}}, 0.5)["encoder"]
    assert scales["merge_1"]["reduction"] == scales["stage_2"]["block_0"]["mlp"] == 0.5


def test_weight_decay_of_sgd_passes_through_the_momentum_as_torch_has_it():
    tx, p = make_optimizer("sgd", momentum=0.9, weight_decay=0.01), {"w": jnp.ones((2, 2))}
    state, by_hand, course = tx.init(p), 1.0, 0.0
    for _ in range(50):  # torch.optim.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        updates, state = tx.update({"w": jnp.zeros((2, 2))}, state, p)
        p = jax.tree.map(lambda x, u: x - 0.1 * u, p, updates)
        course = 0.9 * course + 0.01 * by_hand
        by_hand -= 0.1 * (0.01 * by_hand + 0.9 * course)
    np.testing.assert_allclose(p["w"], by_hand, rtol=1e-5)
    assert by_hand < 0.7  # decoupled it would be 0.95


def test_what_is_frozen_has_no_part_in_the_norm_that_is_clipped():
    params = {"body": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    grads = {"body": {"kernel": jnp.full((2, 2), 1e3)}, "head": {"kernel": jnp.full((2, 2), 0.1)}}
    tx = make_optimizer("sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0, frozen=("body/",))
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], 0.1, rtol=1e-6)
    assert not np.any(updates["body"]["kernel"])


def test_each_tower_is_counted_from_its_own_top():
    ones = jnp.ones((2, 2))
    tower = {f"block_{i}": {"fc": ones} for i in range(4)}
    params = {
        "visual": {**tower, "norm_pre": ones, "norm": ones, "position_embedding": ones},
        "temporal": {"block_0": {"fc": ones}, "position_embedding": ones},
        "decoder": {"blocks": {"fc": jnp.ones((2, 2, 2))}},
        "cnn": {"stem": ones, "stage_1": {"block_0": {"conv": ones}}},
        "cls_token": ones,
    }
    scales = layer_scales(params, 0.5)
    assert scales["visual"]["block_0"]["fc"] == 0.5**4 and scales["visual"]["norm"] == 1.0
    assert scales["visual"]["norm_pre"] == scales["visual"]["position_embedding"] == 0.5**5
    assert scales["temporal"]["block_0"]["fc"] == 0.5
    assert scales["temporal"]["position_embedding"] == 0.5**2
    np.testing.assert_array_equal(scales["decoder"]["blocks"]["fc"].ravel(), [0.25, 0.5])
    assert scales["cnn"]["stem"] == 0.25 and scales["cls_token"] == 0.5**5


def test_what_joins_pathways_belongs_to_the_stage_after_it():
    ones = jnp.ones((2, 2))
    stages = {f"stage_{i}": {"block_0": {"conv": ones}} for i in (1, 2)}
    backbone = {"slow": stages, "fast": stages, "fusion_0": {"conv": ones}}
    backbone["audio_fusion_1"] = {"conv_1": ones}
    scales = layer_scales({"backbone": backbone}, 0.5)["backbone"]
    assert scales["fusion_0"]["conv"] == scales["slow"]["stage_1"]["block_0"]["conv"] == 0.25
    assert scales["audio_fusion_1"]["conv_1"] == 0.5
