"""Fight or no fight: CLIP on frames, a transformer over them and a head, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/clip_pooling_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models clip_pooling`; `test` is for seconds.
Where the weights come from: --config.init.checkpoint=FOLDER, a download of openai/clip-vit-base-patch16 from the
Hugging Face hub. --config.model.overrides.pool=mean averages the frames instead, which does not see their order.
"""

from jaxvid.config import default


def get_config(arg="B/16"):
    size = 32 if arg == "test" else 224
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = 8
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "clip"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.05)
    c.data.greyscale_probability = 0.2

    c.model.name = "clip_pooling"
    c.model.variant = arg
    c.model.overrides.pool = "transformer"

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 2e-5
    c.optim.warmup_epochs = 3.0
    c.optim.weight_decay = 0.05
    c.optim.b2 = 0.98
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
