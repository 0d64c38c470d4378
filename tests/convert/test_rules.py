import numpy as np
import pytest

from jaxvid.convert import apply, rules
from jaxvid.convert.rules import Rule, Waive, patterns


def test_wildcards_mean_the_same_on_both_sides():
    key, path = patterns("layer.{i}.{p:query|key}.weight", "block_{i}/{p}/kernel")
    binding = key.match("layer.12.query.weight")
    assert path.fill(binding) == "block_12/query/kernel"
    assert path.match("block_12/query/kernel") == binding
    assert key.match("layer.x.query.weight") is None
    assert key.match("layer.1.value.weight") is None
    assert key.match("layerx1.query.weight") is None  # a dot is a dot


def test_counts_can_be_shifted():
    key, path = patterns("blocks.{i+1}.{j}.conv", "stage_{i}/unit_{j}/kernel")
    assert path.fill(key.match("blocks.3.0.conv")) == "stage_2/unit_0/kernel"
    assert key.fill(path.match("stage_2/unit_0/kernel")) == "blocks.3.0.conv"
    assert key.match("blocks.0.0.conv") is None


def test_a_wildcard_can_repeat():
    (key,) = patterns("a{i}.b{i}")
    assert key.match("a3.b3") and key.match("a3.b4") is None


def test_wrong_patterns_are_refused():
    with pytest.raises(ValueError, match="two meanings"):
        patterns("{p:a|b}", "{p:a|c}")
    with pytest.raises(ValueError, match="every wildcard must stand in each"):
        patterns("layer.{i}.w", "w")
    with pytest.raises(ValueError, match="every wildcard"):
        _ = Rule(("layer.{i}.w",), ("w",)).key_patterns


ALL = (
    *rules.linear("fc{i}", "fc{i}"),
    *rules.conv("conv", "conv"),
    *rules.conv("conv2d", "conv2d", axes="h w"),
    *rules.norm("ln", "ln"),
    *rules.batch_norm("bn", "bn"),
    *rules.heads_in("attn.{p:q|k}", "attention/{p}"),
    *rules.heads_out("attn.proj", "attention/out"),
    *rules.fused_heads("attn.qkv", "cross"),
    rules.leaf("cls_token", "cls", "1 1 d -> d"),
)


def shapes_of_all():
    return {
        "fc0.weight": (3, 2),
        "fc0.bias": (3,),
        "fc1.weight": (4, 3),
        "conv.weight": (4, 3, 2, 5, 5),
        "conv.bias": (4,),
        "conv2d.weight": (4, 3, 5, 5),
        "ln.weight": (4,),
        "ln.bias": (4,),
        "bn.weight": (4,),
        "bn.bias": (4,),
        "bn.running_mean": (4,),
        "bn.running_var": (4,),
        "attn.q.weight": (6, 5),
        "attn.q.bias": (6,),
        "attn.k.weight": (6, 5),
        "attn.proj.weight": (5, 6),
        "attn.proj.bias": (5,),
        "attn.qkv.weight": (18, 5),
        "attn.qkv.bias": (18,),
        "cls_token": (1, 1, 5),
    }


def targets_of_all():
    three = ("query", "key", "value")
    return {
        "fc0/kernel": (2, 3),
        "fc0/bias": (3,),
        "fc1/kernel": (3, 4),
        "conv/kernel": (2, 5, 5, 3, 4),
        "conv/bias": (4,),
        "conv2d/kernel": (5, 5, 3, 4),
        "ln/scale": (4,),
        "ln/bias": (4,),
        "bn/scale": (4,),
        "bn/bias": (4,),
        "batch_stats/bn/mean": (4,),
        "batch_stats/bn/var": (4,),
        "attention/q/kernel": (5, 2, 3),
        "attention/q/bias": (2, 3),
        "attention/k/kernel": (5, 2, 3),
        "attention/out/kernel": (2, 3, 5),
        "attention/out/bias": (5,),
        **{f"cross/{name}/kernel": (5, 2, 3) for name in three},
        **{f"cross/{name}/bias": (2, 3) for name in three},
        "cls": (5,),
    }


def test_every_bundle_goes_there_and_back():
    rng = np.random.default_rng(0)
    state = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes_of_all().items()}
    state["bn.num_batches_tracked"] = np.asarray(7)
    targets = {p: apply.ShapeOnly(s, np.dtype("float32")) for p, s in targets_of_all().items()}
    filled, report = apply.load(state, targets, ALL)
    assert filled.keys() == targets.keys()
    assert list(report.waived) == ["bn.num_batches_tracked"]
    np.testing.assert_array_equal(filled["fc0/kernel"], state["fc0.weight"].T)
    np.testing.assert_array_equal(filled["batch_stats/bn/var"], state["bn.running_var"])
    back = apply.save(filled, ALL)
    assert back.pop("bn.num_batches_tracked") == 0  # strict torch modules ask for it
    state.pop("bn.num_batches_tracked")
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_flax_keys_need_no_bundle():
    table = (rules.leaf("T/block_{i}/{rest:.+}", "encoder/block_{i}/{rest}"),)
    state = {"T/block_0/mlp/kernel": np.ones((2, 3), np.float32)}
    filled, _ = apply.load(state, {"encoder/block_0/mlp/kernel": np.zeros((2, 3))}, table)
    assert list(filled) == ["encoder/block_0/mlp/kernel"]
    assert list(apply.save(filled, table)) == ["T/block_0/mlp/kernel"]


def test_a_waiver_needs_no_path():
    assert Waive("a.{i}.index", "computed").patterns[0].match("a.3.index") is not None
