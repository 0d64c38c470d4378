"""Fight or no fight: UniFormer, convolutions first and attention after, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/uniformer_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models uniformer`; `test` is for seconds. Without a
checkpoint it is trained from scratch, which 1,600 clips are few for.
Kinetics weights: --config.init.checkpoint=uniformer_small_k400_16x4.pth --config.init.arch=uniformer/uniformer.
"""

from jaxvid.config import default


def get_config(arg="S"):
    frames, size = (8, 32) if arg == "test" else (16, 224)
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.4, 0.4, 0.4, 0.0)
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "uniformer"
    c.model.variant = arg
    c.model.overrides.drop_path_rate = 0.1
    c.model.overrides.remat = arg == "B"

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
