"""How a ResNet starts the model."""

import backbones
import numpy as np


def test_a_resnet_starts_it(tmp_path):
    fresh = {"projection", "fc", "head"}
    _, _, (ours, theirs) = backbones.check_start(tmp_path / "resnet", "late_fusion", fresh)
    np.testing.assert_array_equal(ours, theirs)
