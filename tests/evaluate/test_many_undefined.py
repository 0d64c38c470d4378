"""What is undefined among hundreds of classes is said in a line, not in a screen of names."""

import numpy as np

from jaxvid.evaluate.classify import classification_metrics


def test_names_of_many_classes_are_counted():
    names = [f"class {i}" for i in range(40)]
    got = classification_metrics(np.eye(40)[:3], np.arange(3), names)
    first = ", ".join(names[3:13])
    assert got["undefined"] == [
        f"recall: no clips of {first} and 27 more (left out of mean_class_accuracy)",
        f"precision: never predicted: {first} and 27 more",
    ]
