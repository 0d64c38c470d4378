"""`jaxvid predict` on real files: the same numbers as by hand, bad files reported, exit codes."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvid import model_tree, pretrained, saving
from jaxvid.cli import main, predict
from jaxvid.data import sampling
from jaxvid.data.transform_list import build_transforms
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import video
from jaxvid.infer import predictor

CLIPS = Path(__file__).parents[1] / "data" / "clips"
FILES = [str(CLIPS / name) for name in ("arm_wrestling.mp4", "rotation_90.mov", "h265.mp4")]
TOLD = {
    "num_frames": 4,
    "size": 16,
    "short_side": 20,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.4],
    "sampling": "linspace",
}
NAMES = ["walk", "fight", "hug"]


def export(path, **info):
    model = pretrained.create_model("videomae", variant="test", num_classes=3, head_init_scale=1.0)
    shapes = model_tree.variable_shapes(model, (4, 16, 16, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.3, shapes)
    info = {"preprocessing": TOLD, "class_names": NAMES} | info
    saving.save_pretrained(path, model, variables, info)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("predict") / "export")


def by_hand(folder, path):
    model, variables, _ = pretrained.from_pretrained(folder)
    with video.open(path) as reader:
        frames = reader.frames_at(sampling.linspace(reader.meta.num_frames, 4)[0])
    clip = {"video": frames[None]}
    for transform in build_transforms(
        ({"name": "short_side_resize", "size": 20}, {"name": "centre_crop", "size": 16})
    ):
        clip = transform.map(clip)
    x = (clip["video"] / 255 - np.array(TOLD["mean"])) / np.array(TOLD["std"])
    return jax.nn.softmax(model.apply(variables, {"video": x}, train=False)["logits"])[0]


def test_every_file_gets_the_probabilities_of_its_own_clip(folder, capsys):
    assert main(["predict", *FILES, "--checkpoint", folder, "--json", "--batch-size", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in told] == FILES
    for path, entry in zip(FILES, told, strict=True):
        expected = by_hand(folder, path)
        found = {p["index"]: p["probability"] for p in entry["predictions"]}
        np.testing.assert_allclose([found[i] for i in range(3)], expected, atol=1e-5)
        probabilities = [p["probability"] for p in entry["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert [NAMES[p["index"]] for p in entry["predictions"]] == [
            p["label"] for p in entry["predictions"]
        ]
    assert len({entry["predictions"][0]["probability"] for entry in told}) == 3


def test_the_table_has_the_best_k(folder, capsys):
    assert predict.run([FILES[0], "--checkpoint", folder, "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    best = np.argsort(-np.asarray(by_hand(folder, FILES[0])))[:2]
    assert lines[0] == FILES[0] and len(lines) == 3
    assert [line.split("%  ")[1] for line in lines[1:]] == [NAMES[i] for i in best]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_file_is_reported_and_the_rest_done(folder, tmp_path, capsys, as_json):
    bad = tmp_path / "cut short.mp4"
    bad.write_bytes(Path(FILES[0]).read_bytes()[:2000])
    asked = [FILES[0], str(bad), str(tmp_path / "absent.mp4"), FILES[2]]
    options = ["--json"] if as_json else []
    assert predict.run([*asked, "--checkpoint", folder, *options]) == 1
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "cut short.mp4" in errors[0] and "absent.mp4" in errors[1]
    if as_json:
        told = json.loads(out)
        assert [sorted(entry) for entry in told] == [
            ["path", "predictions"],
            ["error", "path"],
            ["error", "path"],
            ["path", "predictions"],
        ]
        assert "no such file" in told[2]["error"]
    else:
        assert [line for line in out.splitlines() if not line.startswith(" ")] == [
            asked[0],
            asked[3],
        ]


def test_a_folder_of_videos_is_its_videos(folder, tmp_path, capsys):
    for name in ("b10.mp4", "b2.mp4"):
        (tmp_path / name).write_bytes(Path(FILES[0]).read_bytes())
    (tmp_path / "cover.jpg").write_bytes(b"no frame of either")
    assert predict.run([str(tmp_path), "--checkpoint", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in told] == ["b2.mp4", "b10.mp4"]


def test_flow_for_a_model_that_sees_none(folder, capsys):
    assert predict.run([FILES[0], "--checkpoint", folder, "--flow", "dis"]) == 2
    assert "sees no optical flow: leave --flow dis away" in capsys.readouterr().err


def test_the_first_bad_file_ends_it_where_asked(folder, tmp_path, capsys):
    asked = [FILES[0], str(tmp_path / "absent.mp4"), FILES[2]]
    options = ["--on-error", "raise", "--batch-size", "1"]
    assert predict.run([*asked, "--checkpoint", folder, *options]) == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if not line.startswith(" ")] == asked[:1]
    assert "absent.mp4" in err


def test_views_are_averaged(folder, capsys):
    command = [FILES[0], "--checkpoint", folder, "--json"]
    found = []
    for options in ([], ["--clips", "2", "--crops", "3"]):
        assert predict.run([*command, *options]) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["predictions"][0]["probability"])
    assert found[0] != found[1]


def test_classes_without_names_are_numbered(tmp_path, capsys):
    folder = export(tmp_path / "nameless", class_names=None)
    assert predict.run([FILES[0], "--checkpoint", folder, "--top-k", "1"]) == 0
    assert "class " in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, words",
    [
        (["--checkpoint", "nowhere"], "nowhere: no such checkpoint"),
        (["--labels", "a,b"], "no tokenizer files"),
        (["--arch", "x3d"], "cannot start model 'x3d'"),
    ],
)
def test_what_cannot_start_says_why(folder, capsys, options, words):
    pytest.importorskip("tokenizers")
    assert predict.run([FILES[0], "--checkpoint", folder, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err


def test_a_checkpoint_without_classes(tmp_path, capsys):
    model = pretrained.create_model("videomae_pretrain", variant="test")
    shapes = model_tree.variable_shapes(model, (4, 16, 16, 3))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    saving.save_pretrained(tmp_path / "own", model, zeros, {"preprocessing": TOLD})
    assert predict.run([FILES[0], "--checkpoint", str(tmp_path / "own")]) == 2
    assert "has no classes of its own; fine-tune it first" in capsys.readouterr().err


def test_a_fresh_head_predicts_nothing(folder, tmp_path, capsys):
    fresh = str(tmp_path / "fresh")
    saving.save_pretrained(fresh, *pretrained.from_pretrained(folder, num_classes=5))
    assert predict.run([FILES[0], "--checkpoint", fresh]) == 2
    assert "has no weights for head/" in capsys.readouterr().err


def test_a_model_of_flow_asks_how(tmp_path, capsys):
    model = pretrained.create_model("i3d", variant="test", num_classes=2, stream="flow", channels=2)
    shapes = model_tree.variable_shapes(model, (8, 32, 32, 2))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    told = TOLD | {"num_frames": 8, "size": 32, "short_side": 32}
    path = str(tmp_path / "flow")
    saving.save_pretrained(path, model, zeros, {"preprocessing": told})
    assert predict.run([FILES[0], "--checkpoint", path]) == 2
    assert "sees optical flow; say how it is computed: --flow tvl1 or --flow dis" in (
        capsys.readouterr().err
    )
    pytest.importorskip("cv2")
    assert predict.run([FILES[0], "--checkpoint", path, "--flow", "dis", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert [p["probability"] for p in entry["predictions"]] == [0.5, 0.5]


def test_flow_of_a_store_goes_to_the_next_frame(tmp_path, capsys):
    model = pretrained.create_model("i3d", variant="test", num_classes=2, stream="flow", channels=2)
    shapes = model_tree.variable_shapes(model, (8, 32, 32, 2))
    rng = np.random.default_rng(0)
    draw = jax.tree.map(lambda x: rng.uniform(0.1, 0.9, x.shape).astype(np.float32), shapes)
    told = TOLD | {"num_frames": 8, "size": 32, "short_side": 32, "decode_short_side": 32}
    path = str(tmp_path / "flow")
    saving.save_pretrained(path, model, draw, {"preprocessing": told | {"flow": "stored"}})
    assert predict.run([FILES[0], "--checkpoint", path]) == 2
    assert "store that is not here to tell its method; say which jaxvid data prepare was given" in (
        capsys.readouterr().err
    )
    pytest.importorskip("cv2")
    assert predictor.reading(told | {"flow": "stored"}, flow="dis").flow_to_next
    assert not predictor.reading(told | {"flow": "dis"}, flow="dis").flow_to_next
    source = predictor.reading(told | {"flow": "dis", "flow_to_next": True}, flow="dis").source(
        FILES[:1]
    )
    with video.open(FILES[0], short_side=32) as reader:
        wanted = sampling.linspace(reader.meta.num_frames, 8)[0]
        pairs = [reader.frames_at([i, i + 1]) for i in wanted[:-1]]
    steps = np.stack([optical_flow.flow(pair, "dis")[0] for pair in pairs])
    cut = (steps.shape[2] - 32) // 2
    ours = source.load(0, None)["flow"][0, :-1]
    apart = np.abs(ours - steps[:, :32, cut : cut + 32].clip(-20, 20))
    assert apart.mean() < 0.16 < np.abs(steps).mean(), "a level"
    assert predict.run([FILES[0], "--checkpoint", path, "--flow", "dis"]) == 0


def test_an_export_of_several_labels_a_clip(folder, tmp_path, capsys):
    task = {"kind": "multilabel", "heads": {}, "pooling": "max"}
    several = export(tmp_path / "several", task=task)
    command = [FILES[0], "--checkpoint", several]
    assert predict.run([*command, "--json"]) == 0
    found = {
        p["index"]: p["probability"] for p in json.loads(capsys.readouterr().out)[0]["predictions"]
    }
    odds = {i: p / (1 - p) for i, p in found.items()}  # of sigmoids as those of the softmax's parts
    shares = np.array([odds[i] for i in range(3)]) / sum(odds.values())
    np.testing.assert_allclose(shares, by_hand(folder, FILES[0]), atol=1e-4)
    best, *_, worst = sorted(found.values(), reverse=True)
    for threshold, count in ((worst, 3), (best, 1), (1.0, 0)):
        assert predict.run([*command, "--threshold", repr(threshold)]) == 0
        lines = capsys.readouterr().out.splitlines()[1:]
        assert len(lines) == max(1, count)
    assert lines == ["  nothing of 100.0% or more"]
    assert predict.run([*command, "--threshold", repr(worst), "--top-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_export_of_two_heads(tmp_path, capsys):
    task = {"kind": "multihead", "heads": {"verb": 2, "noun": 1}, "pooling": "mean"}
    path = export(tmp_path / "heads", task=task, class_names=["cut", "wash", "tap"])
    assert predict.run([FILES[0], "--checkpoint", path, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    verbs = {p["label"]: p["probability"] for p in entry["heads"]["verb"]}
    assert set(verbs) == {"cut", "wash"} and sum(verbs.values()) == pytest.approx(1, abs=1e-5)
    (tap,) = entry["heads"]["noun"]
    assert (tap["label"], tap["index"]) == ("tap", 0)
    assert tap["probability"] == pytest.approx(1, abs=1e-5)
    assert [a["labels"] for a in entry["actions"]] == [
        {"verb": p["label"], "noun": "tap"} for p in entry["heads"]["verb"]
    ]
    assert entry["actions"][1]["indices"]["verb"] == entry["heads"]["verb"][1]["index"]
    assert predict.run([FILES[0], "--checkpoint", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[1], lines[4], lines[6]] == [" verb", " noun", " action"]
    assert lines[-1].endswith("%  " + min(verbs, key=verbs.get) + " · tap")


@pytest.mark.parametrize(
    "option, words",
    [
        (["--top-k", "0"], "0 is below 1"),
        (["--box", "0.5,0,0.2,1"], "0.5,0,0.2,1 is no part of the picture: expected shares"),
        (["--box", "1,2"], "1,2 is no part of the picture: expected shares"),
        (["--deadline-seconds", "0"], "0 is not above 0"),
        (["--threshold", "50"], "50 is no probability: expected 0 to 1"),
    ],
)
def test_numbers_that_cannot_be(folder, capsys, option, words):
    with pytest.raises(SystemExit):
        predict.run([FILES[0], "--checkpoint", folder, *option])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_frames": None}, "does not say its num_frames"),
        ({"mean": None}, "does not say the mean of its pixels"),
    ],
)
def test_preprocessing_that_is_missing(change, words):
    told = TOLD | change
    with pytest.raises(ValueError, match=words):
        predictor.reading(told)
        predictor.fixed_classes(None, {}, told)


def test_what_the_function_refuses():
    with pytest.raises(ValueError, match="crops is 2, expected 1"):
        predictor.reading(TOLD, crops=2)
    with pytest.raises(ValueError, match="there are no videos"):
        next(predictor.predict(None, [], predictor.reading(TOLD)))
    with pytest.raises(ValueError, match="a.mp4 has no probabilities: broken"):
        predictor.Prediction("a.mp4", None, "broken").top(1)
