"""AVSlowFast: what it sees is SlowFast, what it hears, and what it does without."""

import functools

import clip_resnets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_resnets import VIDEO

import jaxvid
from jaxvid.models import avslowfast, slowfast
from jaxvid.nn.batch_norm import BatchNorm

AUDIO = np.random.default_rng(2).normal(size=(3, 32, 16)).astype(np.float32)
BOTH = {"video": VIDEO, "audio": AUDIO}
KEY = jax.random.key(0)


def small(**fields):
    return jaxvid.create_model("avslowfast", variant="test", num_classes=5, **fields)


def shapes(model, inputs):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, {"params": KEY, "dropout": KEY}, inputs)


@functools.cache
def noisy():
    """Variables of the small model in which nothing is 0 or 1 by chance, one leaf by its path."""

    def draw(path, x):
        seed = sum(jax.tree_util.keystr(path).encode())
        noise = 0.2 * np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
        return 1 + np.abs(noise) if path[-1].key in ("var", "scale") else noise

    return jax.tree_util.tree_map_with_path(draw, shapes(small(), BOTH))


@functools.cache
def runner(train=False, **fields):
    """jitted (variables, inputs, key) -> (outputs, batch_stats)"""
    model = small(**fields)

    @jax.jit
    def run(variables, inputs, key=KEY):
        outputs, changed = model.apply(
            variables, inputs, train=train, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return outputs, changed["batch_stats"]

    return run


# --- sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["R50_4x16", "R50_8x8", "R101_8x8"])
def test_what_sees_is_slowfast_whole(variant):
    ours = shapes(avslowfast.build(400, variant=variant), avslowfast.example_inputs(variant))
    theirs = shapes(slowfast.build(400, variant=variant), slowfast.example_inputs(variant))
    for collection in ("params", "batch_stats"):
        backbone = dict(ours[collection]["backbone"])
        heard = {name for name in backbone if name.startswith("audio")}
        assert heard == {"audio", "audio_fusion_2", "audio_fusion_3"}
        seen = {name: tree for name, tree in backbone.items() if name not in heard}
        assert seen == theirs[collection]["backbone"]
    features = 2048 + 256 + 1024
    assert ours["params"]["head"]["kernel"].shape == (features, 400)


def test_parameters():
    inputs = avslowfast.example_inputs("R50_4x16")
    assert inputs["video"].shape == (1, 32, 224, 224, 3) and inputs["audio"].shape == (1, 128, 80)
    backbone = shapes(avslowfast.build(400), inputs)["params"]["backbone"]

    def count(tree):
        return sum(x.size for x in jax.tree.leaves(tree))

    # Half a ResNet-50's channels make a quarter of its 23.5M parameters.
    assert count(backbone["audio"]) == 5_830_848
    # 5·256·64 + 5·64·640 and the norms; twice that after the next stage.
    assert count(backbone["audio_fusion_2"]) == 5 * 256 * 64 + 5 * 64 * 640 + 2 * (64 + 640)
    assert count(backbone["audio_fusion_3"]) == 5 * 512 * 64 + 5 * 64 * 1280 + 2 * (64 + 1280)
    assert clip_resnets.count("avslowfast", "R50_4x16") == 41_584_920


def test_the_early_stages_separate_time_and_frequency():
    inputs = avslowfast.example_inputs("R50_4x16")
    audio = shapes(avslowfast.build(400), inputs)["params"]["backbone"]["audio"]
    stem = audio["stem"]["conv"]
    assert stem["time"]["kernel"].shape == (9, 1, 1, 32)
    assert stem["frequency"]["kernel"].shape == (1, 9, 1, 32)
    blocks = [audio[f"stage_{i}"]["block_1"]["conv_2"] for i in (1, 2, 3, 4)]
    separate = {"time", "time_norm", "frequency", "frequency_norm"}
    assert [block.keys() == separate for block in blocks] == [True, True, False, False]
    assert blocks[1]["time"]["kernel"].shape == (3, 1, 64, 64)
    assert blocks[3]["kernel"].shape == (3, 3, 256, 256)


# --- without audio --------------------------------------------------------------------------------


def test_parameters_are_the_same_however_it_is_initialised():
    assert shapes(small(), BOTH) == shapes(small(), {"video": VIDEO})


def test_without_audio_it_is_slowfast():
    variables = noisy()
    head = {**variables["params"]["head"]}
    head["kernel"] = head["kernel"][: 256 + 64]
    seeing = {**variables, "params": {**variables["params"], "head": head}}
    model = jaxvid.create_model("slowfast", variant="test", num_classes=5)
    expected = jax.jit(functools.partial(model.apply, train=False))(seeing, {"video": VIDEO})
    outputs, _ = runner()(variables, {"video": VIDEO})
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-4, atol=1e-4)
    assert outputs["features"].shape == (3, 256 + 64 + 128)
    assert not outputs["features"][:, 256 + 64 :].any()
    heard, _ = runner()(variables, BOTH)
    assert np.abs(heard["logits"] - outputs["logits"]).max() > 1e-2
    assert np.abs(heard["features"] - outputs["features"])[:, :256].max() > 1e-2  # fused on the way


