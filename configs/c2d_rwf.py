"""Fight or no fight: ResNet-50 on frames, pooled over time, trained on RWF-2000.

    python -m jaxvid.main --config configs/c2d_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models c2d`; `test` is for seconds. Without a checkpoint it
is trained from scratch, which 1,600 clips are few for.
Kinetics weights: --config.init.checkpoint=C2D_8x8_R50.pyth --config.init.arch=pytorchvideo/c2d_r50.
It does not see order: a baseline.
"""

from jaxvid.config import default


def get_config(arg="50"):
    frames, size = (8, 32) if arg == "test" else (8, 224)
    c = default()
    c.run.epochs = 40.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.0)

    c.model.name = "c2d"
    c.model.variant = arg

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 3e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
