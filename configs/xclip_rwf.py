"""Fight or no fight: X-CLIP fine-tuned on RWF-2000, each clip against the texts of the classes.

    python -m jaxvid.main --config configs/xclip_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models xclip`; `test` is for seconds.
Where the weights come from: --config.init.checkpoint=FOLDER, a download of microsoft/xclip-base-patch16 from the
Hugging Face hub, or of openai/clip-vit-base-patch16, which is what X-CLIP's own training starts from. The words
of the classes are tokens of model.overrides.class_texts; without them each class is a word without meaning, and
what the text tower knows is not used.
"""

from jaxvid.config import default


def get_config(arg="B/16"):
    frames = 16 if arg.endswith("-16f") else 8
    size = {"test": 32, "L/14-336-16f": 336}.get(arg, 224)
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)
    c.data.colour_jitter = (0.3, 0.3, 0.2, 0.05)
    c.data.greyscale_probability = 0.2
    c.data.mixup_alpha = 0.8
    c.data.cutmix_alpha = 1.0
    c.data.mix_probability = 0.5  # two classes: with every clip mixed little is left to see

    c.model.name = "xclip"
    c.model.variant = arg

    c.objective.name = "contrast"
    c.objective.label_smoothing = 0.1

    # What comes from CLIP learns slowly, what X-CLIP adds ten times as fast.
    c.optim.learning_rate = 8e-6
    c.optim.rate_factors = (
        (r"^(integration|prompt|prompt_norm|prompt_projection)/|/message", 10.0),
    )
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 1e-3
    c.optim.b2 = 0.98
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
