"""HMDB51: VideoMAE fine-tuned as in its paper (Tong et al. 2022, appendix), a fold at a time.

    python -m jaxvid.main --config configs/videomae_hmdb51.py:1 --config.data.root=DIR --workdir W/fold1

The argument is the fold: 1 (default), 2, 3; `test` is for seconds. DIR holds
testTrainMulti_7030_splits/ and hmdb51_org/CLASS/. A published accuracy is the mean of the three
folds, 5 clips × 3 crops; the paper's ViT-B reaches 62.6 % when pretrained on HMDB51 alone and 73.3
% from Kinetics-400.

Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base).
Other sizes: --config.model.variant=S, L, H.
"""

from jaxvid.config import default

FOLDS = ("1", "2", "3")


def get_config(arg="1"):
    if arg not in (*FOLDS, "test"):
        raise KeyError(f"this recipe knows the folds 1, 2, 3 and test, got {arg!r}")
    c = default()
    c.run.epochs = 50.0

    c.data.dataset = "hmdb51"
    c.data.val_split = "test"  # the set has no third part
    c.data.options.fold = 1 if arg == "test" else int(arg)
    c.data.batch_size = 128  # videos; the learning rate goes with it
    c.data.train_views = 2  # clips a video a step
    c.data.num_frames = 16
    c.data.size = 224
    c.data.sampling, c.data.stride_frames = "dense", 2
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
    c.model.overrides.drop_path_rate = 0.2
    c.model.overrides.head_dropout = 0.5

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-3
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 0.05
    c.optim.layer_decay = 0.7

    c.eval.every_epochs = 5.0
    c.eval.final_clips, c.eval.final_crops = 5, 3

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.train_views, c.data.num_frames, c.data.size = 4, 1, 4, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
