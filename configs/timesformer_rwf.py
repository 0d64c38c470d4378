"""Fight or no fight: TimeSformer with divided attention, fine-tuned on RWF-2000.

    python -m jaxvid.main --config configs/timesformer_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models timesformer`: B (8 frames of 224², default), HR (16 of
448²), L (96 of 224²); `test` is for seconds. The paper trains with SGD for 15 epochs, the rate falling to a
tenth at the 11th and the 14th; here along a cosine. Without a checkpoint it is trained from scratch, which
1,600 clips are few for.
Kinetics weights: --config.init.checkpoint=FOLDER, a download of facebook/timesformer-base-finetuned-k400
(-hr-…, -k600) from the Hugging Face hub, or --config.init.checkpoint=TimeSformer_divST_8x32_224_K400.pyth
--config.init.arch=timesformer/timesformer. Their tables of positions are resized to data.num_frames
and data.size.
"""

from jaxvid.config import default
from jaxvid.models.timesformer import CLIPS


def get_config(arg="B"):
    frames, size = CLIPS.get(arg, CLIPS["B"])
    c = default()
    c.run.epochs = 15.0

    c.data.dataset = "rwf2000"
    c.data.batch_size = 16
    c.data.num_frames = frames
    c.data.size = size
    c.data.sampling = "uniform"  # the clips are cut to the event: see all of it
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = size * 8 // 7
    c.data.train_transforms = ({"name": "random_resized_crop", "size": size, "scale": (0.4, 1.0)},)

    c.model.name = "timesformer"
    c.model.variant = arg
    if arg != "test":
        c.model.overrides.drop_path_rate = 0.1
    if arg in ("HR", "L"):
        c.model.overrides.remat = True

    c.optim.name = "sgd"
    c.optim.learning_rate = 0.005
    c.optim.momentum = 0.9
    c.optim.weight_decay = 1e-4
    c.optim.clip_norm = 1.0  # plain recipes on this set are known to fall apart late

    c.eval.final_clips = 1
    c.eval.final_crops = 3
    return c
