"""processor_config.json, in which newer folders say of pixels what preprocessor_config.json said."""

import json

import numpy as np
import pytest

from jaxvid.convert import hf_folder, safetensors_file

PIXELS = {"image_processor_type": "CLIPImageProcessor", "image_mean": [0.1, 0.2, 0.3]}
PIXELS |= {"image_std": [0.5, 0.6, 0.7], "size": {"shortest_edge": 40}, "crop_size": 32}


def made(folder, **files):
    """A folder with these files of JSON beside its config and weights."""
    for name, value in {"config": {"model_type": "clip"}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    safetensors_file.write(folder / "model.safetensors", {"a": np.zeros(1, np.float32)})
    return folder


@pytest.mark.parametrize("part", ["image_processor", "video_processor"])
def test_pixels_are_a_part_of_it(tmp_path, part):
    said = {"processor_class": "CLIPProcessor", part: PIXELS}
    told = hf_folder.read(made(tmp_path, processor_config=said)).preprocessing
    assert told["mean"] == (0.1, 0.2, 0.3) and told["std"] == (0.5, 0.6, 0.7)
    assert (told["size"], told["short_side"]) == (32, 40)


def test_without_such_a_part_it_tells_nothing(tmp_path):
    folder = made(tmp_path, processor_config={"processor_class": "CLIPProcessor"})
    assert hf_folder.read(folder).preprocessing == {}


def test_the_file_of_pixels_alone_counts_before_it(tmp_path):
    other = {**PIXELS, "image_mean": [0.0] * 3}
    folder = made(tmp_path, preprocessor_config=PIXELS, processor_config={"image_processor": other})
    assert hf_folder.read(folder).preprocessing["mean"] == (0.1, 0.2, 0.3)


@pytest.mark.torch
def test_transformers_reads_it_so(tmp_path):
    transformers = pytest.importorskip("transformers")
    made(tmp_path, processor_config={"image_processor": PIXELS})
    theirs = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
    assert theirs.image_mean == PIXELS["image_mean"]
    assert hf_folder.read(tmp_path).preprocessing["mean"] == tuple(theirs.image_mean)
