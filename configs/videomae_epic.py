"""EPIC-KITCHENS-100: VideoMAE fine-tuned with a head of verbs and one of nouns.

    python -m jaxvid.main --config configs/videomae_epic.py --config.data.root=DIR --workdir W

DIR holds EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_100_{verb,noun}_classes.csv and P01/videos/P01_01.MP4, or
frames; `:test` is for seconds. Result: top-1 of verb, noun and action (the pair, from the joint probability), 2 clips × 3
crops. What is done stands at the edge of the picture as often as in its middle, hence the wide crops; segments run
from half a second to minutes and are seen from their beginning to their end.
Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-finetuned-kinetics).
"""

from jaxvid.config import default

ARGUMENTS = ("", "test")


def get_config(arg=""):
    if arg not in ARGUMENTS:
        raise KeyError(f"this recipe knows the arguments test, got {arg!r}")
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "epic_kitchens"
    c.data.batch_size = 128  # videos; the learning rate goes with it
    c.data.num_frames = 16
    c.data.size = 224
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.5, 1.0)},
    )
    c.data.num_frames = 32  # hands are quick and segments long
    c.data.sampling = "uniform"
    c.data.erasing_probability = 0.25

    c.objective.name = "multihead"
    c.eval.metric = "action_top1"
    c.objective.label_smoothing = 0.1

    c.eval.final_clips, c.eval.final_crops = 2, 3

    c.model.name = "videomae"
    c.model.variant = "B"
    c.model.overrides.drop_path_rate = 0.1

    c.optim.learning_rate = 5e-4
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 0.05
    c.optim.layer_decay = 0.75

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.train_views, c.data.num_frames, c.data.size = 4, 1, 4, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
