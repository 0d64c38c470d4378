import jax
import ml_dtypes
import numpy as np
import pytest

from jaxvid.convert import apply
from jaxvid.convert.apply import ShapeOnly
from jaxvid.convert.rules import Alias, Rule, Waive, fused_heads, leaf, linear, norm
from jaxvid.core.errors import ConversionError

TABLE = (*linear("fc.{i}", "layer_{i}"), *norm("norm", "norm"), *linear("head", "head"))


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def fitting():
    state = {
        "fc.0.weight": ones(3, 2),
        "fc.0.bias": ones(3),
        "norm.weight": ones(3),
        "norm.bias": ones(3),
        "head.weight": ones(4, 3),
        "head.bias": ones(4),
    }
    targets = {
        "layer_0/kernel": ones(2, 3),
        "layer_0/bias": ones(3),
        "norm/scale": ones(3),
        "norm/bias": ones(3),
        "head/kernel": ones(3, 4),
        "head/bias": ones(4),
    }
    return state, targets


def test_the_report_accounts_for_every_key():
    state, targets = fitting()
    filled, report = apply.load(state, targets, TABLE)
    assert filled.keys() == targets.keys()
    assert report.used.keys() == state.keys() and not report.waived and not report.fresh
    assert report.used["head.weight"] == ("head/kernel",)


def test_one_error_lists_all_that_is_wrong():
    state, targets = fitting()
    del state["norm.weight"], state["fc.0.bias"]
    state["fc.1.weight"], state["surplus"] = ones(5, 5), ones(7)
    state["head.weight"], state["head.bias"] = ones(9, 3), ones(9)
    with pytest.raises(ConversionError) as caught:
        apply.load(state, targets, TABLE, subject="x.pth (arch demo)")
    text = str(caught.value)
    assert text.startswith("x.pth (arch demo) does not fit: 2 missing, 2 left over, 2 of another")
    assert "nothing was loaded" in text
    for line in (
        "layer_0/bias (3,)  <- fc.0.bias",
        "norm/scale (3,)  <- norm.weight",
        "fc.1.weight (5, 5)",
        "surplus (7,)",
        "head.weight (9, 3)  -> head/kernel (3, 4): it would make (3, 9)",
        "head.bias (9,)  -> head/bias (4,): it would make (9,)",
    ):
        assert line in text


def test_a_leaf_that_no_rule_fills_is_named_as_such():
    with pytest.raises(ConversionError, match=r"odd \(2,\)  <- no rule fills it"):
        apply.load({}, {"odd": ones(2)}, TABLE)


def test_a_layout_that_does_not_divide_is_a_wrong_shape():
    table = fused_heads("qkv", "attention")
    targets = {f"attention/{n}/kernel": ones(5, 2, 3) for n in ("query", "key", "value")}
    with pytest.raises(ConversionError, match=r"1 of another shape(.|\n)*does not divide by 3"):
        apply.load({"qkv.weight": ones(17, 5)}, targets, table)
    with pytest.raises(ConversionError, match=r"an axis of 5 is not 6"):
        apply.load({"qkv.weight": ones(15, 5)}, targets, table)


def test_two_keys_for_one_leaf_are_contradictory():
    table = (leaf("q_bias", "bias"), leaf("query.bias", "bias"))
    for key in ("q_bias", "query.bias"):
        filled, _ = apply.load({key: ones(3)}, {"bias": ones(3)}, table)
        assert list(apply.save(filled, table)) == ["q_bias"]  # the first spelling is written
    with pytest.raises(ConversionError, match=r"bias  <- q_bias and also query.bias"):
        apply.load({"q_bias": ones(3), "query.bias": ones(3)}, {"bias": ones(3)}, table)


def test_waivers_cover_only_what_no_rule_uses():
    state, targets = fitting()
    state["fc.0.index"] = ones(9)
    table = (*TABLE, Waive("fc.{i}.index", "a table"), Waive("head.bias", "never"))
    _, report = apply.load(state, targets, table)
    assert report.waived == {"fc.0.index": "a table"}


def test_a_fresh_head_leaves_the_checkpoints_head_aside():
    state, targets = fitting()
    targets["head/kernel"], targets["head/bias"] = ones(3, 7), ones(7)
    fresh = {"head/{leaf:.+}": "7 classes asked, 4 in the checkpoint"}
    filled, report = apply.load(state, targets, TABLE, fresh=fresh)
    assert filled.keys() == targets.keys() - {"head/kernel", "head/bias"}
    assert report.fresh.keys() == {"head/kernel", "head/bias"}
    assert report.waived.keys() == {"head.weight", "head.bias"}
    assert "7 classes asked" in report.waived["head.bias"]


