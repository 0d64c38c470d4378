"""Fight or no fight: MViT, a transformer of several scales, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/mvit_rwf.py --config.data.root=DIR --workdir W

Kinetics weights: --config.init.checkpoint=mvit_v2_s.pth --config.init.arch=torchvision/mvit_v2_s (or
torchvision/mvit_v1_b, pytorchvideo/mvit_base_16x4 with the size v1-B, and any size's .pyth of
PySlowFast with pyslowfast/mvit); tables of positions are resized to the clips asked for. From scratch
1,600 clips are few.

The argument after the colon is the size: v2-S (default), v1-B, v2-T, v2-B for accelerators; `test`
is for seconds. Regularised as in the papers' training on Kinetics, with fewer epochs and a smaller
step.
"""

from jaxvid.config import default

SIZES = {"v2-S": "v2-S", "v1-B": "v1-B 16x4", "v2-T": "v2-T", "v2-B": "v2-B", "test": "test"}


def get_config(arg="v2-S"):
    if arg not in SIZES:
        raise KeyError(f"this recipe knows the sizes {', '.join(SIZES)}, got {arg!r}")
    frames, size = {"test": (8, 32), "v2-B": (32, 224)}.get(arg, (16, 224))
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
    c.data.colour_jitter = (0.4, 0.4, 0.4, 0.1)
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "mvit"
    c.model.variant = SIZES[arg]
    c.model.overrides.drop_path_rate = 0.3 if arg == "v2-B" else 0.2

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-4
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.eval.clips = 1
    c.eval.crops = 1
    c.eval.final_clips = 2
    c.eval.final_crops = 3

    if arg == "v2-B":
        c.model.overrides.remat = True
    if arg == "test":
        c.data.batch_size = 4
        c.model.overrides.drop_path_rate = 0.0
        c.eval.final_clips = c.eval.final_crops = 0
    return c
