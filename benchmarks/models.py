"""Models against their PyTorch references, forward and training step, in one run.

    python benchmarks/models.py [NAME …] [--rounds 5] [--batch 1]

Both sides have the same architecture, clips and devices, and take turns; float32 on a CPU, bfloat16 on a GPU
(PyTorch under autocast, with torch.compile if asked for). The step is forward, backward and AdamW. References:
torch, torchvision, pytorchvideo (convolutional models) and transformers; a model whose reference is not
installed is said and left out. Prints medians, jaxvid's time over PyTorch's (below 1 jaxvid is faster), compile
times, memory of the compiled step, and the work of a forward pass as papers and as XLA count it.
"""

import argparse
import importlib
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import torch

from jaxvid.core import lookup
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.nn.inception import BLOCKS
from jaxvid.objectives import classify
from jaxvid.train.optim import make_optimizer
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step

CLASSES = 400
GPU = jax.default_backend() == "gpu"
DTYPE = jnp.bfloat16 if GPU else jnp.float32
CONVOLUTIONAL = (1.2, 1.3)  # jaxvid's time over PyTorch's, at most: forward, step
TRANSFORMER = (1 / 1.3, 1 / 1.3) if GPU else (1 / 0.9, 1 / 0.9)


class PerFrame(torch.nn.Module):
    """ResNet-18 over the frames of a clip, then an LSTM or the mean."""

    def __init__(self, recurrent: bool):
        super().__init__()
        self.cnn = importlib.import_module("torchvision").models.resnet18()
        self.cnn.fc = torch.nn.Linear(512, 512)
        self.lstm = torch.nn.LSTM(512, 389, 3, batch_first=True) if recurrent else None
        self.fc = torch.nn.Linear(389 if recurrent else 512, CLASSES)

    def forward(self, x):
        n, c, t, h, w = x.shape
        x = self.cnn(x.transpose(1, 2).reshape(n * t, c, h, w)).reshape(n, t, -1)
        return self.fc(self.lstm(x)[0][:, -1] if self.lstm else x.mean(1))


class C3D(torch.nn.Module):
    """Tran et al. 2015."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for i, (width, depth) in enumerate(((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))):
            for _ in range(depth):
                layers += [torch.nn.Conv3d(channels, width, 3, padding=1), torch.nn.ReLU(True)]
                channels = width
            pad = (0, 1, 1) if i == 4 else 0
            layers.append(torch.nn.MaxPool3d((1 if i == 0 else 2, 2, 2), padding=pad))
        head = [torch.nn.Flatten(), torch.nn.Linear(8192, 4096), torch.nn.ReLU()]
        head += [torch.nn.Linear(4096, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, CLASSES)]
        self.layers = torch.nn.Sequential(*layers, *head)

    def forward(self, x):
        return self.layers(x)


def normed(channels, features, window, stride=1):
    conv = torch.nn.Conv3d(channels, features, window, stride, window // 2, bias=False)
    return torch.nn.Sequential(
        conv, torch.nn.BatchNorm3d(features, eps=1e-3), torch.nn.ReLU(inplace=True)
    )


class Mixed(torch.nn.Module):
    """A block of four branches: their widths as in jaxvid.nn.inception.BLOCKS."""

    def __init__(self, channels, widths):
        super().__init__()
        one, reduce_2, two, reduce_3, three, four = widths
        self.branches = torch.nn.ModuleList(
            (
                normed(channels, one, 1),
                torch.nn.Sequential(normed(channels, reduce_2, 1), normed(reduce_2, two, 3)),
                torch.nn.Sequential(normed(channels, reduce_3, 1), normed(reduce_3, three, 3)),
                torch.nn.Sequential(torch.nn.MaxPool3d(3, 1, 1), normed(channels, four, 1)),
            )
        )
        self.features = one + two + three + four

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class I3D(torch.nn.Module):
    """Carreira and Zisserman 2017, padded alike on both sides: as many places as by TensorFlow's way."""

    def __init__(self):
        super().__init__()
        frames = torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        layers = [normed(3, 64, 7, 2), frames, normed(64, 64, 1), normed(64, 192, 3), frames]
        channels, before = 192, {4: torch.nn.MaxPool3d(3, 2, 1), 5: torch.nn.MaxPool3d(2)}
        for stage, blocks in BLOCKS.items():
            layers += [before[stage]] if stage in before else []
            for widths in blocks.values():
                layers.append(Mixed(channels, widths))
                channels = layers[-1].features
        self.layers = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(channels, CLASSES)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3, 4)))


