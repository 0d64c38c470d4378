"""Fight or no fight: VideoMAE fine-tuned on RWF-2000 (1,600 + 400 surveillance clips of 5 s).

    python -m jaxvid.main --config configs/videomae_rwf.py --config.data.root=DIR --workdir W
    python -m jaxvid.main --config configs/videomae_rwf.py --config.data.root=DIR --workdir W --mode eval

Where the weights come from is init.checkpoint:
    from a public checkpoint    --config.init.checkpoint=FOLDER, a download of MCG-NJU/videomae-base (or
                                -base-finetuned-kinetics) from the Hugging Face hub; the head is new
    from your own pretraining   --config.init.checkpoint=WORKDIR of configs/videomae_pretrain_rwf.py
    from scratch                leave it empty; expect far less from 1,600 clips

The argument after the colon is the size: B (default), S, L, H, g (VideoMAE V2's ViT-giant, from a file with
--config.init.arch=videomaev2/finetune) for accelerators; `laptop` is a small
model on 8 × 96² for CPUs; `test` is for seconds. A course's own VideoMAE-B reached 91.3 % here.
"""

from jaxvid.config import default

SIZES = ("B", "S", "L", "H", "g", "laptop", "test")


def get_config(arg="B"):
    if arg not in SIZES:
        raise KeyError(f"this recipe knows the sizes {', '.join(SIZES)}, got {arg!r}")
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = 16
    c.data.size = 224
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 224, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.05)
    c.data.erasing_probability = 0.25
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "videomae"
    c.model.variant = "B"
    c.model.overrides.drop_path_rate = 0.1

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-3
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 3.0
    c.optim.layer_decay = 0.75
    c.optim.clip_norm = 1.0  # plain recipes on this set are known to fall apart late

    c.eval.clips = 1
    c.eval.crops = 1
    c.eval.final_clips = 2
    c.eval.final_crops = 3

    if arg in ("S", "L", "H", "g"):
        c.model.variant = arg
    if arg in ("L", "H", "g"):
        c.model.overrides.remat = True
        c.model.overrides.drop_path_rate = 0.2
    if arg == "laptop":
        _smaller(c, size=96, batch_size=16)
        c.data.num_frames = 8
        c.model.variant = "Ti"
        c.model.overrides.depth = 6
        c.model.overrides.drop_path_rate = 0.0
        # A small model that starts from little: what regularises ViT-B would keep it from fitting.
        c.data.mixup_alpha = c.data.cutmix_alpha = c.data.erasing_probability = 0.0
        c.optim.scale_to_batch = 16
        c.eval.every_epochs = 3.0
    if arg == "test":
        _smaller(c, size=32, batch_size=4)
        c.data.num_frames = 4
        c.model.variant = "test"
    return c


def _smaller(c, *, size, batch_size):
    c.data.size, c.data.batch_size = size, batch_size
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({**c.data.train_transforms[0], "size": size},)
    c.optim.scale_to_batch = 32
    c.eval.final_clips = c.eval.final_crops = 0
