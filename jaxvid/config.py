"""The whole configuration: one locked tree of defaults, each field with its meaning, and its check.

A recipe (`configs/*.py`) is a Python file with `get_config(arg="")` that takes `default()`, assigns, and
returns it; `arg` is what stands after a colon: `--config configs/videomae_rwf.py:scratch`.
0, 0.0 and "" mean "off" or "derive it" where the comment says so.
"""

import inspect
import re
import runpy
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from jaxvid.config_values import at, wrong_values
from jaxvid.core.errors import ConfigError, nearest

OPEN_SECTIONS = ("data.options", "model.overrides", "objective.options")


def default() -> ConfigDict:
    """The tree of all fields, locked: only fields that stand here can be assigned."""
    c = ConfigDict()

    c.run = run = ConfigDict()
    run.seed = 0  # of initialisation, order, augmentation, masks
    run.epochs = 10.0  # passes over the training split
    run.steps = 0  # if set, wins over epochs
    run.log_every_steps = 20
    run.tensorboard = True
    run.nonfinite_limit = 10  # steps in a row with a non-finite loss before the run ends
    # What lasts longer, and ten times as long as before, is said with its host and phase; 0 = never.
    run.watchdog_seconds = 60.0
    run.compilation_cache = True  # keep compiled programs in the user's cache folder
    run.deterministic = False  # the same bits from the same GPUs at every run, by slower kernels
    # (first, how many): steps whose profile goes into the workdir, for TensorBoard; the first of a run
    # is 1 and compiles.
    run.profile_steps = (0, 0)

    c.data = data = ConfigDict()
    data.dataset = ""  # a file of jaxvid/data/datasets, or a dotted path to your own
    data.root = ""  # where it lies; "" = data/<dataset>
    data.options = ConfigDict()  # further keywords of the dataset's load()
    data.train_split = "train"
    data.val_split = "val"
    data.batch_size = 8  # clips a step over all devices of all hosts
    data.num_frames = 16
    data.size = 224  # pixels, height = width of what the model sees
    data.sampling = "uniform"  # "uniform" (TSN), "linspace", "dense"
    data.stride_frames = 4  # of dense sampling
    data.target_fps = 0.0  # frame rate that strides and segments are counted in; 0 = the file's own
    data.speed_jitter = (1.0, 1.0)  # of training: clips between so much slower and faster
    data.jitter_frames = 0  # of training: each frame up to so many off
    data.train_views = 1  # clips a video a step (repeated augmentation)
    # Where classes are not of one size, how often a clip is shown: "natural", "balanced", "square_root", or
    # "weighted" by the data's own column; see data/balance.py.
    data.class_sampling = "natural"
    # Optical flow for models that see it, computed on the host between the frames of the clip, after
    # the crops: "none", "tvl1" (of the papers, slow), "dis" (quick); see decode/flow.py. "stored": that of
    # data.store, made by `jaxvid data prepare --flow`, from each frame of the file to the next.
    data.flow = "none"
    # The sound of the clip's own seconds, for models that hear: "none", "log_mel"; decode/log_mel.py.
    data.audio = "none"
    data.audio_rate = 16000  # samples a second
    data.audio_frames = 128
    data.audio_mels = 80
    # A folder made by `jaxvid data prepare`, read in place of the videos; where data.root is not there, in
    # place of the annotations too.
    data.store = ""
    data.in_memory = False  # keep decoded videos in memory: for small sets
    data.memory_gib = 4.0  # at most so much of it a host
    data.decoder = "pyav"  # or "decord"
    data.decode_short_side = 0  # pixels the decoder resizes to; 0 = as it is
    # On the host, per clip; () = random_resized_crop to data.size in training. See transforms/.
    data.train_transforms = ()
    # Before the resize and crops of evaluation, such as box_crop.
    data.eval_transforms = ()
    data.threads = 0  # decoding threads a host; 0 = one more than cores
    data.workers = 0  # decoding processes a host; 0 = threads only
    data.prefetch_batches = 2
    data.deadline_seconds = 60.0  # for one clip
    data.on_error = "raise"  # or "skip": mask the clip and count it
    data.max_skipped_share = 0.05  # more skipped clips than that end the run
    data.statistics = "imagenet"  # named mean and std of ops/pixels.py
    # On the device, per clip:
    data.flip_probability = 0.5  # left-right; 0 where classes have sides
    data.flip_swaps = ()  # pairs of class names that change places in a flipped clip
    data.colour_jitter = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    data.greyscale_probability = 0.0
    data.blur_probability = 0.0
    data.colour_per_frame = False  # draw colours, greying and blur for each frame, not once a clip
    data.erasing_probability = 0.0
    data.erasing_shape = "tube"  # of all frames; "cube": of some in a row; "frame": drawn for each
    data.mixup_alpha = 0.0  # 0 = off
    data.cutmix_alpha = 0.0
    data.mix_probability = 1.0  # of mixing a batch at all, when either alpha is set
    data.cutmix_cut = (
        "tube"  # a place in all frames; "frames": whole frames; "cube": both (VideoMix)
    )
    data.cutmix_share = 0.5  # of cutmix among mixed batches, when both are set

    c.model = model = ConfigDict()
    model.name = ""  # a file of jaxvid/models, or a dotted path to your own
    model.variant = ""  # a row of its VARIANTS
    # Of computation: "float32", "bfloat16"; "auto" is bfloat16 on GPU and TPU, float32 on CPUs, whose
    # bfloat16 products are slow. Parameters are float32 in any case.
    model.dtype = "auto"
    model.overrides = ConfigDict()  # any field of the module, e.g. drop_path_rate
    # For models that compare with texts: those of the classes, in their order; () is their names.
    model.class_words = ()

    c.objective = objective = ConfigDict()
    objective.name = "classify"  # a file of jaxvid/objectives
    objective.options = ConfigDict()  # keywords of its build()
    objective.label_smoothing = 0.0
    objective.class_weights = "none"  # or "balanced": each class weighs the same in the loss
    objective.mask = "tube"  # of masked pretraining: "tube", "random", "frame"
    objective.mask_ratio = 0.9

    c.optim = optim = ConfigDict()
    optim.name = "adamw"  # or "sgd"
    optim.learning_rate = 1e-3  # peak
    optim.scale_to_batch = (
        0  # if set, the rate is multiplied by batch_size / this (said in the log)
    )
    optim.schedule = "cosine"  # or "constant", after the warm-up
    optim.end_learning_rate = 0.0
    optim.warmup_epochs = 0.0
    optim.warmup_steps = 0  # if set, wins over warmup_epochs
    optim.weight_decay = 0.05  # on matrices; not on biases, norms, tokens
    optim.b1 = 0.9
    optim.b2 = 0.999
    optim.momentum = 0.9  # of sgd
    optim.clip_norm = 0.0  # global gradient norm; 0 = off
    optim.layer_decay = 1.0  # factor a layer from the head down; 1 = off
    # Regular expressions of parameter paths that are not trained: ("backbone/",) leaves the rest to learn.
    optim.frozen = ()
    # (regular expression of parameter paths, factor of the rate) of what learns faster or slower.
    optim.rate_factors = ()
    optim.accumulate_steps = 1  # parts a batch is worked through in
    # Moving average of the weights and of BatchNorm's statistics, evaluated instead of them; 0 = off.
    # Early on it forgets faster: min(ema_decay, (1 + step) / (10 + step)).
    optim.ema_decay = 0.0

    c.mesh = mesh = ConfigDict()
    mesh.fsdp = 1  # devices over which parameters are divided
    mesh.tensor = 1  # devices over which heads and hidden units are divided; data takes the rest

    c.init = init = ConfigDict()
    init.checkpoint = (
        ""  # a Hugging Face folder or id, weights file, or workdir of one's own pretraining
    )
    init.arch = ""  # what a bare weights file holds, e.g. "videomae/pretrain"

    c.eval = evaluation = ConfigDict()
    evaluation.every_epochs = 1.0
    evaluation.every_steps = 0  # if set, wins over every_epochs
    evaluation.batch_size = 0  # 0 = data.batch_size
    evaluation.clips = 1  # temporal views a video
    # 1 = centre, 3 = along the long side, 10 = centre and corners, as they are and flipped
    evaluation.crops = 1
    evaluation.pooling = "mean"  # of the views' probabilities, or "max" (Charades)
    evaluation.final_clips = 0  # of --mode eval and the end of training; 0 = clips
    evaluation.final_crops = 0
    evaluation.checkpoint = "last"  # "last", "best", a step, or the path of another workdir
    evaluation.metric = "top1"  # by which a checkpoint is best, and early stopping
    evaluation.mode = "max"  # or "min"
    evaluation.early_stop_patience = 0  # evaluations without progress; 0 = never stop
    # Before an evaluation batch normalisation's statistics are measured again over so many training
    # batches (models with batch normalisation only); 0 = those of training. See evaluate/precise_bn.py.
    evaluation.precise_bn_batches = 0
    # At the end, clips of validation that stand in training too, byte for byte, are looked for where both
    # together are up to so many; the report has the numbers with and without them.
    evaluation.duplicates_among = 20000
    evaluation.reconstructions = 4  # validation clips drawn in masked pretraining

    c.checkpoint = checkpoint = ConfigDict()
    checkpoint.every_steps = 0  # besides every evaluation and the end; 0 = only there
    checkpoint.keep_last = 2
    checkpoint.keep_best = 1

    c.compile = compilation = ConfigDict()
    # Of --mode compile: an absent TPU slice such as "v5e:16x16"; "" = the devices that are here.
    compilation.topology = ""
    compilation.num_classes = 0  # where the data is not here; 0 = 400
    compilation.largest_batch = False  # search the largest data.batch_size that fits

    c.lock()
    for path in OPEN_SECTIONS:
        at(c, path).unlock()
    return c


