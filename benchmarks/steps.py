"""Where the time of a training step goes: what its matrix products alone would take, and the shares of the rest.

python benchmarks/steps.py mlp conv
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import tabulate
import torch

from aezoo.contract.network import to_float
from aezoo.contract.recipe import read_recipe
from aezoo.harness.timing import matmul_flops_per_s
from aezoo.machine import configure
from aezoo.registry.discovery import discover
from aezoo.train.build import build
from aezoo.train.engine import Trainer
from aezoo.train.layout import choose_layout, lay_out

GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "Adam": ("aten::_fused_adam_", "aten::_foreach_add_", "Optimizer.step#Adam.step"),
    "sigmoid and MSE, with their backward": ("sigmoid", "mse_loss", "aten::fill_"),
    "convolutions": ("convolution",),
    "copies": ("aten::copy_", "aten::_to_copy"),
    "ReLU, with its backward": ("clamp_min", "threshold_backward"),
    "sums for the biases": ("aten::sum",),
}


def profile_step(variant: str, steps: int) -> dict[str, Any]:
    """Say how far a variant's training step is from the time of its matrix products, and where the rest goes."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    configure(threads=1)
    recipe = read_recipe("default")
    pixels = torch.from_numpy(discover().dataset(recipe.dataset).checked(Path()).train[: recipe.batch_size])
    chosen = discover().resolve(variant)
    layout = choose_layout(build(chosen, pixels, seed=0), pixels[:2], recipe)
    trainer = Trainer(lay_out(build(chosen, pixels, seed=0), layout), recipe)
    batch, x_BCHW = len(pixels), to_float(pixels)

    def run() -> None:
        for _ in range(steps):
            trainer.step(x_BCHW)

    with FlopCounterMode(display=False) as flops:
        trainer.step(x_BCHW)
    run()
    started = time.perf_counter()
    run()
    seconds = (time.perf_counter() - started) / steps
    rate = matmul_flops_per_s("float32", 1.0, "cpu")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    own = {one.key: one.self_cpu_time_total / 1e6 / steps for one in profiled.key_averages()}
    total, left, groups = sum(own.values()), dict(own), {}
    for group, names in GROUPS.items():
        members = [key for key in left if any(name in key for name in names)]
        groups[group] = sum(left.pop(key) for key in members) / total
    groups["dispatch, autograd, Python, all else"] = sum(left.values()) / total
    ideal = flops.get_total_flops() / rate
    print(f"{variant}, {layout}, one thread: a step takes {1e3 * seconds:.2f} ms, {batch / seconds:,.0f} images/s")
    print(f"its {flops.get_total_flops() / 1e6:.0f} MFLOP at {rate / 1e9:.0f} GFLOP/s, the rate of a product of two")
    print(f"1024x1024 matrices: {1e3 * ideal:.2f} ms, {batch / ideal:,.0f} images/s; reached {ideal / seconds:.0%}")
    print(tabulate.tabulate(groups.items(), ["share of the profiled step", ""], floatfmt=".2f"))
    return {"step_seconds": seconds, "flops": flops.get_total_flops(), "matmul_flops_per_s": rate, "shares": groups}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", default=["mlp"])
    parser.add_argument("--steps", type=int, default=300, help="that are profiled; by default %(default)s")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = {variant: profile_step(variant, given.steps) for variant in given.variants}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
