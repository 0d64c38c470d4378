"""Fight or no fight: Inception-v1 inflated to 3D, trained on RWF-2000.

    python -m jaxvid.main --config configs/i3d_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models i3d`; `test` is for seconds. Without a checkpoint it
is trained from scratch, which 1,600 clips are few for.
Kinetics weights: --config.init.checkpoint=rgb_imagenet.pt --config.init.arch=pytorch_i3d/inception_i3d.
The variant `flow` sees optical flow instead of frames, computed while training (needs the extra `flow`): "dis" is
quick, --config.data.flow=tvl1 is the papers'.
"""

from jaxvid.config import default


def get_config(arg="rgb"):
    frames, size = (8, 32) if arg == "test" else (32, 224)
    c = default()
    c.run.epochs = 40.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "half"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.0)
    if arg == "flow":
        c.data.flow = "dis"

    c.model.name = "i3d"
    c.model.variant = arg

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 3e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
