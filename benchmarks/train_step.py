"""VideoMAE's training step and forward pass against `transformers` in PyTorch, in one run.

    python benchmarks/train_step.py [--variants S B] [--task finetune pretrain] [--batch 1] [--rounds 5]

Both sides run the same architecture on the same devices, in turn: a CPU in float32; a GPU in bfloat16 (PyTorch
through autocast, SDPA and torch.compile). The step is forward, backward and AdamW. On a GPU the share of a
measured matrix product's rate is printed too. Needs the `torch` extra. Prints medians and ratios.
"""

import argparse
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from jaxvid.core import lookup
from jaxvid.objectives import classify, mae
from jaxvid.ops.tube_mask import tube_mask
from jaxvid.train.optim import make_optimizer
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step

FRAMES, SIZE, CLASSES, RATIO = 16, 224, 400, 0.9
GRID = (8, 14, 14)
# Forward work of one clip in GFLOP, two a multiply-add, by XLA's own count; see --count.
GPU = jax.default_backend() == "gpu"
DTYPE = jnp.bfloat16 if GPU else jnp.float32


def ours(task, variant, batch, **fields):
    """-> (step, forward, seconds of compiling, bytes by the compiler's plan); step and forward are functions
    without arguments that end when the device has ended."""
    name = "videomae" if task == "finetune" else "videomae_pretrain"
    module = lookup.module("model", name)
    options = {"dtype": DTYPE, **fields} | ({"num_visible": 160} if task == "pretrain" else {})
    model = module.build(CLASSES, variant=variant, **options)
    rng = jax.random.key(0)
    video = jax.random.normal(rng, (batch, FRAMES, SIZE, SIZE, 3), DTYPE)
    inputs, targets = {"video": video}, {"weight": jnp.ones(batch)}
    if task == "pretrain":
        inputs["tube_mask"] = tube_mask(rng, batch, GRID, RATIO)
        targets |= {"video": jax.nn.sigmoid(video.astype(jnp.float32))}
        targets["tube_mask"] = inputs["tube_mask"]
        objective = mae.build()
    else:
        targets["target"] = jax.nn.one_hot(jnp.arange(batch) % CLASSES, CLASSES)
        objective = classify.build()

    def apply(variables, inputs, rng):
        outputs = model.apply(
            {"params": variables["params"]}, inputs, train=True, rngs={"dropout": rng}
        )
        return outputs, variables["batch_stats"]

    def init(rng):
        return model.init({"params": rng, "dropout": rng}, inputs, train=False)

    tx = make_optimizer("adamw", weight_decay=0.05)
    state = jax.jit(make_init(init, tx, ema=False))(rng)
    data = (inputs, targets)
    step = jax.jit(
        make_train_step(apply, objective, tx, lambda rng, b: b, lambda s: 1e-4), donate_argnums=0
    )
    began = time.perf_counter()
    compiled = step.lower(state, data).compile()
    compile_seconds = time.perf_counter() - began
    forward = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False)["logits"])
    holder = [state]

    def run_step():
        holder[0], sums = compiled(holder[0], data)
        jax.block_until_ready(sums)

    def run_forward():
        jax.block_until_ready(forward(holder[0].params, inputs))

    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return run_step, run_forward, compile_seconds, peak


SIZES = {"S": (384, 12, 6, 192, 3), "B": (768, 12, 12, 384, 6), "Ti": (192, 12, 3, 96, 3)}


def theirs(task, variant, batch):
    """The same from `transformers`."""
    width, depth, heads, decoder_width, decoder_heads = SIZES[variant]
    config = transformers.VideoMAEConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_frames=FRAMES,
        num_labels=CLASSES,
        decoder_hidden_size=decoder_width,
        decoder_num_attention_heads=decoder_heads,
        decoder_num_hidden_layers=4,
        decoder_intermediate_size=4 * decoder_width,
        use_mean_pooling=task == "finetune",
        norm_pix_loss=True,
        attn_implementation="sdpa",
    )
    device = "cuda" if GPU else "cpu"
    kind = (
        transformers.VideoMAEForVideoClassification
        if task == "finetune"
        else transformers.VideoMAEForPreTraining
    )
    model = kind(config).to(device).train()
    video = torch.randn(batch, FRAMES, 3, SIZE, SIZE, device=device)
    if task == "finetune":
        more = {"labels": torch.arange(batch, device=device) % CLASSES}
    else:
        mask = np.asarray(tube_mask(jax.random.key(0), batch, GRID, RATIO))
        more = {"bool_masked_pos": torch.from_numpy(mask.copy()).to(device)}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05, fused=GPU)
    run = torch.compile(model) if GPU else model

    def autocast():
        return torch.autocast(device, torch.bfloat16, enabled=GPU)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = run(video, **more).loss
        loss.backward()
        optimizer.step()
        if GPU:
            torch.cuda.synchronize()

    @torch.no_grad()
    def forward():
        model.eval()
        with autocast():
            run(video, **({} if task == "finetune" else more))
        model.train()
        if GPU:
            torch.cuda.synchronize()

    return step, forward


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["S", "B"], choices=SIZES)
    parser.add_argument("--tasks", nargs="+", default=["finetune", "pretrain"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(
        f"{jax.devices()[0].device_kind}, {DTYPE.__name__}, batch {args.batch}, {args.rounds} rounds"
    )
    print("ratio = PyTorch's time / jaxvid's: above 1 jaxvid is faster")
    for task in args.tasks:
        for variant in args.variants:
            step, forward, compiling, peak = ours(task, variant, args.batch)
            their_step, their_forward = theirs(task, variant, args.batch)
            times = {"step": ([], []), "forward": ([], [])}
            for _ in range(args.rounds + 1):
                for name, mine, other in (
                    ("step", step, their_step),
                    ("forward", forward, their_forward),
                ):
                    times[name][0].append(seconds(mine))
                    times[name][1].append(seconds(other))
            for name, (mine, other) in times.items():
                a, b = statistics.median(mine[1:]), statistics.median(other[1:])  # without warm-up
                print(
                    f"{task:9s} {variant:2s} {name:8s} jaxvid {a:7.3f} s, PyTorch {b:7.3f} s, "
                    f"ratio {b / a:.2f} ({args.batch / a:.2f} clips/s)"
                )
            line = f"{task:9s} {variant:2s} compiled in {compiling:.0f} s; step's memory {peak / 2**20:.0f} MiB"
            if GPU:
                line += f", PyTorch's peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"
            print(line)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"whole process (both frameworks): {usage / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
