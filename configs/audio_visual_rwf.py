"""Fight or no fight: a transformer that sees and hears, trained on RWF-2000.

    python -m jaxvid.main --config configs/audio_visual_rwf.py --config.data.root=DIR --workdir W

The argument after the colon is a variant of `jaxvid models audio_visual`: B (default), S, L; `test` is for
seconds. How the two are fused: --config.model.overrides.fusion=late, mid or bottleneck (default).
A VideoMAE starts both streams: --config.init.checkpoint=FOLDER, a download of
MCG-NJU/videomae-base-finetuned-kinetics from the Hugging Face hub, --config.init.arch=audio_visual; without
it 1,600 clips are few. Surveillance has no sound: without it the model is its video stream.
"""

from jaxvid.config import default


def get_config(arg="B"):
    frames, size = (8, 32) if arg == "test" else (16, 224)
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

    c.model.name = "audio_visual"
    c.model.variant = arg
    c.model.overrides.fusion = "bottleneck"
    c.model.overrides.modality_dropout = 0.3  # where clips have sound: they shall do without
    if arg != "test":
        c.model.overrides.drop_path_rate = 0.1

    c.objective.label_smoothing = 0.1

    c.optim.learning_rate = 1e-3
    c.optim.scale_to_batch = 256
    c.optim.warmup_epochs = 3.0
    c.optim.layer_decay = 0.75
    c.optim.clip_norm = 1.0

    c.eval.final_clips = 2
    c.eval.final_crops = 3
    return c
