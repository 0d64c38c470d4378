"""Convolutions: every CPU form against XLA's native one, and what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxvid.nn import (
    conv_cpu,
    conv_frames,
    conv_kernel_gradient,
    conv_winograd,
    conv_winograd_time,
)
from jaxvid.nn.conv import Conv, conv, per_axis, resolve_padding
from jaxvid.nn.conv_geometry import Geometry

# Compiles five times as fast; what is computed stays.
QUICK = {"xla_backend_optimization_level": 0}
KEYS = ("result", "gradient of x", "gradient of kernel")


def native(x, kernel, strides, pads, dilation, groups):
    letters = "THW"[-len(strides) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )


def arrays(shape, window, out, groups=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape, dtype=np.float32)
    kernel = rng.standard_normal((*window, shape[-1] // groups, out), dtype=np.float32)
    return jnp.asarray(x), jnp.asarray(kernel)


def check(x, kernel, strides, pads, dilation=None, groups=1):
    """Result and both gradients as the native ones, to 1e-5 of the largest number."""
    dilation = dilation or (1,) * len(strides)

    def ours(x, kernel):
        return conv(x, kernel, strides=strides, padding=pads, dilation=dilation, groups=groups)

    def all_of(function):
        def run(x, kernel):
            y, back = jax.vjp(function, x, kernel)
            weights = jax.random.normal(jax.random.key(0), y.shape, y.dtype)
            return y, *back(weights)

        return jax.jit(run, compiler_options=QUICK)(x, kernel)

    expected = all_of(lambda x, kernel: native(x, kernel, strides, pads, dilation, groups))
    for key, got, want in zip(KEYS, all_of(ours), expected, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype, key
        scale = max(float(jnp.max(jnp.abs(want))), 1e-6)
        np.testing.assert_allclose(got / scale, want / scale, atol=1e-5, err_msg=key)


def random_case(seed):
    """Any strides, padding on either side, dilation and groups, of frames or clips."""
    rng = np.random.default_rng(seed)
    axes = int(rng.choice([2, 3]))
    window = tuple(int(k) for k in rng.integers(1, 5, axes))
    strides = tuple(int(s) for s in rng.integers(1, 4, axes))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 2], axes))
    pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (axes, 2)))
    groups, out = int(rng.choice([1, 1, 1, 2, 6])), int(rng.choice([6, 12]))
    channels = 6 if groups > 1 else int(rng.choice([3, 6]))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    sizes = [max(r - sum(p), 1) + int(rng.integers(0, 7)) for r, p in zip(reach, pads, strict=True)]
    shape = (int(rng.integers(1, 3)), *sizes, channels)
    return shape, window, out, strides, pads, dilation, groups


def as_if_large(monkeypatch, size):
    """Arrays of more than `size` bytes are worked off in pieces, clips and frames one by one."""
    for limit in ("FRAMES_BYTES", "FRAMES_WHOLE_BYTES", "NEIGHBOURS_BYTES"):
        monkeypatch.setattr(conv_frames, limit, size)
    monkeypatch.setattr(conv_winograd_time, "PIECE_BYTES", 40 * size)
    monkeypatch.setattr(conv_kernel_gradient, "PIECE_BYTES", size)
    monkeypatch.setattr(conv_kernel_gradient, "CLIPS_BYTES", size)
    monkeypatch.setattr(conv_kernel_gradient, "PIECE_FRAMES", 2)
    monkeypatch.setattr(conv_winograd, "WHOLE_BYTES", size)
    monkeypatch.setattr(conv_winograd, "PIECE_SQUARES", 1)


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(n, marks=pytest.mark.slow) for n in range(12, 32))]
)
def test_any_geometry_is_exact(seed, monkeypatch):
    if seed % 2:  # as if the arrays were large: in pieces
        as_if_large(monkeypatch, 2000)
    shape, window, out, strides, pads, dilation, groups = random_case(seed)
    x, kernel = arrays(shape, window, out, groups, seed)
    check(x, kernel, strides, pads, dilation, groups)


KINDS = {  # (shape, window, out, strides, pads, groups): one of each way through nn/conv_cpu.py
    "stem_of_clips": ((1, 5, 14, 14, 3), (3, 7, 7), 8, (1, 2, 2), 3, 1),
    "stem_of_many_frames": ((1, 8, 57, 60, 3), (5, 7, 7), 16, (1, 2, 2), (2, 3, 3), 1),
    "stem_of_frames": ((2, 15, 17, 3), (7, 7), 20, (2, 2), 3, 1),
    "stem_of_flow": ((1, 4, 14, 14, 2), (3, 3, 3), 8, (1, 2, 2), 1, 1),
    "few_channels_strided_in_height": ((1, 4, 14, 14, 3), (3, 7, 7), 8, (2, 2, 1), 3, 1),
    "narrow_stem_that_sees_less": ((2, 3, 13, 12, 3), (5, 7, 7), 4, (1, 2, 2), (1, 3, 3), 1),
    "narrow_stem": ((1, 6, 13, 12, 3), (5, 7, 7), 4, (1, 2, 2), (2, 3, 3), 1),
    "stem_strided_in_time": ((1, 7, 12, 12, 3), (7, 7, 7), 16, (2, 2, 2), ((2, 3),) * 3, 1),
    "small_stem": ((1, 3, 12, 12, 3), (1, 3, 3), 8, (1, 2, 2), (0, 1, 1), 1),
    "stem_without_stride": ((1, 4, 8, 8, 3), (3, 3, 3), 16, (1, 1, 1), 1, 1),
    "clips": ((2, 8, 8, 8, 16), (3, 3, 3), 16, (1, 1, 1), 1, 1),
    "short_clips": ((1, 2, 8, 8, 16), (3, 3, 3), 16, (1, 1, 1), 1, 1),
    "halved": ((1, 5, 9, 8, 8), (3, 3, 3), 16, (2, 2, 2), 1, 1),
    "spatial": ((1, 3, 9, 9, 8), (1, 3, 3), 8, (1, 1, 1), (0, 1, 1), 1),
    "frames": ((2, 9, 9, 8), (3, 3), 8, (2, 2), 1, 1),
    "temporal": ((1, 8, 5, 5, 8), (3, 1, 1), 8, (2, 1, 1), (1, 0, 0), 1),
    "temporal_to_more": ((3, 7, 3, 4, 5), (5, 1, 1), 8, (1, 1, 1), ((1, 3), 0, 0), 1),
    "temporal_to_fewer": ((3, 7, 3, 4, 9), (5, 1, 1), 4, (1, 1, 1), ((4, 0), 0, 0), 1),
    "temporal_and_spatial_strides": ((1, 9, 6, 6, 8), (5, 1, 1), 8, (2, 2, 2), (1, 0, 0), 1),
    "pointwise": ((1, 3, 5, 5, 8), (1, 1, 1), 4, (1, 2, 2), 0, 1),
    "few_places": ((1, 1, 3, 3, 8), (3, 3, 3), 20, (1, 1, 1), 1, 1),
    "few_places_of_the_gradient": ((1, 2, 3, 3, 8), (3, 3, 3), 16, (1, 1, 1), 1, 1),
    "depthwise": ((2, 4, 6, 6, 5), (3, 3, 3), 5, (1, 2, 2), 1, 5),
    "depthwise_large": ((2, 7, 6, 6, 5), (5, 5, 3), 5, (2, 1, 2), (2, 1, 1), 5),
    "depthwise_in_time": ((1, 6, 4, 4, 5), (5, 1, 1), 5, (1, 1, 1), (2, 0, 0), 5),
    "depthwise_far_apart": (
        (2, 5, 17, 19, 5),
        (3, 3, 2),
        5,
        (1, 4, 5),
        ((1, 1), (1, 0), (0, 2)),
        5,
    ),
    "depthwise_far_apart_in_time": ((1, 8, 6, 7, 5), (3, 3, 3), 5, (2, 2, 3), 1, 5),
    "depthwise_large_and_strided": ((1, 7, 9, 9, 2), (7, 7, 7), 2, (1, 2, 2), 3, 2),
    "one_channel": ((2, 12, 9, 1), (9, 1), 8, (1, 1), (4, 0), 1),
    "one_channel_strided": ((1, 5, 9, 9, 1), (3, 3, 3), 8, (1, 2, 2), 1, 1),
    "patches": ((1, 6, 13, 14, 3), (3, 4, 4), 8, (2, 4, 4), (1, 0, 0), 1),
    "patches_of_many_channels": ((2, 3, 6, 7, 18), (1, 2, 3), 8, (1, 2, 3), 0, 1),
    "padded_by_more_than_the_window": ((1, 4, 6, 6, 3), (2, 3, 3), 4, (1, 1, 1), (2, 3, 4), 1),
    "wide": ((2, 5, 13, 12, 60), (3, 3, 3), 56, (1, 1, 1), (1, (1, 2), (0, 1)), 1),
    "wide_frames": ((4, 14, 13, 150), (3, 3), 180, (1, 1), ((1, 1), (2, 0)), 1),
    "strided_window_of_one": ((1, 5, 8, 8, 8), (1, 3, 3), 4, (2, 1, 1), (0, 1, 1), 1),
}


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "pieces"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_exact(kind, pieces, monkeypatch):
    if pieces:
        as_if_large(monkeypatch, 20_000)
    shape, window, out, strides, pads, groups = KINDS[kind]
    pads = [(p, p) if isinstance(p, int) else p for p in per_axis(pads, len(window))]
    check(*arrays(shape, window, out, groups), strides, tuple(pads), groups=groups)


@pytest.mark.parametrize("seed", range(8))
def test_squares_of_any_geometry_are_exact(seed, monkeypatch):
    """Few channels, as if they were many: products of matrices or convolutions along time, in pieces."""
    rng = np.random.default_rng(seed)
    for limit in ("NARROW", "NARROW_FRAMES", "LARGE"):
        monkeypatch.setattr(conv_winograd, limit, 0)
    few = conv_cpu.Few(places=0.0, squares=0)
    for name in ("FEW", "FEW_BACK"):
        monkeypatch.setattr(conv_cpu, name, few)
    if seed % 2:
        as_if_large(monkeypatch, 2000)
    if seed % 4 > 1:
        monkeypatch.setattr(conv_winograd, "LARGE", 1000)
    monkeypatch.setattr(conv_winograd, "PIECE_SQUARES", int(rng.integers(1, 40)))
    times = int(rng.integers(1, 4))
    strides, dilation = (1, 1, 1), (int(rng.integers(1, 3)), 1, 1)
    pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 5, (3, 2)))
    shape = tuple(int(rng.integers(low, low + 6)) for low in (1, 5, 3, 3, 2))
    x, kernel = arrays(shape, (times, 3, 3), int(rng.integers(2, 8)), seed=seed)
    assert conv_cpu._form(x, kernel, Geometry(strides, pads, dilation), few) == "winograd"
    check(x, kernel, strides, pads, dilation)


def test_squares_come_in_pieces_that_divide_their_rows(monkeypatch):
    x, kernel = arrays((1, 2, 18, 8, 60), (3, 3, 3), 60)  # 9 rows of 4 squares in 2 frames
    geometry = Geometry((1, 1, 1), ((1, 1),) * 3, (1, 1, 1))
    assert conv_winograd._rows_of_piece(x, kernel, geometry) == 9
    monkeypatch.setattr(conv_winograd, "WHOLE_BYTES", 0)
    for least, rows in ((1, 1), (9, 3), (16, 3), (25, 9), (1000, 9)):
        monkeypatch.setattr(conv_winograd, "PIECE_SQUARES", least)
        assert conv_winograd._rows_of_piece(x, kernel, geometry) == rows
        check(x, kernel, geometry.strides, geometry.pads)


@pytest.mark.parametrize(
    ("strides", "dilation"),
    [
        ((1, 2, 1), (1, 1, 1)),
        ((2, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 2)),
        ((1, 1, 1), (1, 2, 1)),
    ],
)
def test_wide_windows_apart_are_no_squares(strides, dilation):
    x, kernel = arrays((1, 4, 24, 20, 60), (3, 3, 3), 60)
    pads = ((1, 1), (2, 1), (1, 2))
    form = conv_cpu._form(x, kernel, Geometry(strides, pads, dilation), conv_cpu.FEW)
    assert form == "frames"
    check(x, kernel, strides, pads, dilation)


@pytest.mark.parametrize("seed", range(6))
def test_fours_of_frames_of_any_geometry_are_exact(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    if seed % 2:
        monkeypatch.setattr(conv_winograd_time, "PIECE_BYTES", 2000)
    window = ((3, 5)[seed // 2 % 2], *(int(k) for k in rng.integers(1, 5, 2)))
    strides = (1, *(int(s) for s in rng.integers(1, 4, 2)))
    dilation = (1, *(int(d) for d in rng.choice([1, 1, 2], 2)))
    pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 5, (3, 2)))
    shape = (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(7, 13, 3)), 3)
    x, kernel = arrays(shape, window, 6, seed=seed)
    run = jax.jit(conv_winograd_time.forward, static_argnums=2, compiler_options=QUICK)
    got = run(x, kernel, Geometry(strides, pads, dilation))
    want = native(x, kernel, strides, pads, dilation, 1)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(want))))


@pytest.mark.parametrize("kt", conv_winograd_time.POINTS)
def test_fours_of_frames_are_a_correlation(kt):
    of_input, of_kernel, to_output = conv_winograd_time.matrices(kt)
    frames, kernel = np.random.default_rng(0).standard_normal((2, kt + 3))
    kernel = kernel[:kt]
    got = to_output @ ((of_kernel @ kernel) * (of_input @ frames))
    np.testing.assert_allclose(got, np.correlate(frames, kernel, "valid"), atol=1e-12)


def form_of_stem(frames=8, size=56, channels=3, window=(5, 7, 7), out=16, along_time=(1, 1)):
    x, kernel = jnp.zeros((1, frames, size, size, channels)), jnp.zeros((*window, channels, out))
    (stride, apart), pads = along_time, tuple((k // 2, k // 2) for k in window)
    geometry = Geometry((stride, 2, 2), pads, (apart, 1, 1))
    return conv_cpu._form(x, kernel, geometry, conv_cpu.FEW)


def test_large_windows_over_pictures_take_fours_of_frames():
    assert form_of_stem() == "winograd along time"
    assert form_of_stem(frames=4, window=(3, 7, 7)) == "winograd along time"
    # of 5 frames that come out, the second four would be mostly unused
    assert form_of_stem(frames=5, window=(3, 7, 7)) == "frames"
    assert form_of_stem(size=54) == "frames"
    assert form_of_stem(channels=5) == "frames"
    assert form_of_stem(out=15) == "frames"
    assert form_of_stem(window=(5, 5, 5)) == "frames"
    assert form_of_stem(window=(7, 7, 7)) == "frames"
    assert form_of_stem(frames=32, along_time=(2, 1)) == "frames"
    assert form_of_stem(frames=32, along_time=(1, 2)) == "frames"


@pytest.mark.parametrize("out", [4, 12], ids=["to fewer", "to more"])
def test_clips_that_do_not_divide_into_pieces_of_two(out, monkeypatch):
    x, kernel = arrays((3, 6, 3, 3, 8), (3, 1, 1), out)
    two_clips = 2 * x[0].size * x.itemsize * (8 + out) // 8
    monkeypatch.setattr(conv_kernel_gradient, "CLIPS_BYTES", two_clips)
    check(x, kernel, (1, 1, 1), ((1, 1), (0, 0), (0, 0)))
    check(x, kernel, (1, 1, 1), ((2, 1), (0, 0), (0, 0)), dilation=(2, 1, 1))


@pytest.mark.parametrize("window", [(3, 3, 3), (5, 5, 3)], ids=["at once", "plane by plane"])
@pytest.mark.parametrize("dilation", [(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2)])
def test_depthwise_windows_spread_out_along_each_axis(window, dilation):
    x, kernel = arrays((1, 11, 10, 9, 4), window, 4, groups=4)
    check(x, kernel, (1, 2, 1), ((2, 1), (1, 1), (0, 2)), dilation, groups=4)


def test_the_kinds_take_every_form():
    found = set()
    for shape, window, out, strides, pads, groups in KINDS.values():
        pads = [(p, p) if isinstance(p, int) else p for p in per_axis(pads, len(window))]
        geometry = Geometry(strides, tuple(pads), (1,) * len(strides), groups).lifted()
        x, kernel = arrays(shape, window, out, groups)
        if x.ndim == 4:
            x, kernel = x[:, None], kernel[None]
        found.add(conv_cpu._form(x, kernel, geometry, conv_cpu.FEW))
    assert found == set(conv_cpu.FORMS) - {"grouped"}


def tall_stem(x, kernel):
    return conv(x, kernel, strides=(1, 2, 2), padding=(1, 1, 1))


def test_bfloat16_stays_bfloat16_and_is_summed_in_float32():
    x, kernel = arrays((1, 4, 6, 6, 16), (3, 1, 1), 8)
    low = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)

    def run(x, kernel):
        y, back = jax.vjp(conv, x, kernel)
        return y, *back(jnp.ones_like(y))

    exact = jax.jit(run)(*(a.astype(jnp.float32) for a in low))
    for got, want in zip(jax.jit(run)(*low), exact, strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))


def test_vmap_checkpoint_and_shapes_alone():
    x, kernel = arrays((1, 4, 8, 8, 3), (3, 3, 3), 8)
    clips = jnp.stack([x, 2 * x, -x])

    def total(kernel, x):
        return jnp.sum(jnp.square(jax.checkpoint(tall_stem)(x, kernel)))

    each = jax.jit(jax.vmap(jax.grad(total), in_axes=(None, 0)))(kernel, clips)
    one = jax.jit(jax.grad(total))(kernel, x)
    scale = float(jnp.max(jnp.abs(one)))
    np.testing.assert_allclose(each[1] / scale, 4 * one / scale, atol=1e-5)
    assert jax.eval_shape(tall_stem, x, kernel).shape == (1, 4, 4, 4, 8)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_keep_the_native_operation(platform):
    x, kernel = arrays((1, 4, 8, 8, 3), (3, 3, 3), 8)

    def total(x, kernel):
        return jnp.sum(jnp.square(tall_stem(x, kernel)))

    step = jax.jit(jax.grad(total, argnums=(0, 1)))
    text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3  # forward and one for each gradient
    assert "dot_general" not in text and "stablehlo.while" not in text


def test_the_cpu_has_no_3d_convolution():
    x, kernel = arrays((1, 8, 16, 16, 8), (3, 3, 3), 8)
    text = jax.jit(conv).lower(x, kernel).as_text()
    assert "stablehlo.convolution" in text and "[b, 0, 1, 2, f]" not in text


def test_module_has_bias_dtype_and_published_paths():
    layer = Conv(6, (3, 3), strides=2, use_bias=True, dtype=jnp.bfloat16, groups=2)
    x = jnp.ones((1, 8, 8, 4))
    variables = layer.init(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"kernel": (3, 3, 2, 6), "bias": (6,)}
    y = jax.jit(layer.apply)(variables, x)
    assert y.shape == (1, 4, 4, 6) and y.dtype == jnp.bfloat16
    moved = {"params": variables["params"] | {"bias": jnp.full(6, 2.0)}}
    np.testing.assert_allclose(jax.jit(layer.apply)(moved, x) - y, 2.0, atol=0.05)


# --- Padding and errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("half", ((1, 1), (3, 3))),
        ("VALID", ((0, 0), (0, 0))),
        ("SAME", ((1, 1), (2, 3))),
        (2, ((2, 2), (2, 2))),
        ((0, 3), ((0, 0), (3, 3))),
        ([(1, 2), 0], ((1, 2), (0, 0))),
    ],
)
def test_padding_is_said_in_many_ways(padding, expected):
    assert resolve_padding(padding, (9, 10), (3, 7), (1, 2)) == expected


def test_half_padding_counts_dilation():
    assert resolve_padding("half", (9, 9), (3, 3), (1, 1), (2, 1)) == ((2, 2), (1, 1))


def test_same_padding_is_tensorflows():
    for size, k, s in itertools.product(range(1, 9), range(1, 5), range(1, 4)):
        ((low, high),) = resolve_padding("SAME", (size,), (k,), (s,))
        assert (size + low + high - k) // s + 1 == math.ceil(size / s) and 0 <= high - low <= 1


def test_unknown_padding_is_named():
    with pytest.raises(ValueError, match="padding 'same': expected 'half', 'SAME', 'VALID' or num"):
        resolve_padding("same", (9, 9), (3, 3), (1, 1))


def test_a_window_larger_than_the_clip_is_named():
    x, kernel = arrays((1, 1, 8, 8, 3), (3, 3, 3), 4)
    with pytest.raises(ValueError, match="an input of 1×8×8 .* smaller than the window 3×3×3"):
        conv(x, kernel, padding="VALID")


@pytest.mark.parametrize("shape", [(1, 4, 8, 8, 4), (4, 8, 8, 3)])
def test_channels_and_axes_that_do_not_fit_are_named(shape):
    _, kernel = arrays((1, 4, 8, 8, 3), (3, 3, 3), 4)
    with pytest.raises(ValueError, match="does not fit a kernel .* expected 5 axes and 3 channels"):
        conv(jnp.zeros(shape), kernel)


def test_groups_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="with 2 groups: expected 4 axes and 6 channels"):
        conv(jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 3, 4)), groups=2)


def test_outputs_that_groups_do_not_divide_are_named():
    with pytest.raises(ValueError, match="5 output channels do not divide into 2 groups"):
        conv(jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 3, 3, 5)), groups=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (1, 2, 2)}, "strides .* 2 axes"),
        ({"dilation": (1,)}, "dilation .* 2 axes"),
        ({"padding": (1, 1, 1)}, "padding .* 2 axes"),
    ],
)
def test_a_number_an_axis_too_many_or_few_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        conv(jnp.zeros((1, 8, 8, 3)), jnp.zeros((3, 3, 3, 5)), **options)
