"""Fight or no fight: ViViT fine-tuned on RWF-2000 (1,600 + 400 surveillance clips of 5 s).

    python -m jaxvid.main --config configs/vivit_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models vivit`: B-fact-encoder (default), B, L,
…; `test` is for seconds. As the paper fine-tunes on Kinetics (section 4.1): SGD with momentum, a
cosine after 2.5 epochs of warm-up, gradients clipped to norm 1, no weight decay; stochastic depth
and label smoothing as on its smaller sets. Without a checkpoint it is trained from scratch, which
1,600 clips are by far too few for.

Where the weights come from is init.checkpoint; tables of positions are resized to data.num_frames and data.size:
    Kinetics, variant B         FOLDER, a download of google/vivit-b-16x2-kinetics400 from the Hugging Face hub
    Kinetics, all others        the file `checkpoint` of a model of scenic, --config.init.arch=scenic/vivit
    images, B and its kin       FOLDER, a download of google/vit-base-patch16-224, together with
                                --config.model.overrides.activation=gelu, which it was trained with
"""

from jaxvid.config import default
from jaxvid.models.vivit import VARIANTS


def get_config(arg="B-fact-encoder"):
    if arg not in VARIANTS:
        raise KeyError(f"this recipe knows the sizes {', '.join(VARIANTS)}, got {arg!r}")
    frames, size = (8, 32) if arg == "test" else (32, 224)
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "half"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.05)

    c.model.name = "vivit"
    c.model.variant = arg
    if arg != "test":
        c.model.overrides.drop_path_rate = 0.2
    if arg.startswith("L"):
        c.model.overrides.remat = True

    c.objective.label_smoothing = 0.1

    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.scale_to_batch = 64
    c.optim.momentum = 0.9
    c.optim.weight_decay = 0.0
    c.optim.warmup_epochs = 2.5
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 4
    c.eval.final_crops = 3
    return c
