"""Your own clips, listed in a csv or JSON: VideoMAE fine-tuned on them.

    python -m jaxvid.main --config configs/videomae_table.py --config.data.root=DIR --workdir W

DIR holds train.csv and val.csv with a header, path,label[,start,end], and paths relative to DIR; see
jaxvid/data/datasets/table.py for all else that is understood (JSON, one table with a column `split`, numbers for
labels). Try `jaxvid data check DIR` first. After the colon: `single` (default), one label a clip, top-1; `multilabel`, several labels
divided by `;`, binary cross-entropy and mAP; `test` is for seconds. Classes with sides (turning left, turning right): set
data.flip_probability=0.
Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-finetuned-kinetics): a few hundred
clips are too few without.
"""

from jaxvid.config import default

ARGUMENTS = ("single", "multilabel", "test")


def get_config(arg="single"):
    if arg not in ARGUMENTS:
        raise KeyError(f"this recipe knows the arguments single, multilabel, test, got {arg!r}")
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "table"
    c.data.num_frames = 16
    c.data.size = 224
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.4, 1.0)},
    )
    c.data.batch_size = 16
    c.data.sampling = "uniform"
    c.data.erasing_probability = 0.25

    if arg == "multilabel":
        c.data.options.multilabel = True
        c.objective.name = "multilabel"
        c.eval.metric = "mAP"
    else:
        c.data.mixup_alpha = 0.8
        c.data.cutmix_alpha = 1.0
        c.data.mix_probability = (
            0.5  # of few classes little is left to see when every clip is mixed
        )
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
