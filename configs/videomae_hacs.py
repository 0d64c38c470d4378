"""HACS: VideoMAE fine-tuned on two-second clips of 200 actions (or on the segments).

    python -m jaxvid.main --config configs/videomae_hacs.py --config.data.root=DIR --workdir W

DIR holds HACS_v1.1.1/HACS_clips_v1.1.1.csv and v_ID.mp4 in any folders. After the colon: `clips` (default), those that
show their class, top-1; `negatives`, also those that do not, with binary cross-entropy; `segments`, HACS Segments; `test` is for
seconds. Links die: data.options.max_missing. Result: top-1 over 5 clips × 3 crops.
Weights to start from are --config.init.checkpoint=FOLDER (such as MCG-NJU/videomae-base-finetuned-kinetics).
"""

from jaxvid.config import default

ARGUMENTS = ("clips", "negatives", "segments", "test")


def get_config(arg="clips"):
    if arg not in ARGUMENTS:
        raise KeyError(
            f"this recipe knows the arguments clips, negatives, segments, test, got {arg!r}"
        )
    c = default()
    c.run.epochs = 30.0

    c.data.dataset = "hacs"
    c.data.batch_size = 128  # videos; the learning rate goes with it
    c.data.num_frames = 16
    c.data.size = 224
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = (
        {"name": "rand_augment", "policy": "rand-m7-n4-mstd0.5-inc1"},
        {"name": "random_resized_crop", "size": 224, "scale": (0.08, 1.0)},
    )
    c.data.options.max_missing = 0.25
    c.data.options.kind = "segments" if arg == "segments" else "clips"
    c.data.options.negatives = arg == "negatives"
    c.data.sampling = "dense"
    c.data.stride_frames = 3  # 16 frames of a clip of two seconds

    if arg == "negatives":
        c.objective.name = "multilabel"  # a softmax has no place for a clip of no class
        c.eval.metric = "mAP"
    else:
        c.data.erasing_probability = 0.25
        c.data.mixup_alpha = 0.8
        c.data.cutmix_alpha = 1.0
        c.objective.label_smoothing = 0.1
    c.eval.final_clips, c.eval.final_crops = 5, 3

    c.model.name = "videomae"
    c.model.variant = "B"
    c.model.overrides.drop_path_rate = 0.1

    c.optim.learning_rate = 5e-4
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 0.05
    c.optim.layer_decay = 0.75

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.train_views, c.data.num_frames, c.data.size = 4, 1, 4, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
