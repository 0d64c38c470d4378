"""ViViTs that start from an image model: what is copied, inflated and fresh (Arnab et al. 2021, 3.4)."""

import jax
import numpy as np
import pytest
from vivit_runs import random_variables, run

from jaxvid import model_tree, pretrained, saving
from jaxvid.convert import reading, source
from jaxvid.core.errors import ConversionError


@pytest.fixture(scope="module")
def image():
    """(model, variables, checkpoint) of an image ViT, timm's keys."""
    model = pretrained.create_model("vit", variant="test", num_classes=9, norm_eps=1e-5)
    variables = random_variables(model, (1, 32, 32, 3))
    state = saving.to_state_dict(model, variables, arch="timm/vit", clip=(1, 32, 32, 3))
    config = source.find("timm/vit").source.config(model_tree.arguments_of(model), (1, 32, 32, 3))
    return model, variables, reading.from_state(state, "timm/vit", config)


def features(model, variables, video):
    return np.asarray(run(model, variables, video)["features"])


def started(checkpoint, **fields):
    return pretrained.from_checkpoint(
        checkpoint, "vivit", num_classes=5, **{"pool": "token", **fields}
    )


def test_an_image_model_starts_model_1(image):
    model, variables, info = started(image[2])
    assert info["fresh"] == ["head/bias", "head/kernel"] and info["clip"] == [32, 32, 32, 3]
    assert (model.activation, model.norm_eps, model.num_heads) == ("gelu", 1e-5, 4)
    kernel = variables["params"]["patch_embed"]["kernel"]
    assert kernel.shape == (2, 8, 8, 3, 48) and not kernel[0].any()
    np.testing.assert_array_equal(kernel[1], image[1]["params"]["patch_embed"]["kernel"][0])
    table = variables["params"]["encoder"]["position_embedding"]
    one = image[1]["params"]["encoder"]["position_embedding"]
    assert table.shape == (16, 4, 4, 48) and all((frame == one).all() for frame in table)


def test_model_2_starts_with_the_image_models_features(image):
    """The spatial encoder sees what the image model sees of the central frames."""
    model, variables, info = started(image[2], attention="factorised_encoder", temporal_depth=1)
    fresh = {path.split("/")[0] for path in info["fresh"]}
    assert fresh == {"head", "temporal_encoder"}
    video = np.random.default_rng(5).normal(size=(1, 32, 32, 32, 3)).astype(np.float32)
    _, kept = model.apply(
        variables,
        {"video": video},
        train=False,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    of_frames = kept["intermediates"]["spatial_encoder"]["norm"]["__call__"][0][:, 0]
    frames = video[0, 1::2, None]  # each a clip of one frame
    np.testing.assert_allclose(of_frames, features(*image[:2], frames), atol=1e-5)


@pytest.mark.slow
def test_model_3_starts_as_the_image_model(image):
    fields = {"attention": "factorised_self_attention", "pool": "mean", "temporal_init": "zeros"}
    model, variables, info = started(image[2], **fields)
    temporal = {path.split("/")[2] for path in info["fresh"] if path.startswith("encoder/")}
    assert temporal == {"temporal_norm", "temporal_attention"}
    assert "encoder/class_token" in info["waived"]
    # Without its class token the image model sees the same of a frame.
    spatial = pretrained.create_model("vit", variant="test", num_classes=9, norm_eps=1e-5)
    spatial = spatial.clone(pool="mean")
    params = jax.tree.map(lambda x: x, image[1])
    for name in ("class_token", "class_position_embedding"):
        del params["params"]["encoder"][name]
    video = np.random.default_rng(5).normal(size=(1, 32, 32, 32, 3)).astype(np.float32)
    got = features(model, variables, video)
    np.testing.assert_allclose(got, features(spatial, params, video[:, 1::2]), atol=1e-5)


def test_model_4_and_frames_of_their_own(image):
    fields = {"attention": "factorised_dot_product", "pool": "mean", "tubelet_size": 1}
    _, variables, info = started(image[2], **fields, sampled_frames=8)
    np.testing.assert_array_equal(
        variables["params"]["patch_embed"]["kernel"], image[1]["params"]["patch_embed"]["kernel"]
    )
    assert variables["params"]["encoder"]["position_embedding"].shape == (8, 4, 4, 48)
    assert info["fresh"] == ["head/bias", "head/kernel"]


def test_an_image_model_of_other_patches_does_not_fit(image):
    with pytest.raises(ConversionError, match="no inflation of a kernel .8, 8, 3, 48."):
        started(image[2], patch_size=16)
