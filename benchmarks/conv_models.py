"""Convolutional models against their PyTorch references, forward and training step, in one run.

    python benchmarks/conv_models.py [NAME …] [--rounds 5]

Both sides have the same architecture, clip (batch 1) and devices, and take turns; float32 on a CPU, bfloat16
on a GPU (PyTorch under autocast). The step is forward, backward and AdamW. Needs torch, torchvision and
pytorchvideo. Prints medians, jaxvid's time over PyTorch's (below 1 jaxvid is faster) and compile times.
"""

import argparse
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import torch
import torchvision
import torchvision.transforms.functional

from jaxvid.core import lookup
from jaxvid.objectives import classify
from jaxvid.train.optim import make_optimizer
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step

# pytorchvideo asks for a module that torchvision has renamed.
sys.modules.setdefault(
    "torchvision.transforms.functional_tensor", torchvision.transforms.functional
)
from pytorchvideo.models import hub

CLASSES = 400
GPU = jax.default_backend() == "gpu"
DTYPE = jnp.bfloat16 if GPU else jnp.float32
FORWARD_AT_MOST, STEP_AT_MOST = 1.2, 1.3


class PerFrame(torch.nn.Module):
    """ResNet-18 over the frames of a clip, then an LSTM or the mean."""

    def __init__(self, recurrent: bool):
        super().__init__()
        self.cnn = torchvision.models.resnet18()
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


def video(name):
    return lambda: getattr(torchvision.models.video, name)(num_classes=CLASSES)


def zoo(name, **options):
    return lambda: getattr(hub, name)(pretrained=False, **options)


# name: (model, variant, frames, pixels, its reference)
CASES = {
    "late_fusion": ("late_fusion", "18", 16, 224, lambda: PerFrame(recurrent=False)),
    "cnn_lstm": ("cnn_lstm", "18", 16, 224, lambda: PerFrame(recurrent=True)),
    "c3d": ("c3d", "C3D", 16, 112, C3D),
    "r3d": ("r3d", "18", 16, 112, video("r3d_18")),
    "mc3": ("mc3", "18", 16, 112, video("mc3_18")),
    "r2plus1d": ("r2plus1d", "18", 16, 112, video("r2plus1d_18")),
    "s3d": ("s3d", "S3D", 16, 224, video("s3d")),
    "c2d": ("c2d", "50", 8, 224, zoo("c2d_r50")),
    "slow": ("slow", "8x8", 8, 224, zoo("slow_r50")),
    "i3d_resnet": ("i3d_resnet", "50", 8, 224, zoo("i3d_r50")),
    "csn": ("csn", "101", 16, 112, zoo("csn_r101")),
    "x3d": ("x3d", "M", 16, 224, zoo("x3d_m")),
    "slowfast": ("slowfast", "R50_8x8", 32, 224, zoo("slowfast_r50")),
}


def ours(name, variant, frames, size):
    """-> (forward, step, seconds of compiling each): functions that end when the device has."""
    module = lookup.module("model", name)
    model = module.build(CLASSES, variant=variant, dtype=DTYPE)
    rng = jax.random.key(0)
    inputs = {"video": jax.random.normal(rng, (1, frames, size, size, 3), DTYPE)}
    targets = {"weight": jnp.ones(1), "target": jax.nn.one_hot(jnp.zeros(1, int), CLASSES)}

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
    holder = [state]

    def run_step():
        holder[0], sums = step(holder[0], data)
        jax.block_until_ready(sums)

    def run_forward():
        jax.block_until_ready(forward(holder[0].eval_variables(), inputs))

    return run_forward, run_step, compiling


def theirs(make, name, frames, size):
    """The same in PyTorch."""
    device = "cuda" if GPU else "cpu"
    model = make().to(device).train()
    x = torch.randn(1, 3, frames, size, size, device=device)
    clip = [x[:, :, ::4], x] if name == "slowfast" else x
    label = torch.zeros(1, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05, fused=GPU)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=GPU):
            loss = torch.nn.functional.cross_entropy(model(clip), label)
        loss.backward()
        optimizer.step()
        if GPU:
            torch.cuda.synchronize()

    @torch.no_grad()
    def forward():
        model.eval()
        with torch.autocast(device, torch.bfloat16, enabled=GPU):
            model(clip)
        model.train()
        if GPU:
            torch.cuda.synchronize()

    return forward, step


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*", metavar="NAME", choices=[[], *CASES])
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    print(f"{jax.devices()[0].device_kind}, {DTYPE.__name__}, batch 1, {args.rounds} rounds")
    print("seconds; ratio = jaxvid's time / PyTorch's: below 1 jaxvid is faster", flush=True)
    late = []
    for name in args.names or CASES:
        model, variant, frames, size, make = CASES[name]
        forward, step, compiling = ours(model, variant, frames, size)
        other_forward, other_step = theirs(make, name, frames, size)
        line = f"{name:12s} {frames}×{size}²"
        for what, mine, other, limit, compiled in (
            ("forward", forward, other_forward, FORWARD_AT_MOST, compiling[0]),
            ("step", step, other_step, STEP_AT_MOST, compiling[1]),
        ):
            pairs = [(seconds(mine), seconds(other)) for _ in range(args.rounds + 1)][1:]
            a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
            line += f"  {what} {a:.3f} / {b:.3f} = {a / b:.2f} (compiled in {compiled:.0f} s)"
            if a / b > limit:
                late.append(f"{name} {what} {a / b:.2f}")
        print(line, flush=True)
    print(f"over {FORWARD_AT_MOST} (forward) or {STEP_AT_MOST} (step): {', '.join(late) or 'none'}")


if __name__ == "__main__":
    main()