def torchvision_video(name):
    def make():
        models = importlib.import_module("torchvision.models.video")
        return getattr(models, name)(num_classes=CLASSES)

    return make


def pytorchvideo(name):
    def make():
        # It asks for a module that torchvision has renamed.
        functional = importlib.import_module("torchvision.transforms.functional")
        sys.modules.setdefault("torchvision.transforms.functional_tensor", functional)
        return getattr(importlib.import_module("pytorchvideo.models.hub"), name)(pretrained=False)

    return make


class HuggingFace(torch.nn.Module):
    """A model of transformers, fed (N, C, T, H, W) as the others are."""

    def __init__(self, kind, **config):
        super().__init__()
        transformers = importlib.import_module("transformers")
        settings = getattr(transformers, f"{kind}Config")(num_labels=CLASSES, **config)
        self.model = getattr(transformers, f"{kind}ForVideoClassification")(settings)

    def forward(self, x):
        return self.model(x.transpose(1, 2)).logits


def hugging_face(kind, **config):
    return lambda: HuggingFace(kind, **config)


# name: (model, variant, frames, pixels, its reference, limits)
CASES = {
    "late_fusion": ("late_fusion", "18", 16, 224, lambda: PerFrame(recurrent=False), CONVOLUTIONAL),
    "cnn_lstm": ("cnn_lstm", "18", 16, 224, lambda: PerFrame(recurrent=True), CONVOLUTIONAL),
    "c3d": ("c3d", "C3D", 16, 112, C3D, CONVOLUTIONAL),
    "r3d": ("r3d", "18", 16, 112, torchvision_video("r3d_18"), CONVOLUTIONAL),
    "mc3": ("mc3", "18", 16, 112, torchvision_video("mc3_18"), CONVOLUTIONAL),
    "r2plus1d": ("r2plus1d", "18", 16, 112, torchvision_video("r2plus1d_18"), CONVOLUTIONAL),
    "i3d": ("i3d", "rgb", 32, 224, I3D, CONVOLUTIONAL),
    "s3d": ("s3d", "S3D", 16, 224, torchvision_video("s3d"), CONVOLUTIONAL),
    "c2d": ("c2d", "50", 8, 224, pytorchvideo("c2d_r50"), CONVOLUTIONAL),
    "slow": ("slow", "8x8", 8, 224, pytorchvideo("slow_r50"), CONVOLUTIONAL),
    "i3d_resnet": ("i3d_resnet", "50", 8, 224, pytorchvideo("i3d_r50"), CONVOLUTIONAL),
    "csn": ("csn", "101", 32, 224, pytorchvideo("csn_r101"), CONVOLUTIONAL),
    "x3d": ("x3d", "M", 16, 224, pytorchvideo("x3d_m"), CONVOLUTIONAL),
    "slowfast": ("slowfast", "R50_8x8", 32, 224, pytorchvideo("slowfast_r50"), CONVOLUTIONAL),
    "videomae": ("videomae", "B", 16, 224, hugging_face("VideoMAE", num_frames=16), TRANSFORMER),
    "timesformer": ("timesformer", "B", 8, 224, hugging_face("Timesformer"), TRANSFORMER),
    "vivit": ("vivit", "B", 32, 224, hugging_face("Vivit"), TRANSFORMER),
    "vivit_2": ("vivit", "B-fact-encoder", 32, 224, None, TRANSFORMER),
    "mvit": ("mvit", "v2-S", 16, 224, torchvision_video("mvit_v2_s"), TRANSFORMER),
    "video_swin": ("video_swin", "T", 32, 224, torchvision_video("swin3d_t"), TRANSFORMER),
}


