"""Fight or no fight: Video Swin, attention in shifting windows, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/video_swin_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models video_swin`; `test` is for seconds. Without a
checkpoint it is trained from scratch, which 1,600 clips are few for.
Kinetics weights: --config.init.checkpoint=swin3d_t.pth --config.init.arch=torchvision/swin3d_t.
ImageNet weights: --config.init.checkpoint=swin_tiny_patch4_window7_224.pth --config.init.arch=swin/swin.
"""

from jaxvid.config import default

DROP_PATH = {"T": 0.1, "S": 0.2, "B": 0.3, "test": 0.0}  # as on Kinetics


def get_config(arg="T"):
    frames, size = (8, 32) if arg == "test" else (32, 224)
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "imagenet"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.0)

    c.model.name = "video_swin"
    c.model.variant = arg
    c.model.overrides.drop_path_rate = DROP_PATH.get(arg, 0.1)
    c.model.overrides.head_dropout = 0.5
    c.model.overrides.remat = arg in ("S", "B")

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-4  # of weights from Kinetics or ImageNet; 3e-4 from scratch
    c.optim.warmup_epochs = 2.5
    c.optim.weight_decay = 0.05 if arg == "B" else 0.02
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
