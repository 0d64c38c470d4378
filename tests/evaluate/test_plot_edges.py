"""Nothing of a picture is cut off at its edges."""

import numpy as np
import pytest
from PIL import Image

from jaxvid.evaluate.plots import confusion_png


@pytest.mark.parametrize("classes", [2, 61])
def test_the_labels_of_a_matrix_are_whole(tmp_path, classes):
    names = [f"class {i}" for i in range(classes)]
    confusion_png(tmp_path / "c.png", np.eye(classes, dtype=int), names, title="val")
    with Image.open(tmp_path / "c.png") as image:
        grey = np.asarray(image.convert("L"))
    edges = grey[0], grey[-1], grey[:, 0], grey[:, -1]
    assert [edge.min() for edge in edges] == [255] * 4
