"""Moments in Time: VideoMAE fine-tuned on 3 s clips of 339 events of uneven size.

    python -m jaxvid.main --config configs/videomae_moments.py --config.data.root=DIR --workdir W

DIR holds moments_categories.txt, trainingSet.csv, validationSet.csv, training/CLASS/ and validation/CLASS/; `:test`
is for seconds. Classes weigh the same in the loss (objective.class_weights), which helps the mean over classes
and costs some top-1: "none" is the other choice. Result: 2 clips × 3 crops, a clip being most of the 3 s.
Multi-Moments in Time needs --config.objective.name=multilabel --config.eval.metric=mAP
--config.objective.class_weights=none and no mixing: --config.data.mixup_alpha=0 --config.data.cutmix_alpha=0.

Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-finetuned-kinetics).
Other sizes: --config.model.variant=S, L, H.
"""

from jaxvid.config import default


def get_config(arg=""):
    if arg not in ("", "test"):
        raise KeyError(f"this recipe knows no argument but test, got {arg!r}")
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "moments_in_time"
    c.data.batch_size = 512  # videos; the learning rate goes with it
    c.data.train_views = 2  # clips a video a step
    c.data.num_frames = 16
    c.data.size = 224
    c.data.sampling, c.data.stride_frames = "dense", 4
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.08, 1.0)},
    )
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0

    c.model.name = "videomae"
    c.model.variant = "B"
    c.model.overrides.drop_path_rate = 0.1

    c.objective.label_smoothing = 0.1
    c.objective.class_weights = "balanced"

    c.optim.learning_rate = 5e-4
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 0.05
    c.optim.layer_decay = 0.75

    c.eval.every_epochs = 5.0
    c.eval.final_clips, c.eval.final_crops = 2, 3

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.train_views, c.data.num_frames, c.data.size = 4, 1, 4, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
