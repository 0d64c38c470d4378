"""Fight or no fight: Hiera, attention in mask units and max pooling, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/hiera_rwf.py --config.data.root=DIR --workdir W

Kinetics weights: --config.init.checkpoint=hiera_base_16x224.pth --config.init.arch=hiera/hiera; tables of
positions are resized to the clips asked for. It was published to be started from masked pretraining:
from scratch 1,600 clips are few.

The argument after the colon is the size: B (default), B+, L, H for accelerators; `test` is for seconds.
"""

from jaxvid.config import default

DROP_PATH = {"B": 0.2, "B+": 0.2, "L": 0.4, "H": 0.4, "test": 0.0}


def get_config(arg="B"):
    if arg not in DROP_PATH:
        raise KeyError(f"this recipe knows the sizes {', '.join(DROP_PATH)}, got {arg!r}")
    frames, size = (8, 32) if arg == "test" else (16, 224)
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 4 if arg == "test" else 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.4, 0.4, 0.4, 0.1)
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "hiera"
    c.model.variant = arg
    c.model.overrides.drop_path_rate = DROP_PATH[arg]
    c.model.overrides.remat = arg in ("L", "H")

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.clips = 1
    c.eval.crops = 1
    c.eval.final_clips = 0 if arg == "test" else 2
    c.eval.final_crops = 0 if arg == "test" else 3
    return c
