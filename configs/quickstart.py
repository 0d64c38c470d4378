"""Ten minutes with jaxvid: four motions, told apart by a small VideoMAE trained from scratch on a CPU.

    python -m jaxvid.main --config configs/quickstart.py --workdir runs/quickstart

The data set is generated on first use, as real video files in data/synthetic: textured shapes that move left,
move right, approach or recede over moving clutter. Right is left played backwards and receding is
approaching backwards, so a model that does not see order cannot pass 0.5. Two CPU cores, about three
minutes; validation top-1 of 0.9 and more.
"""

from jaxvid.config import default


def get_config():
    c = default()
    c.run.epochs = 10.0
    c.run.log_every_steps = 25

    c.data.dataset = "synthetic"
    c.data.batch_size = 16
    c.data.num_frames = 8
    c.data.size = 48
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 48, "scale": (0.7, 1.0)},)
    c.data.flip_probability = 0.0  # left is not right

    c.model.name = "videomae"
    c.model.variant = "test"
    c.model.overrides.width = 96
    c.model.overrides.depth = 4
    c.model.overrides.num_heads = 3
    c.model.overrides.mlp_ratio = 4.0
    c.model.overrides.head_init_scale = 1.0  # 0.001 is for fine-tuning

    c.optim.learning_rate = 1e-3
    c.optim.warmup_epochs = 1.0
    c.optim.clip_norm = 1.0

    c.eval.every_epochs = 2.0
    return c
