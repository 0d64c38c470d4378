"""Kinetics-400, -600 or -700: VideoMAE fine-tuned as in its paper (Tong et al. 2022, appendix).

    python -m jaxvid.main --config configs/videomae_kinetics.py:400 --config.data.root=DIR --workdir W

The argument is the release: 400 (default), 600, 700; `test` is for seconds. DIR holds train.csv,
val.csv and the clips in train/CLASS/, val/CLASS/ (see data/datasets/kinetics.py). Links die: up to
a tenth of the clips may be missing, and the log says how many are. Result: 5 clips × 3 crops; the
paper's ViT-B reaches 81.5 % on Kinetics-400 after 1,600 epochs of pretraining. Made for some 16
accelerators of 80 GB; with fewer, a smaller data.batch_size.

Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base);
with -base-finetuned-kinetics --mode eval measures the published weights.
Other sizes: --config.model.variant=S, L, H.
"""

from jaxvid.config import default

RELEASES = ("400", "600", "700")


def get_config(arg="400"):
    if arg not in (*RELEASES, "test"):
        raise KeyError(f"this recipe knows the releases 400, 600, 700 and test, got {arg!r}")
    c = default()
    c.run.epochs = 75.0

    c.data.dataset = "kinetics"
    c.data.options.release = 400 if arg == "test" else int(arg)
    c.data.options.max_missing = 0.1  # dead links
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

    c.optim.learning_rate = 1e-3
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 0.05
    c.optim.layer_decay = 0.75

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
