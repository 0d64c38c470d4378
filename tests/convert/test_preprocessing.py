import numpy as np
import pytest

from jaxvid.convert import preprocessing

VIDEOMAE = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def test_the_usual_processor():
    told = preprocessing.from_hf(VIDEOMAE)
    assert told["size"] == 224 and told["short_side"] == 224
    np.testing.assert_allclose(told["mean"], preprocessing.IMAGENET_MEAN)
    np.testing.assert_allclose(told["std"], preprocessing.IMAGENET_STD)


def test_an_old_processor_gives_its_size_as_a_number():
    told = preprocessing.from_hf({"size": 320, "crop_size": 288, "do_center_crop": True})
    assert told == {"size": 288, "short_side": 320}
    told = preprocessing.from_hf({"size": {"height": 96, "width": 96}, "do_center_crop": False})
    assert told == {"size": 96, "short_side": 96}
    assert preprocessing.from_hf({}) == {}


@pytest.mark.parametrize(
    "change",
    [
        {
            "rescale_factor": 1 / 127.5,
            "offset": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False},
        {"do_normalize": False},
        {"image_mean": 0.45, "image_std": 0.225},
    ],
)
def test_other_scalings_are_folded_into_mean_and_std(change):
    config = {**VIDEOMAE, **change}
    pixel = np.array([0.0, 100.0, 255.0])
    x = pixel * config["rescale_factor"] if config["do_rescale"] else pixel
    x = x - 1 if config.get("offset") else x
    if config["do_normalize"]:
        x = (x - np.asarray(config["image_mean"])) / np.asarray(config["image_std"])
    told = preprocessing.from_hf(config)
    np.testing.assert_allclose((pixel / 255 - told["mean"]) / told["std"], x, rtol=1e-6, atol=1e-6)


def test_there_and_back():
    told = {"size": 96, "short_side": 128, "mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}
    assert preprocessing.from_hf(preprocessing.to_hf(told, "VideoMAEImageProcessor")) == told