def load(recipe: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a recipe `FILE[:ARG]` with `path=value` overrides, checked. Raises ConfigError."""
    file, _, argument = recipe.partition(":")
    if not Path(file).is_file():
        raise ConfigError(f"--config {file}: there is no such file{_other_recipes(file)}")
    try:
        namespace = runpy.run_path(file)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: {_plain(error)}") from error
    get_config = namespace.get("get_config")
    if get_config is None:
        raise ConfigError(f"{file}: a recipe defines get_config(arg=''); this file does not")
    if argument and not inspect.signature(get_config).parameters:
        raise ConfigError(
            f"{file}: this recipe takes no argument, got {argument!r} after the colon"
        )
    try:
        config = get_config(argument) if argument else get_config()
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: {_plain(error)}") from error
    for override in overrides:
        path, _, value = override.partition("=")
        _assign(config, path, value)
    return check(config, source=file)


def check(config: ConfigDict, source: str = "config") -> ConfigDict:
    """Compares with the default tree and looks up every name, before any data is read. All that is
    wrong is listed at once. Returns the config. Raises ConfigError."""
    wrong = _compare(default(), config, "")
    if not wrong:
        wrong = wrong_values(config)
    if wrong:
        raise ConfigError(f"{source}:\n  " + "\n  ".join(wrong))
    return config


def difference(old: dict, new: dict) -> list[str]:
    """Lines `path: old -> new` of all leaves that differ between two plain dicts. A field that one of
    them does not have, being written by an older version, has its default there."""
    defaults = _leaves(plain(default()))
    flat_old, flat_new = defaults | _leaves(old), defaults | _leaves(new)
    missing = "(absent)"
    return [
        f"{path}: {flat_old.get(path, missing)!r} -> {flat_new.get(path, missing)!r}"
        for path in sorted({*flat_old, *flat_new})
        if flat_old.get(path, missing) != flat_new.get(path, missing)
    ]


def plain(config: ConfigDict) -> dict:
    """Nested dicts, lists and scalars, as JSON has them."""
    return _jsonable(config.to_dict())


def _jsonable(value):
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    return [_jsonable(v) for v in value] if isinstance(value, list | tuple) else value


def _leaves(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_leaves(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _compare(known: ConfigDict, given, prefix: str) -> list[str]:
    if not isinstance(given, ConfigDict):
        what = prefix.rstrip(".") or "the config"
        return [f"{what} was replaced by {type(given).__name__}; assign its fields instead"]
    if prefix.rstrip(".") in OPEN_SECTIONS:
        return []
    wrong = []
    for key in given:
        if key not in known:
            wrong.append(f"unknown field {prefix}{key}.{nearest(key, known)}")
    for key, value in known.items():
        if key not in given:
            wrong.append(
                f"{prefix}{key} is missing: its section was replaced; assign fields instead"
            )
        elif isinstance(value, ConfigDict):
            wrong += _compare(value, given[key], f"{prefix}{key}.")
        elif not _same_type(value, given[key]):
            wrong.append(
                f"{prefix}{key} is {given[key]!r} ({type(given[key]).__name__}), "
                f"expected {type(value).__name__} such as {value!r}"
            )
    return wrong


def _same_type(known, given) -> bool:
    if isinstance(known, float):
        return isinstance(given, int | float) and not isinstance(given, bool)
    return type(known) is type(given)


def _assign(config: ConfigDict, path: str, text: str) -> None:
    *parents, last = path.split(".")
    node = config
    for part in parents:
        if not isinstance(node, ConfigDict) or part not in node:
            raise ConfigError(f"--config.{path}: there is no {part!r}.{nearest(part, _keys(node))}")
        node = node[part]
    free = ".".join(parents) in OPEN_SECTIONS
    if not isinstance(node, ConfigDict) or (last not in node and not free):
        raise ConfigError(f"--config.{path}: there is no {last!r}.{nearest(last, _keys(node))}")
    if last in node and isinstance(node[last], ConfigDict):
        raise ConfigError(f"--config.{path} is a section; assign one of {', '.join(node[last])}")
    node[last] = _parse(path, text, node.get(last))


def _parse(path: str, text: str, current):
    if isinstance(current, str):
        return text
    try:
        value = literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(current, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(current, float) and type(value) is int:
        value = float(value)
    if current is not None and not _same_type(current, value):
        raise ConfigError(
            f"--config.{path}={text}: expected {type(current).__name__} such as {current!r}"
        )
    return value


def _keys(node) -> list[str]:
    return list(node) if isinstance(node, ConfigDict) else []


def _plain(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error.args[0] if error.args else error))


def _other_recipes(file: str) -> str:
    folders = {Path(file).parent, Path("configs")}
    names = sorted(str(p) for folder in folders for p in folder.glob("*.py"))
    return f".{nearest(file, names)} There are: {', '.join(names)}" if names else ""
