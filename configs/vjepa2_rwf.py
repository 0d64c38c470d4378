"""Fight or no fight: an attentive probe on V-JEPA 2's frozen encoder, on RWF-2000.

    python -m jaxvid.main --config configs/vjepa2_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models vjepa2`: L (default), H, g; `test` is
for seconds and trains all of a small model from scratch. As the paper evaluates: the encoder stays
as it was pretrained, a pooler of three blocks and a query and the linear layer learn (Assran et al.
2025, section 4). Its rate and weight decay are of the grid that the authors search, 5e-3 … 1e-4 and
0.01 … 0.8, without warm-up, for 20 epochs.

The weights are fetched from the Hugging Face hub; where there is no network, --config.init.checkpoint=FOLDER, a
download of facebook/vjepa2-vitl-fpc64-256 (-vith-, -vitg-). A probe that has learned another set starts from
facebook/vjepa2-vitl-fpc16-256-ssv2 with a new last layer. To train the encoder too:
--config.model.overrides.freeze_encoder=False --config.optim.layer_decay=0.75.
"""

from jaxvid.config import default

PRETRAINED = {
    "L": "facebook/vjepa2-vitl-fpc64-256",
    "H": "facebook/vjepa2-vith-fpc64-256",
    "g": "facebook/vjepa2-vitg-fpc64-256",
}


def get_config(arg="L"):
    size = 32 if arg == "test" else 256
    c = default()
    c.run.epochs = 20.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = 16
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},
    )
    c.data.erasing_probability = 0.25

    c.model.name = "vjepa2"
    c.model.variant = arg
    if arg != "test":
        c.init.checkpoint = PRETRAINED.get(arg, "")
        c.model.overrides.freeze_encoder = True

    c.optim.learning_rate = 3e-4
    c.optim.weight_decay = 0.1
    c.optim.clip_norm = 1.0  # plain recipes on this set are known to fall apart late

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