def test_parts_the_model_has_not_are_dropped_only_when_named():
    state, targets = fitting()
    del targets["norm/scale"], targets["norm/bias"]
    with pytest.raises(ConversionError, match="2 left over"):
        apply.load(state, targets, TABLE)
    named = (*TABLE, Waive("norm.{leaf:.+}", "another head"))
    _, report = apply.load(state, targets, named)
    assert report.waived == {"norm.weight": "another head", "norm.bias": "another head"}
    # A model that has the part gets it all the same.
    _, report = apply.load(*fitting(), named)
    assert "norm.weight" in report.used


def test_an_alias_must_be_the_same_tensor_and_is_written_again():
    table = (leaf("a", "a"), Alias("second.a", "a"))
    filled, report = apply.load({"a": ones(2), "second.a": ones(2)}, {"a": ones(2)}, table)
    assert report.waived == {"second.a": "the same tensor as a"}
    assert apply.save(filled, table).keys() == {"a", "second.a"}
    with pytest.raises(ConversionError, match="second.a must be the same tensor as a"):
        apply.load({"a": ones(2), "second.a": 2 * ones(2)}, {"a": ones(2)}, table)
    with pytest.raises(ConversionError, match=r"second.a \(2,\)"):
        apply.load({"second.a": ones(2)}, {}, table)


def test_saving_lists_every_leaf_without_a_place():
    _, targets = fitting()
    with pytest.raises(ConversionError, match=r"2 of the model's leaves have no place") as caught:
        apply.save({**targets, "gamma": ones(3), "delta": ones(1)}, TABLE)
    assert "gamma (3,)" in str(caught.value) and "delta (1,)" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_values_come_in_the_dtype_of_the_model(dtype):
    filled, _ = apply.load({"a": ones(2, dtype=dtype)}, {"a": ones(2)}, (leaf("a", "a"),))
    assert filled["a"].dtype == np.float32


def test_a_scalar_stays_a_scalar():
    table = (leaf("logit_scale", "logit_scale"),)
    filled, _ = apply.load({"logit_scale": np.float32(2)}, {"logit_scale": np.float32(0)}, table)
    assert filled["logit_scale"].shape == () and filled["logit_scale"] == 2


def test_shapes_alone_are_checked_without_memory():
    size = 10**6  # 4 TB as an array
    state = {"fc.0.weight": jax.ShapeDtypeStruct((3 * size, size), np.float16)}
    targets = {"layer_0/kernel": jax.ShapeDtypeStruct((size, 3 * size), np.float32)}
    filled, _ = apply.load(state, targets, TABLE)
    assert filled["layer_0/kernel"] == ShapeOnly((size, 3 * size), np.dtype(np.float32))
    assert apply.save(filled, TABLE)["fc.0.weight"].shape == (3 * size, size)
    with pytest.raises(ConversionError, match="1 of another shape"):
        apply.load(state, {"layer_0/kernel": ShapeOnly((2, 2), np.dtype("f4"))}, TABLE)


def test_a_rule_of_several_keys_needs_them_all():
    add = Rule(("a", "b"), ("sum_a", "sum_b"))
    filled, _ = apply.load(
        {"a": ones(1), "b": ones(2)}, {"sum_a": ones(1), "sum_b": ones(2)}, (add,)
    )
    assert len(filled) == 2
    with pytest.raises(ConversionError, match="2 missing, 1 left over") as caught:
        apply.load({"a": ones(1)}, {"sum_a": ones(1), "sum_b": ones(2)}, (add,))
    assert "sum_a (1,)  <- a + b" in str(caught.value)


def test_collections_besides_params_keep_their_names():
    variables = {"params": {"a": {"b": 1}}, "batch_stats": {"c": {"mean": 2}}}
    flat = apply.flatten_variables(variables)
    assert flat == {"a/b": 1, "batch_stats/c/mean": 2}
    assert apply.unflatten_variables(flat, ["batch_stats"]) == variables


def test_matched_counts_the_keys_a_table_knows():
    table = (*TABLE, Waive("norm.counter", "unused"))
    assert apply.matched(["fc.3.weight", "norm.counter", "foreign"], table) == 2
