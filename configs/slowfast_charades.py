"""Charades: SlowFast fine-tuned for several labels a video (Feichtenhofer et al. 2019, section 4.2).

    python -m jaxvid.main --config configs/slowfast_charades.py --config.data.root=DIR --workdir W

DIR holds Charades_v1_{train,test}.csv, Charades_v1_classes.txt and Charades_v1_480/; `:test` is for
seconds. Binary cross-entropy; the result is the mAP of whole videos over 10 clips × 3 crops, the
highest score of each class among them; the paper's is 42.1 (R101 16 × 8 from Kinetics-400).

The weights to start from are those of Kinetics: --config.init.checkpoint=SLOWFAST_16x8_R101_50_50.pyth
--config.init.arch=pytorchvideo/slowfast_r101 with --config.model.variant=R101_16x8.
"""

from jaxvid.config import default


def get_config(arg=""):
    if arg not in ("", "test"):
        raise KeyError(f"this recipe knows no argument but test, got {arg!r}")
    c = default()
    c.run.epochs = 57.0

    c.data.dataset = "charades"
    c.data.batch_size = 16
    c.data.num_frames = 64
    c.data.size = 224
    c.data.sampling = "dense"
    c.data.stride_frames = 2
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 224, "scale": (0.4, 1.0)},)
    c.data.val_split = "test"  # what papers report on

    c.model.name = "slowfast"
    c.model.variant = "R101_16x8"

    c.objective.name = "multilabel"

    c.optim.name = "sgd"
    c.optim.learning_rate = 0.0375
    c.optim.scale_to_batch = 16
    c.optim.warmup_epochs = 4.0
    c.optim.weight_decay = 0.0001

    c.eval.metric = "mAP"
    c.eval.pooling = "max"
    c.eval.every_epochs = 5.0
    c.eval.final_clips, c.eval.final_crops = 10, 3

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.num_frames, c.data.size = 4, 8, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
