"""The audio-visual transformer: its three fusions, each modality alone, dropped modalities, sizes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import audio_visual, videomae
from jaxvid.nn.embed import sincos_table

FUSIONS = audio_visual.FUSIONS
# What is compiled runs a few times here: quickly made is better than quick.
QUICKLY = {"xla_backend_optimization_level": 0}
RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((3, 4, 16, 16, 3), dtype=np.float32)
AUDIO = RNG.standard_normal((3, 24, 16), dtype=np.float32)
BOTH = {"video": VIDEO, "audio": AUDIO}
SEEN, HEARD = {"video": VIDEO}, {"audio": AUDIO}


def small(fusion="bottleneck", **fields):
    fields = {"width": 32, "depth": 2, "num_heads": 2, "fusion_layer": 1, **fields}
    return audio_visual.build(5, variant="test", fusion=fusion, **fields)


def shapes(model, inputs):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), inputs)["params"]


@functools.cache
def noisy(fusion):
    """Variables in which nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(1)

    def draw(x):
        scale = 0.5 if len(x.shape) == 1 else 2 / math.sqrt(math.prod(x.shape[:-1]))
        return scale * rng.standard_normal(x.shape, dtype=np.float32)

    return {"params": jax.tree.map(draw, shapes(small(fusion), BOTH))}


@functools.cache
def runner(fusion, train=False, **fields):
    model = small(fusion, **fields)

    def run(variables, inputs, key):
        return model.apply(variables, inputs, train=train, rngs={"dropout": key})

    return jax.jit(run, compiler_options=QUICKLY)


def run(fusion, inputs, *, key=0, **fields):
    return runner(fusion, **fields)(noisy(fusion), inputs, jax.random.key(key))


# --- either alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_parameters_do_not_depend_on_what_it_is_initialised_with(fusion):
    expected = shapes(small(fusion), BOTH)
    assert shapes(small(fusion), SEEN) == expected and shapes(small(fusion), HEARD) == expected
    own = {"mid": {"joint"}, "bottleneck": {"bottleneck_token"}, "late": set()}[fusion]
    assert expected.keys() == {"video", "audio", "head", *own}
    layers = {name for name in expected["video"] if name.startswith("block")}
    assert layers == ({"block_0"} if fusion == "mid" else {"block_0", "block_1"})
    if fusion == "mid":
        assert expected["joint"].keys() == {"block_1"}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_outputs(fusion):
    outputs = run(fusion, BOTH)
    found = {name: (x.shape, x.dtype.name) for name, x in outputs.items()}
    assert found == {
        "logits": ((3, 5), "float32"),
        "features": ((3, 64 if fusion == "late" else 32), "float32"),
        "tokens": ((3, 2 * 4 + 3 * 2, 32), "float32"),
    }
    half = run(fusion, BOTH, dtype=jnp.bfloat16)
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["features"], outputs["features"], atol=0.15)
    alone = [run(fusion, inputs)["tokens"].shape[1] for inputs in (SEEN, HEARD)]
    assert alone == [8, 6]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_both_matter_and_each_alone_is_its_own_stream(fusion):
    both, seen, heard = (run(fusion, inputs)["logits"] for inputs in (BOTH, SEEN, HEARD))
    for alone in (seen, heard):
        assert np.abs(both - alone).max() > 1e-2
    # What is not there is not made up: another clip's other half changes nothing.
    other = run(fusion, {"video": VIDEO, "audio": AUDIO[::-1]})["logits"]
    assert np.abs(other - both)[[0, 2]].max() > 1e-2
    np.testing.assert_allclose(other[1], both[1], atol=1e-5)


def test_late_without_audio_is_videomae():
    params = noisy("late")["params"]
    video = params["video"]
    encoder = {name: x for name, x in video.items() if name != "norm"}
    head = {**params["head"], "kernel": params["head"]["kernel"][:32]}
    theirs = {"encoder": encoder, "fc_norm": video["norm"], "head": head}
    model = videomae.build(5, variant="test")
    expected = jax.jit(functools.partial(model.apply, train=False))({"params": theirs}, SEEN)
    outputs = run("late", SEEN)
    np.testing.assert_allclose(outputs["logits"], expected["logits"], atol=1e-4)
    np.testing.assert_allclose(outputs["features"][:, :32], expected["features"], atol=1e-4)
    assert not outputs["features"][:, 32:].any()


def test_late_concatenates_what_each_alone_gives():
    both, seen, heard = (run("late", inputs)["features"] for inputs in (BOTH, SEEN, HEARD))
    np.testing.assert_allclose(both, seen + heard, atol=1e-5)