def test_training_without_audio_leaves_what_hears_alone():
    variables = noisy()
    _, stats = runner(train=True)(variables, {"video": VIDEO})
    before, after = variables["batch_stats"]["backbone"], stats["backbone"]
    assert after.keys() == before.keys()
    for name in before:
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after[name], before[name])
        assert set(jax.tree.leaves(moved)) == {not name.startswith("audio")}, name


# --- with audio -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frames, bins", [(1, 1), (45, 7)])
def test_audio_of_any_length(frames, bins):
    audio = np.ones((3, frames, bins), np.float32)
    outputs, _ = runner()(noisy(), {"video": VIDEO, "audio": audio})
    assert outputs["logits"].shape == (3, 5) and np.isfinite(outputs["logits"]).all()


def test_the_lateral_connection_is_a_strided_convolution_over_time():
    """12 audio frames for 3 slow ones: stride 4, as in the reference."""
    rng = np.random.default_rng(0)
    lateral = avslowfast.AudioLateral(4, 3, 5, BatchNorm, jnp.float32)
    x = rng.normal(size=(2, 12, 5, 6)).astype(np.float32)
    apply = jax.jit(functools.partial(lateral.apply, frames=3, train=False))
    variables = jax.jit(functools.partial(lateral.init, frames=3, train=False))(KEY, x)
    got = np.asarray(apply(variables, x))
    assert got.shape == (2, 3, 1, 1, 4)

    def conv(y, kernel, stride):  # torch's, padding 2
        y = np.pad(y, ((0, 0), (2, 2), (0, 0)))
        out = [np.einsum("nki,kio->no", y[:, t : t + 5], kernel) for t in range(y.shape[1] - 4)]
        return np.maximum(np.stack(out, 1)[:, ::stride] / np.sqrt(1 + 1e-5), 0)

    kernels = [np.asarray(variables["params"][n]["kernel"])[:, 0] for n in ("conv_1", "conv_2")]
    expected = conv(conv(x.mean(2), kernels[0], 1), kernels[1], 4)
    np.testing.assert_allclose(got[:, :, 0, 0], expected, atol=1e-5)
    uneven = apply(variables, x[:, :11])  # at frames 0, 3 and 7 of 11
    plain = conv(conv(x[:, :11].mean(2), kernels[0], 1), kernels[1], 1)
    np.testing.assert_allclose(uneven[:, :, 0, 0], plain[:, [0, 3, 7]], atol=1e-5)


def test_a_separated_block_sums_time_and_frequency():
    rng = np.random.default_rng(0)
    module = avslowfast.Separated(2, 3, 2, BatchNorm, jnp.float32)
    x = rng.normal(size=(1, 5, 4, 3)).astype(np.float32)
    variables = jax.jit(functools.partial(module.init, train=False))(KEY, x)
    got = jax.jit(functools.partial(module.apply, train=False))(variables, x)
    time, frequency = (np.asarray(variables["params"][n]["kernel"]) for n in ("time", "frequency"))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 3, 2, 2))
    for f in range(3):
        for m in range(2):
            a = np.einsum("nki,kio->no", padded[:, 2 * f : 2 * f + 3, 2 * m + 1], time[:, 0])
            b = np.einsum("nki,kio->no", padded[:, 2 * f + 1, 2 * m : 2 * m + 3], frequency[0])
            expected[:, f, m] = (np.maximum(a, 0) + np.maximum(b, 0)) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_backwards_audio_is_heard_as_such():
    logits = runner()(noisy(), BOTH)[0]["logits"]
    other = runner()(noisy(), {"video": VIDEO, "audio": AUDIO[:, ::-1]})[0]["logits"]
    assert np.abs(logits - other).max() / np.abs(logits).max() > 1e-3


