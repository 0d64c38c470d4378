"""Fight or no fight: VideoMamba, selective scans of all tokens, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/videomamba_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models videomamba`: small (default), tiny or middle, on 16
frames of 224²; `test` is for seconds. Rate, weight decay, stochastic depth and epochs are those that the
authors train each size with, from ImageNet's weights or Kinetics'. Without a checkpoint it is trained from
scratch, which 1,600 clips are few for; then --config.model.overrides.start=mamba.
Kinetics weights: --config.init.checkpoint=videomamba_s16_k400_f16_res224.pth (or t16, m16; f8, f32, f64)
--config.init.arch=videomamba/videomamba. ImageNet's: --config.init.checkpoint=videomamba_s16_in1k_res224.pth
--config.init.arch=videomamba/image. Tables of positions are resized to data.num_frames and data.size.
"""

from jaxvid.config import default

# Learning rate for a batch of 256, weight decay, stochastic depth, epochs.
TRAINED = {
    "small": (2e-4, 0.05, 0.35, 50.0),
    "tiny": (2e-4, 0.1, 0.1, 70.0),
    "middle": (1e-4, 0.05, 0.8, 50.0),
    "test": (2e-4, 0.05, 0.0, 50.0),
}


def get_config(arg="small"):
    if arg not in TRAINED:
        raise KeyError(f"this recipe knows the sizes {', '.join(TRAINED)}, got {arg!r}")
    frames, size = (8, 32) if arg == "test" else (16, 224)
    rate, decay, drop_path, epochs = TRAINED[arg]
    c = default()
    c.run.epochs = epochs

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # as the authors; the clips are cut to the event: see all of it
    c.data.statistics = "imagenet"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.4, 0.4, 0.4, 0.1)
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "videomamba"
    c.model.variant = arg
    c.model.overrides.drop_path_rate = drop_path
    c.model.overrides.remat = arg == "middle"

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = rate
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = decay
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 4
    c.eval.final_crops = 3
    return c