# --- fusions ----------------------------------------------------------------------------------------


def test_bottlenecks_alone_tell_one_of_the_other():
    """Without them reaching anyone the features are the mean of what each alone gives."""
    both, seen, heard = (run("bottleneck", inputs)["features"] for inputs in (BOTH, SEEN, HEARD))
    assert np.abs(both - (seen + heard) / 2).max() < 1e-4  # one fusing layer: nothing came back yet
    variables = {"params": jax.tree.map(jnp.asarray, noisy("bottleneck")["params"])}
    model = small("bottleneck", fusion_layer=0)
    apply = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICKLY)
    both, seen, heard = (apply(variables, x)["features"] for x in (BOTH, SEEN, HEARD))
    assert np.abs(both - (seen + heard) / 2).max() > 1e-2  # two: the second one's are the mean


def test_a_layer_of_bottlenecks_is_its_formula():
    """Equations 8 and 9 of the paper, with both encoders' blocks called by hand."""
    variables = {"params": noisy("bottleneck")["params"]}
    model = small("bottleneck", fusion_layer=0, num_bottlenecks=4)
    apply = functools.partial(model.apply, train=False, capture_intermediates=True)
    apply = functools.partial(apply, mutable=["intermediates"])
    outputs, kept = jax.jit(apply, compiler_options=QUICKLY)(variables, BOTH)

    def block(stream, i):
        return kept["intermediates"][stream][f"block_{i}"]["__call__"][0]

    shared = (block("video", 0)[:, -4:] + block("audio", 0)[:, -4:]) / 2
    for stream, own in (("video", 8), ("audio", 6)):
        x = jnp.concatenate([block(stream, 0)[:, :own], shared], axis=1)
        made = model._block()()
        params = variables["params"][stream]["block_1"]
        y = made.apply({"params": params}, x, train=False)
        np.testing.assert_allclose(y, block(stream, 1), atol=1e-4)
    tokens = jnp.concatenate([block("video", 1)[:, :8], block("audio", 1)[:, :6]], axis=1)
    np.testing.assert_allclose(outputs["tokens"], tokens, atol=1e-5)


def test_num_bottlenecks():
    params = shapes(small("bottleneck", num_bottlenecks=7), BOTH)
    assert params["bottleneck_token"].shape == (7, 32)


# --- modality dropout -------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_dropped_modalities_are_as_if_absent(fusion):
    """Clip by clip: as evaluated with both, with the video or with the audio alone; chance decides."""
    kinds = [np.asarray(run(fusion, inputs)["logits"]) for inputs in (BOTH, SEEN, HEARD)]
    counts = np.zeros(3, int)
    for key in range(10):
        logits = run(fusion, BOTH, key=key, train=True, modality_dropout=0.7)["logits"]
        found = [np.isclose(logits, kind, atol=1e-3).all(1) for kind in kinds]
        assert (np.sum(found, axis=0) == 1).all()
        counts += np.sum(found, axis=1)
    assert counts.sum() == 30 and counts.min() >= 4
    assert not np.array_equal(
        *(run(fusion, BOTH, key=k, train=True, modality_dropout=0.7)["logits"] for k in (0, 1))
    )


def test_nothing_is_dropped_at_evaluation_nor_of_one_modality():
    plain = run("late", BOTH)["logits"]
    np.testing.assert_array_equal(run("late", BOTH, modality_dropout=0.9)["logits"], plain)
    seen = run("late", SEEN)["logits"]
    trained = run("late", SEEN, train=True, modality_dropout=0.9)["logits"]
    np.testing.assert_allclose(trained, seen, atol=1e-5)


def test_the_share_of_dropped_clips():
    inputs = {
        "video": np.tile(VIDEO[:1], (64, 1, 1, 1, 1)),
        "audio": np.tile(AUDIO[:1], (64, 1, 1)),
    }
    features = run("late", inputs, train=True, modality_dropout=0.6)["features"]
    blind, deaf = ~features[:, :32].any(1), ~features[:, 32:].any(1)
    assert 0.15 < blind.mean() < 0.45 and 0.15 < deaf.mean() < 0.45 and not (blind & deaf).any()