# --- DropPathway ----------------------------------------------------------------------------------


def test_dropped_clips_are_seen_and_not_heard():
    """Clip by clip: as evaluated with audio, or as evaluated without; the drawing decides."""
    variables = noisy()
    heard, deaf = (
        np.asarray(runner()(variables, x)[0]["logits"]) for x in (BOTH, {"video": VIDEO})
    )
    train = runner(train=True, frozen_bn=True, drop_pathway_rate=0.5)
    kept = []
    for key in jax.random.split(jax.random.key(5), 8):
        logits = np.asarray(train(variables, BOTH, key)[0]["logits"])
        is_heard = np.isclose(logits, heard, rtol=1e-3, atol=1e-3).all(1)
        is_deaf = np.isclose(logits, deaf, rtol=1e-3, atol=1e-3).all(1)
        assert (is_heard ^ is_deaf).all()
        kept.append(is_heard)
    kept = np.array(kept)
    assert 6 <= kept.sum() <= 18 and (kept.any(1) & ~kept.all(1)).any()


def test_the_share_of_dropped_clips_is_the_papers():
    assert avslowfast.build(2).drop_pathway_rate == 0.8
    variables = noisy()
    train = runner(train=True, frozen_bn=True, drop_pathway_rate=0.8)
    inputs = {
        "video": np.tile(VIDEO[:1], (48, 1, 1, 1, 1)),
        "audio": np.tile(AUDIO[:1], (48, 1, 1)),
    }
    features = np.asarray(train(variables, inputs)[0]["features"])
    dropped = ~features[:, 256 + 64 :].any(1)
    assert 0.6 < dropped.mean() < 0.95


def test_nothing_is_dropped_at_evaluation():
    variables = noisy()
    plain = runner()(variables, BOTH)[0]["logits"]
    np.testing.assert_array_equal(
        runner(drop_pathway_rate=0.8)(variables, BOTH)[0]["logits"], plain
    )


def test_statistics_move_also_of_what_was_dropped():
    variables = noisy()
    _, stats = runner(train=True, drop_pathway_rate=0.99)(variables, BOTH)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), stats, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "audio, words",
    [
        ((3, 32), r"inputs\['audio'\] has shape \(3, 32\): expected \(3, F, M\)"),
        ((2, 32, 16), r"shape \(2, 32, 16\): expected \(3, F, M\)"),
        ((3, 0, 16), r"shape \(3, 0, 16\): .* leave it out where there is none"),
    ],
)
def test_audio_that_does_not_fit(audio, words):
    with pytest.raises(ValueError, match=words):
        shapes(small(), {"video": VIDEO, "audio": np.zeros(audio, np.float32)})


def test_fields_that_do_not_fit():
    words = r"audio_fusions=\(1, 3\): expected some of \(0, 1, 2\)"
    with pytest.raises(ValueError, match=words):
        shapes(small(audio_fusions=(1, 3)), BOTH)
    with pytest.raises(ValueError, match="drop pathway rate is 1.0"):
        shapes(small(drop_pathway_rate=1.0), BOTH)
    with pytest.raises(ValueError, match="a clip of 10 frames"):
        shapes(small(), {"video": np.zeros((1, 10, 16, 16, 3), np.float32)})
    with pytest.raises(ValueError, match="2 channels in the last axis"):
        shapes(small(), {"video": np.zeros((1, 8, 16, 16, 2), np.float32)})


def test_fusion_after_the_stem_and_nowhere():
    after_stem = shapes(small(audio_fusions=(0,)), BOTH)["params"]["backbone"]
    fused = after_stem["audio_fusion_0"]["conv_2"]["kernel"]
    assert fused.shape == (5, 1, 16, 16 + 2 * 4) and "audio_fusion_1" not in after_stem
    nowhere = shapes(small(audio_fusions=()), BOTH)["params"]["backbone"]
    assert not any(name.startswith("audio_fusion") for name in nowhere) and "audio" in nowhere
