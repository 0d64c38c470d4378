"""Topics of videos: a head on the published features of YouTube-8M (6.1 million videos, 3,862 classes).

    python -m jaxvid.main --config configs/feature_head_youtube8m.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models feature_head`: moe (default), logistic
for the features of whole videos (shards of 31 GB in all), attention, netvlad for those of frames
(1.5 TB); `test` is for seconds. DIR holds train*.tfrecord, validate*.tfrecord of that level; a part
of the shards is enough to begin with. Published: GAP@20 0.802 on validation by a mixture of 200
experts at video level, release of 2017 (Zhu et al. 2017, arXiv 1707.04143; this one has 2, as the
publisher's code).

Only features are published, no pixels: nothing is decoded, cropped, flipped or coloured here.
"""

from jaxvid.config import default

VARIANTS = ("moe", "logistic", "attention", "netvlad", "test")


def get_config(arg="moe"):
    if arg not in VARIANTS:
        raise KeyError(f"this recipe knows the variants {', '.join(VARIANTS)}, got {arg!r}")
    c = default()
    c.run.epochs = 5.0

    c.data.dataset = "youtube8m"
    c.data.batch_size = 1024
    c.data.num_frames = 60 if arg in ("attention", "netvlad") else 1  # of features
    c.data.on_error = "skip"
    c.data.flip_probability = 0.0

    c.model.name = "feature_head"
    c.model.variant = arg

    c.objective.name = "multilabel"

    c.optim.name = "adamw"
    c.optim.learning_rate = 1e-2 if arg in ("moe", "logistic") else 1e-3
    c.optim.weight_decay = 1e-6
    c.optim.warmup_steps = 500
    c.optim.clip_norm = 1.0

    c.eval.metric = "GAP"

    if arg == "test":
        c.data.batch_size = 8
        c.data.num_frames = 4
        c.optim.warmup_steps = 0
    return c
