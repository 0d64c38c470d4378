"""What preprocessor_config.json leaves unsaid, and what it says that jaxvid does in another way."""

import json
import logging
import re

import numpy as np
import pytest

from jaxvid.convert import hf_folder, hf_processor, preprocessing, safetensors_file
from jaxvid.core.errors import ConversionError

HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARE = {"height": 224, "width": 224}
PUBLISHED = {  # the files of checkpoints on the Hugging Face hub
    "videomae": (
        {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": {"shortest_edge": 224}},
        224,
    ),
    "vivit": (
        {"image_processor_type": "VivitImageProcessor", "size": {"shortest_edge": 256}},
        256,
    ),
    "timesformer": (
        {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 224}},
        224,
    ),
    "xclip": ({"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 224}, 224),
}


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "jaxvid")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("crop", [{"crop_size": SQUARE}, {"crop_size": 224}, {}])
def test_published_files_are_followed_without_a_word(name, crop, said):
    file, short_side = PUBLISHED[name]
    told = preprocessing.from_hf({**file, **crop, **HALVES, "resample": 2})
    assert told["size"] == 224 and told["short_side"] == short_side
    assert said() == []


@pytest.mark.parametrize(
    "name, size, short_side, mean, std",
    [
        ("VideoMAEImageProcessor", 224, 224, 0.5, 0.5),
        ("VideoMAEFeatureExtractor", 224, 224, 0.5, 0.5),
        ("VivitImageProcessor", 224, 256, 1.0 * 127.5 / 255 + 0.25, 0.25),
        ("CLIPImageProcessorFast", 224, 224, 0.48145466, 0.26862954),
        ("VJEPA2VideoProcessor", 256, 292, 0.485, 0.229),
    ],
)
def test_what_is_not_said_is_the_default_of_the_class(name, size, short_side, mean, std):
    key = "video_processor_type" if name.endswith("VideoProcessor") else "image_processor_type"
    for file in ({key: name}, {key: name, "size": None, "crop_size": None, "image_mean": None}):
        told = preprocessing.from_hf(file)
        assert (told["size"], told["short_side"]) == (size, short_side)
        np.testing.assert_allclose((told["mean"][0], told["std"][0]), (mean, std), rtol=1e-6)


@pytest.mark.parametrize("name", ["VideoMAEImageProcessor", "VivitImageProcessor"])
def test_the_defaults_are_those_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    whole = getattr(transformers, name)().to_dict()
    assert preprocessing.from_hf({"image_processor_type": name}) == preprocessing.from_hf(whole)


def test_a_size_without_a_crop_is_cropped_as_the_class_does():
    file = {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 256}}
    told = preprocessing.from_hf(file)
    assert (told["size"], told["short_side"]) == (224, 256)
    assert preprocessing.from_hf({"size": 256}) == {"size": 256, "short_side": 256}


@pytest.mark.parametrize("crop, short_side", [(64, 73), ({"height": 384, "width": 384}, 438)])
def test_the_size_of_vjepa2_follows_its_crop(crop, short_side, said):
    file = {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": crop}
    told = preprocessing.from_hf({**file, "size": {"shortest_edge": 292}})
    assert told["short_side"] == short_side and said() == []


@pytest.mark.parametrize(
    "changes, told, message",
    [
        (
            {"size": {"height": 64, "width": 64}, "do_center_crop": False},
            (64, 64),
            "p.json: size with height and width squashes .* short side to 64, .* square of 64",
        ),
        (
            {"size": {"height": 64, "width": 64}, "crop_size": 56},
            (56, 64),
            "squashes frames that are no squares.* short side to 64, .* square of 56",
        ),
        (
            {"size": {"shortest_edge": 64}, "do_center_crop": False},
            (64, 64),
            "do_center_crop=False keeps the whole",
        ),
        (
            {"do_resize": False, "size": 256, "crop_size": 64, "resample": 3},
            (64, 64),
            "do_resize=False takes frames in the size they have. jaxvid resizes the short side to 64",
        ),
        ({"size": 64, "crop_size": 96}, (96, 64), "crop_size is larger than size=64 and pads"),
        ({"size": 64, "resample": 3}, (64, 64), r"resample=3 is another filter \(bicubic\)"),
        ({"size": 64, "resample": 9}, (64, 64), r"resample=9 is another filter \(unknown\)"),
        (
            {"size": {"height": 64, "width": 64}, "resample": 0},
            (64, 64),
            r"squashes .*; resample=0 is another filter \(nearest\)\. jaxvid",
        ),
    ],
)
def test_what_is_done_in_another_way_is_said_in_one_line(changes, told, message, said):
    found = preprocessing.from_hf(changes, "p.json")
    assert (found["size"], found["short_side"]) == told
    (line,) = said()
    assert re.search(message, line)


def test_frames_of_no_known_size_are_the_models(said):
    assert preprocessing.from_hf({"do_resize": False, "do_center_crop": False}) == {}
    assert "resizes the short side to the model's size" in said()[0]


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"size": {"height": 64, "width": 96}},
            r"p.json: size is {'height': 64, 'width': 96}: clips",
        ),
        ({"size": 64, "crop_size": {"height": 64, "width": 32}}, "crop_size is .* are squares"),
        ({"size": {"longest_edge": 64}}, "size is {'longest_edge': 64}: .*expected is a number"),
        ({"size": [64, 64]}, r"size is \[64, 64\]"),
    ],
)
def test_rectangles_are_refused(config, message):
    with pytest.raises(ConversionError, match=message):
        preprocessing.from_hf(config, "p.json")


def test_the_files_name_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "demo"}')
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 8, "width": 16}})
    )
    safetensors_file.write(tmp_path / "model.safetensors", {"w": np.ones(2, np.float32)})
    with pytest.raises(ConversionError, match="preprocessor_config.json: size is"):
        hf_folder.read(tmp_path)


def test_what_is_said_counts_before_the_class():
    whole = hf_processor.complete({"image_processor_type": "CLIPImageProcessor", "resample": 2})
    assert whole["resample"] == 2 and whole["crop_size"] == 224
    whole = hf_processor.complete({"image_processor_type": "Another", "size": 7})
    assert whole == {"image_processor_type": "Another", "size": 7}
