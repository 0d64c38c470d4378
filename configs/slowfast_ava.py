"""AVA 2.2: SlowFast fine-tuned to say what is done in a second of a film (Feichtenhofer et al.
2019, section 5).

    python -m jaxvid.main --config configs/slowfast_ava.py --config.data.root=DIR --workdir W

DIR holds ava_train_v2.2.csv, ava_val_v2.2.csv, ava_action_list_v2.2.pbtxt and videos/ID.mkv. This
is clip-level multi-label classification, all actions in the picture around the annotated second,
and not detection: its mAP is not that of papers. After the colon: `persons`, one person at a time,
cut out by the box in training and in evaluation; `test` is for seconds.

The weights to start from are those of Kinetics: --config.init.checkpoint=SLOWFAST_8x8_R50.pyth
--config.init.arch=pytorchvideo/slowfast_r50.
"""

from jaxvid.config import default


def get_config(arg=""):
    if arg not in ("", "persons", "test"):
        raise KeyError(f"this recipe knows the arguments persons, test, got {arg!r}")
    c = default()
    c.run.epochs = 20.0

    c.data.dataset = "ava"
    c.data.batch_size = 64
    c.data.num_frames = 32
    c.data.size = 224
    c.data.sampling = "dense"
    c.data.stride_frames = 2
    c.data.statistics = "kinetics"
    c.data.on_error = "skip"
    c.data.decode_short_side = 256
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 224, "scale": (0.4, 1.0)},)
    c.data.options.evaluated_only = True  # the 60 actions of the publisher's evaluation

    if arg == "persons":
        c.data.options.persons = True
        c.data.eval_transforms = ({"name": "box_crop"},)
        c.data.train_transforms = ({"name": "box_crop"}, *c.data.train_transforms)

    c.model.name = "slowfast"
    c.model.variant = "R50_8x8"

    c.objective.name = "multilabel"

    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.scale_to_batch = 64
    c.optim.warmup_epochs = 5.0
    c.optim.weight_decay = 1e-07

    c.eval.metric = "mAP"
    c.eval.final_clips, c.eval.final_crops = 1, 1

    if arg == "test":
        _for_seconds_on_a_cpu(c)
    return c


def _for_seconds_on_a_cpu(c):
    c.data.batch_size, c.data.num_frames, c.data.size = 4, 8, 32
    c.data.decode_short_side = 36
    c.data.train_transforms = ({"name": "random_resized_crop", "size": 32},)
    c.model.variant = "test"
    c.eval.final_clips = c.eval.final_crops = 0
