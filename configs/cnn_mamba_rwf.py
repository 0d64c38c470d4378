"""Fight or no fight: ResNet features of 16 frames through selective state-space blocks, trained on
RWF-2000.

    python -m jaxvid.main --config configs/cnn_mamba_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models cnn_mamba`; `test` is for seconds. Without a checkpoint it
is trained from scratch, which 1,600 clips are few for.
ImageNet weights: --config.init.checkpoint=resnet18.pth --config.init.arch=torchvision/resnet18.
A course's own reached 83.0 % here.
"""

from jaxvid.config import default


def get_config(arg="18"):
    frames, size = (8, 32) if arg == "test" else (16, 224)
    c = default()
    c.run.epochs = 40.0

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

    c.model.name = "cnn_mamba"
    c.model.variant = arg

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 3e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
