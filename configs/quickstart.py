"""Ten minutes with jaxvid: four motions, told apart by a small VideoMAE trained from scratch on a CPU.

    python -m jaxvid.main --config configs/quickstart.py --workdir runs/quickstart
    python -m jaxvid.main --config configs/quickstart.py:x3d --workdir runs/quickstart_x3d

The data set is generated on first use, as real video files in data/synthetic: textured shapes that
move left, move right, approach or recede over moving clutter. Right is left played backwards and
receding is approaching backwards, so a model that does not see order cannot pass 0.5. Two CPU
cores, about three minutes; validation top-1 of 0.9 and more. After a colon stands any classifier of
`jaxvid models`; it is trained in its variant `test`.
"""

from jaxvid.config import default

# Fields that a model needs besides those of its variant `test`, to learn from 800 clips.
_BY_FRAMES = {"width": 96, "num_heads": 3, "features": 96, "position_std": 0.5}
FIELDS = {
    "clip_pooling": {**_BY_FRAMES, "temporal_depth": 3},
    "early_fusion": {"num_frames": 16},
    "i3d": {"bn_momentum": 0.9},  # published for far longer runs, over which 0.99 settles
    "s3d": {"bn_momentum": 0.9},
    # Published with normal(0.02) for wide layers, of which narrow ones hand on next to nothing.
    "timesformer": {"width": 96, "depth": 4, "num_heads": 3},
    "video_swin": {"width": 96, "num_heads": (3, 6)},
    "xclip": {**_BY_FRAMES, "integration_depth": 3},
}
# Models of images see a frame at a time: left and right they tell apart late.
_LONG = {"data.num_frames": 8, "run.epochs": 60.0, "optim.learning_rate": 5e-4}
SETTINGS = {
    "clip_pooling": _LONG,
    "timesformer": {"run.epochs": 20.0},  # its attention over time starts from nothing
    "xclip": _LONG,
}
FLOW = ("two_stream", "two_stream_i3d")
OTHERS = ("feature_head", "videomae_pretrain")  # which classify no clips


def get_config(arg="videomae"):
    if arg in OTHERS:
        raise KeyError(f"the quickstart trains classifiers of clips, which {arg} is not")
    c = default()
    c.run.epochs = 10.0
    c.run.log_every_steps = 25

    c.data.dataset = "synthetic"
    c.data.batch_size = 16
    c.data.num_frames = 8
    c.data.size = 48
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 48, "scale": (0.7, 1.0)},)
    c.data.flip_probability = 0.0  # left is not right

    c.model.name = arg
    c.model.variant = "test"

    c.optim.learning_rate = 1e-3
    c.optim.warmup_epochs = 1.0
    c.optim.clip_norm = 1.0

    c.eval.every_epochs = 2.0

    if arg == "videomae":
        c.model.overrides.width = 96
        c.model.overrides.depth = 4
        c.model.overrides.num_heads = 3
        c.model.overrides.mlp_ratio = 4.0
        c.model.overrides.head_init_scale = 1.0  # 0.001 is for fine-tuning
    else:
        c.data.num_frames = 16
        c.model.overrides.update(FIELDS.get(arg, {}))
        c.update_from_flattened_dict(SETTINGS.get(arg, {}))
    if arg in FLOW:
        c.data.flow = "dis"
    return c