@pytest.mark.slow
def test_dropout_and_stochastic_depth_are_of_training_only():
    for fusion, fields in (
        ("mid", {"dropout": 0.3}),
        ("late", {"head_dropout": 0.3}),
        ("bottleneck", {"drop_path_rate": 0.5}),
    ):
        trained = [run(fusion, BOTH, key=k, train=True, **fields)["logits"] for k in (0, 1)]
        assert (trained[0] != trained[1]).any(), fields
        np.testing.assert_allclose(
            run(fusion, BOTH, **fields)["logits"], run(fusion, BOTH)["logits"], atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_computing_layers_again_changes_nothing(fusion):
    def gradients(model):
        def loss(params):
            outputs = model.apply(
                {"params": params}, BOTH, train=True, rngs={"dropout": jax.random.key(3)}
            )
            return jnp.sum(outputs["logits"] ** 2)

        return jax.jit(jax.grad(loss), compiler_options=QUICKLY)(noisy(fusion)["params"])

    plain = gradients(small(fusion, modality_dropout=0.5))
    again = gradients(small(fusion, modality_dropout=0.5, remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, again)


# --- sizes ------------------------------------------------------------------------------------------


def count(variant, fusion):
    model = audio_visual.build(400, variant=variant, fusion=fusion)
    leaves = jax.tree.leaves(shapes(model, audio_visual.example_inputs(variant)))
    assert {x.dtype for x in leaves} == {jnp.dtype(jnp.float32)}
    return sum(math.prod(x.shape) for x in leaves)


def test_parameters():
    layer = 12 * 768**2 + 12 * 768  # of both linear parts, biases but the keys', norms
    patches = (2 * 16 * 16 * 3 + 16 * 16 + 2) * 768 + 4 * 768  # both embeddings, both norms
    head = 769 * 400
    assert count("B", "bottleneck") == 24 * layer + patches + 4 * 768 + head
    assert count("B", "late") == 24 * layer + patches + head + 768 * 400
    assert count("B", "mid") == 20 * layer + patches + head
    assert 30_000 < count("test", "bottleneck") < 400_000


def test_positions_of_audio_tell_time_and_frequency():
    table = audio_visual.plane_positions(3, 5, 8).reshape(3, 5, 8)
    np.testing.assert_array_equal(table[2, 4, :4], sincos_table(3, 4)[2])
    np.testing.assert_array_equal(table[2, 4, 4:], sincos_table(5, 4)[4])
    assert len(np.unique(table.reshape(15, 8), axis=0)) == 15


def test_audio_of_any_length_ends_with_its_last_values_repeated():
    short = run("mid", {"audio": AUDIO[:, :21, :13]})
    padded = np.pad(AUDIO[:, :21, :13], ((0, 0), (0, 3), (0, 3)), mode="edge")
    np.testing.assert_allclose(short["logits"], run("mid", {"audio": padded})["logits"], atol=1e-5)
    assert run("mid", {"audio": AUDIO[:, :1, :1]})["tokens"].shape == (3, 1, 32)


def test_order_matters_to_both():
    for fusion in FUSIONS:
        for inputs in (SEEN, HEARD):
            backwards = {name: x[:, ::-1] for name, x in inputs.items()}
            forwards = run(fusion, inputs)["logits"]
            difference = np.abs(forwards - run(fusion, backwards)["logits"]).max()
            assert difference / np.abs(forwards).max() > 1e-3


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({}, "neither 'video' nor 'audio', but nothing"),
        ({"flow": VIDEO}, "neither 'video' nor 'audio', but flow"),
        ({"video": VIDEO[..., :2]}, "2 channels in the last axis, expected 3"),
        ({"video": VIDEO[:, :3]}, r"\(3, 16, 16\), expected multiples of the patch \(2, 8, 8\)"),
        ({"video": VIDEO, "audio": AUDIO[:2]}, r"shape \(2, 24, 16\): expected \(3, F, M\)"),
        ({"audio": AUDIO[0]}, r"shape \(24, 16\): expected \(24, F, M\)"),
        ({"audio": AUDIO[:, :0]}, r"shape \(3, 0, 16\): .* leave it out where there is none"),
    ],
)
def test_inputs_that_do_not_fit(inputs, words):
    with pytest.raises(ValueError, match=words):
        shapes(small(), inputs)


def test_fields_that_do_not_fit():
    with pytest.raises(UnknownNameError, match="unknown fusion 'early'.*bottleneck, late, mid"):
        shapes(small("early"), BOTH)
    with pytest.raises(ValueError, match="fusion_layer=2 of a model of 2 layers: expected 0 to 1"):
        shapes(small(fusion_layer=2), BOTH)
    assert shapes(small("late", fusion_layer=2), BOTH)
    with pytest.raises(ValueError, match="modality dropout rate is 1.0"):
        shapes(small(modality_dropout=1.0), BOTH)
    with pytest.raises(UnknownNameError, match="'audio_visual' has no variant 'XL'"):
        jaxvid.create_model("audio_visual", variant="XL", num_classes=2)
