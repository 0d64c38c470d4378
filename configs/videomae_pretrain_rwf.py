"""Masked pretraining of VideoMAE on RWF-2000's training clips: no labels are used.

    python -m jaxvid.main --config configs/videomae_pretrain_rwf.py --config.data.root=DIR --workdir P
    python -m jaxvid.main --config configs/videomae_rwf.py --config.data.root=DIR \
        --config.init.checkpoint=P --workdir W

90 % of the tubes are hidden; only the rest enters the encoder (Tong et al. 2022). Reconstructions of
validation clips are drawn into P/eval. The argument is the size, as in configs/videomae_rwf.py,
but for g. The paper pretrains small sets for 2,400 to 4,800 epochs; 800 here take about a day on one GPU for B.
"""

from jaxvid.config import default

SIZES = ("B", "S", "L", "H", "laptop", "test")


def get_config(arg="B"):
    if arg not in SIZES:
        raise KeyError(f"this recipe knows the sizes {', '.join(SIZES)}, got {arg!r}")
    c = default()
    c.run.epochs = 800.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 64
    c.data.num_frames = 16
    c.data.size = 224
    c.data.sampling = "dense"
    c.data.stride_frames = 4
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 224, "scale": (0.5, 1.0)},)

    c.model.name = "videomae_pretrain"
    c.model.variant = "B"

    c.objective.name = "mae"
    c.objective.mask = "tube"
    c.objective.mask_ratio = 0.9

    c.optim.learning_rate = 1.5e-4
    c.optim.scale_to_batch = 256
    c.optim.b2 = 0.95
    c.optim.warmup_epochs = 40.0

    c.eval.every_epochs = 20.0
    c.eval.metric, c.eval.mode = "loss", "min"

    if arg in ("S", "L", "H"):
        c.model.variant = arg
    if arg in ("L", "H"):
        c.model.overrides.remat = True
    if arg == "laptop":
        _smaller(c, size=96, batch_size=32)
        c.data.num_frames = 8
        c.model.variant = "Ti"
        c.model.overrides.depth = 6
        c.run.epochs = 200.0
        c.optim.warmup_epochs = 10.0
    if arg == "test":
        _smaller(c, size=32, batch_size=4)
        c.data.num_frames = 4
        c.data.stride_frames = 2
        c.model.variant = "test"
    return c


def _smaller(c, *, size, batch_size):
    c.data.size, c.data.batch_size = size, batch_size
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({**c.data.train_transforms[0], "size": size},)
    c.optim.scale_to_batch = batch_size
    c.optim.learning_rate = 1e-3
