import numpy as np
import pytest

from jaxvid.convert.layout import Custom, Join, Layout, LayoutError, Same, Split


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("text", "source", "target"),
    [
        ("o i -> i o", (3, 2), (2, 3)),
        ("o i t h w -> t h w i o", (5, 3, 2, 4, 6), (2, 4, 6, 3, 5)),
        ("o i h w -> h w i o", (5, 3, 4, 6), (4, 6, 3, 5)),
        ("(h d) i -> i h d", (6, 5), (5, 2, 3)),
        ("(h d) -> h d", (6,), (2, 3)),
        ("o (h d) -> h d o", (5, 6), (2, 3, 5)),
        ("1 1 d -> d", (1, 1, 4), (4,)),
        ("1 n d -> n d", (1, 3, 4), (3, 4)),
        ("o i 1 1 1 -> i o", (3, 2, 1, 1, 1), (2, 3)),
        ("d -> 1 d", (4,), (1, 4)),
    ],
)
def test_there_and_back(text, source, target):
    array = numbers(*source)
    (loaded,) = Layout(text).load([array], [target])
    assert loaded.shape == target
    (back,) = Layout(text).save([loaded])
    np.testing.assert_array_equal(back, array)


def test_values_are_those_of_the_transpose():
    weight = numbers(6, 5)
    (kernel,) = Layout("(h d) i -> i h d").load([weight], [(5, 2, 3)])
    np.testing.assert_array_equal(kernel, weight.T.reshape(5, 2, 3))
    (out,) = Layout("o (h d) -> h d o").load([weight.T], [(2, 3, 5)])
    np.testing.assert_array_equal(out, weight.reshape(2, 3, 5))
    conv = numbers(5, 3, 2, 4, 6)
    (moved,) = Layout("o i t h w -> t h w i o").load([conv], [(2, 4, 6, 3, 5)])
    np.testing.assert_array_equal(moved, conv.transpose(2, 3, 4, 1, 0))


def test_explicit_sizes_make_a_merging_layout_invertible():
    layout = Layout("t h d -> (t h) d", t=2)
    array = numbers(2, 3, 4)
    (loaded,) = layout.load([array], [(6, 4)])
    np.testing.assert_array_equal(layout.save([loaded])[0], array)


def test_the_number_of_heads_comes_from_the_model():
    (a,) = Layout("(h d) -> h d").load([numbers(12)], [(3, 4)])
    (b,) = Layout("(h d) -> h d").load([numbers(12)], [(4, 3)])
    assert a.shape == (3, 4) and b.shape == (4, 3)


@pytest.mark.parametrize("text", ["a b", "a b -> a", "a a -> a a", "a b -> a (b c)", "a? -> a?"])
def test_a_wrong_text_is_refused(text):
    with pytest.raises(ValueError, match="layout"):
        Layout(text)


def test_arrays_that_do_not_fit_say_why():
    with pytest.raises(LayoutError, match=r"has 1 axes, 'o i -> i o' wants 2"):
        Layout("o i -> i o").load([numbers(3)], [(2, 3)])
    with pytest.raises(LayoutError, match=r"the model has shape \(3,\)"):
        Layout("o i -> i o").load([numbers(2, 3)], [(3,)])
    with pytest.raises(LayoutError, match="an axis of 7 is not 6"):
        Layout("(h d) i -> i h d").load([numbers(7, 5)], [(5, 2, 3)])
    with pytest.raises(LayoutError, match="cannot be told apart"):
        Layout("t h d -> (t h) d").save([numbers(6, 4)])
    with pytest.raises(LayoutError, match="is not 1 x"):
        Layout("1 d -> d").load([numbers(2, 4)], [(4,)])


def test_split_takes_a_fused_projection_apart():
    fused = numbers(18, 5)
    split = Split(3, Layout("(h d) i -> i h d"))
    parts = split.load([fused], [(5, 2, 3)] * 3)
    for part, rows in zip(parts, np.split(fused, 3), strict=True):
        np.testing.assert_array_equal(part, rows.T.reshape(5, 2, 3))
    np.testing.assert_array_equal(split.save(parts)[0], fused)
    with pytest.raises(LayoutError, match="does not divide by 3"):
        split.load([numbers(17, 5)], [(5, 2, 3)] * 3)


def test_join_fuses_separate_projections():
    separate = [numbers(4, 5), numbers(4, 5) + 100]
    join = Join(2, Layout("o i -> i o"), axis=1)
    (fused,) = join.load(separate, [(5, 8)])
    np.testing.assert_array_equal(fused, np.concatenate([a.T for a in separate], 1))
    for back, array in zip(join.save([fused]), separate, strict=True):
        np.testing.assert_array_equal(back, array)
    with pytest.raises(LayoutError, match="does not divide by 2"):
        join.load(separate, [(5, 7)])


def test_same_and_custom():
    array = numbers(3)
    assert Same().load([array], [(3,)])[0] is array and Same().save([array])[0] is array
    negative = Custom(lambda a: [-a[0]], lambda a: [-a[0]])
    np.testing.assert_array_equal(negative.save(negative.load([array], [(3,)]))[0], array)
