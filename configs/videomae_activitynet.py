"""ActivityNet 1.3: VideoMAE fine-tuned, on segments (one action each) or on whole videos (several
labels).

    python -m jaxvid.main --config configs/videomae_activitynet.py:untrimmed --config.data.root=DIR --workdir W

DIR holds activity_net.v1-3.min.json and v_ID.mp4 in any folders. After the colon: `trimmed` (default), a record a segment,
top-1; `untrimmed`, a record a video, binary cross-entropy and the mAP of whole videos, 10 clips × 3 crops; `test`
is for seconds. A fifth of the videos is gone from the web for most people: data.options.max_missing.
Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-finetuned-kinetics).
"""

from jaxvid.config import default

ARGUMENTS = ("trimmed", "untrimmed", "test")


def get_config(arg="trimmed"):
    if arg not in ARGUMENTS:
        raise KeyError(f"this recipe knows the arguments trimmed, untrimmed, test, got {arg!r}")
    c = default()
    c.run.epochs = 50.0

    c.data.dataset = "activitynet"
    c.data.batch_size = 128  # videos; the learning rate goes with it
    c.data.num_frames = 16
    c.data.size = 224
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.08, 1.0)},
    )
    c.data.options.max_missing = 0.25

    if arg == "untrimmed":
        c.data.options.untrimmed = True
        c.data.sampling = "uniform"  # minutes: a look at all of it rather than at seconds
        c.objective.name = "multilabel"
        c.eval.metric = "mAP"
        c.eval.final_clips, c.eval.final_crops = 10, 3
    else:
        c.data.sampling = "dense"
        c.data.erasing_probability = 0.25
        c.data.mixup_alpha = 0.8
        c.data.cutmix_alpha = 1.0
        c.objective.label_smoothing = 0.1
        c.eval.final_clips, c.eval.final_crops = 5, 3

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
