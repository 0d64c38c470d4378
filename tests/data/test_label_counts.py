from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.label_counts import balance, class_names_of_heads, label_counts


def index(labels, names, **fields):
    records = tuple(VideoRecord(f"/{i}", str(i), row) for i, row in enumerate(labels))
    return DatasetIndex(records, names, **fields)


def test_counts_by_name_in_label_order():
    single = index([(1,), (1,), (0,), ()], ("run", "jump", "sit"))
    assert label_counts(single) == {"": {"run": 1, "jump": 2, "sit": 0}}
    several = index([(0, 1), (1,)], ("run", "jump"), multilabel=True)
    assert label_counts(several) == {"": {"run": 1, "jump": 2}}
    heads = index([(0, 1), (0, 0)], ("cut", "knife", "egg"), heads={"verb": 1, "noun": 2})
    assert label_counts(heads) == {"verb": {"cut": 2}, "noun": {"knife": 1, "egg": 1}}


def test_classes_of_one_name_stay_apart():
    assert class_names_of_heads(index([], ("run", "sit", "run"))) == {
        "": ("run [0]", "sit", "run [2]")
    }


def test_balance():
    assert balance({"run": 6, "jump": 2, "sit": 0}) == {
        "labels": 8,
        "classes": 3,
        "empty": 1,
        "largest_share": 0.75,
        "ratio": 3.0,
    }
    assert balance({"run": 0})["ratio"] == 0