def ours(name, variant, frames, size, batch):
    """-> (forward, step, what there is to say of them): functions that end when the device has."""
    module = lookup.module("model", name)
    model = module.build(CLASSES, variant=variant, dtype=DTYPE)
    rng = jax.random.key(0)
    inputs = {"video": jax.random.normal(rng, (batch, frames, size, size, 3), DTYPE)}
    labels = jax.nn.one_hot(jnp.zeros(batch, int), CLASSES)
    targets = {"weight": jnp.ones(batch), "target": labels}

    def apply(variables, inputs, rng):
        outputs, changed = model.apply(
            variables, inputs, train=True, rngs={"dropout": rng}, mutable=["batch_stats"]
        )
        return outputs, changed.get("batch_stats", variables["batch_stats"])

    def init(rng):
        return model.init({"params": rng, "dropout": rng}, inputs, train=False)

    tx = make_optimizer("adamw", weight_decay=0.05)
    state = jax.jit(make_init(init, tx, ema=False))(rng)
    data = (inputs, targets)
    step = make_train_step(apply, classify.build(), tx, lambda rng, b: b, lambda s: 1e-4)
    began = time.perf_counter()
    step = jax.jit(step, donate_argnums=0).lower(state, data).compile()
    middle = time.perf_counter()
    variables = state.eval_variables()
    forward = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    forward = forward.lower(variables, inputs).compile()
    compiling = (time.perf_counter() - middle, middle - began)
    memory = step.memory_analysis()
    work = multiply_adds(lambda v, x: model.apply(v, x, train=False), variables, inputs) / batch
    facts = (
        f"compiled in {compiling[0]:.0f} and {compiling[1]:.0f} s; memory of the step "
        f"{(memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20:.0f} MiB; forward "
        f"{work / 1e9:.1f} G multiply-adds a clip, by XLA {_flops(forward) / 2e9 / batch:.1f}"
    )
    holder = [state]

    def run_step():
        holder[0], sums = step(holder[0], data)
        jax.block_until_ready(sums)

    def run_forward():
        jax.block_until_ready(forward(holder[0].eval_variables(), inputs))

    return run_forward, run_step, facts


def _flops(compiled) -> float:
    """XLA's own count; the body of a loop counts once."""
    found = compiled.cost_analysis()
    return (found[0] if isinstance(found, list) else found or {}).get("flops", math.nan)


def theirs(make, name, frames, size, batch, compile_it):
    """The same in PyTorch."""
    device = "cuda" if GPU else "cpu"
    model = make().to(device).train()
    x = torch.randn(batch, 3, frames, size, size, device=device)

    def clip():  # PyTorchVideo's SlowFast writes over the list that it is given
        return [x[:, :, ::4], x] if name == "slowfast" else x

    label = torch.zeros(batch, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05, fused=GPU)
    run = torch.compile(model) if compile_it else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=GPU):
            loss = torch.nn.functional.cross_entropy(run(clip()), label)
        loss.backward()
        optimizer.step()
        if GPU:
            torch.cuda.synchronize()

    @torch.no_grad()
    def forward():
        model.eval()
        with torch.autocast(device, torch.bfloat16, enabled=GPU):
            run(clip())
        model.train()
        if GPU:
            torch.cuda.synchronize()

    return forward, step


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def compare(name: str, args) -> list[str]:
    """Prints a line or two; returns what was slower than its limit."""
    model, variant, frames, size, make, limits = CASES[name]
    try:
        others = make and theirs(make, name, frames, size, args.batch, args.torch_compile)
    except (ImportError, RuntimeError, AttributeError) as error:
        print(f"{name}: its reference cannot be made: {error}", flush=True)
        others = None
    *mine, facts = ours(model, variant, frames, size, args.batch)
    line, late = f"{name:12s} {frames}×{size}²", []
    for i, (what, limit) in enumerate(zip(("forward", "step"), limits, strict=True)):
        functions = (mine[i], others[i]) if others else (mine[i],)
        rounds = [[seconds(f) for f in functions] for _ in range(args.rounds + 1)][1:]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        line += f"  {what} {' / '.join(f'{m:.3f}' for m in medians)} s"
        if others:
            ratio = medians[0] / medians[1]
            line += f" = {ratio:.2f}"
            late += [f"{name} {what} {ratio:.2f}"] if ratio > limit else []
    print(f"{line}\n{'':12s} {facts}", flush=True)
    return late


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*", metavar="NAME", choices=[[], *CASES])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--torch-compile", action="store_true")
    args = p.parse_args()
    print(
        f"{jax.devices()[0].device_kind}, {DTYPE.__name__}, batch {args.batch}, {args.rounds} rounds"
    )
    print("jaxvid's seconds / PyTorch's = ratio: below 1 jaxvid is faster", flush=True)
    late = [line for name in args.names or CASES for line in compare(name, args)]
    print(f"slower than asked for: {', '.join(late) or 'none'}")


if __name__ == "__main__":
    main()
