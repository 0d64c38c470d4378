"""Jester, gestures before a camera: VideoMAE fine-tuned with the recipe of Something-Something V2.

    python -m jaxvid.main --config configs/videomae_jester.py --config.data.root=DIR --workdir W

DIR (data/jester) holds jester-v1-{train,validation,labels}.csv and 20bn-jester-v1/ID/00001.jpg, …;
`:test` is for seconds. A flipped swipe to the left is one to the right: flips swap those labels.
Result: 2 clips × 3 crops.

Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-ssv2).
Other sizes: --config.model.variant=S, L, H.
"""

from jaxvid.config import default

SIDES = (
    ("Swiping Left", "Swiping Right"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
)


def get_config(arg=""):
    if arg not in ("", "test"):
        raise KeyError(f"this recipe knows no argument but test, got {arg!r}")
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "ssv1"
    c.data.root = "data/jester"
    c.data.batch_size = 512  # videos; the learning rate goes with it
    c.data.train_views = 2  # clips a video a step
    c.data.num_frames = 16
    c.data.size = 224
    c.data.sampling = "uniform"  # an action from its beginning to its end
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.08, 1.0)},
    )
    c.data.flip_probability = 0.5
    c.data.flip_swaps = SIDES
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0

    c.model.name = "videomae"
    c.model.variant = "B"
    c.model.overrides.drop_path_rate = 0.1

    c.objective.label_smoothing = 0.1

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
