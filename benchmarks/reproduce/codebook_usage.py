"""Train a network of discrete codes, and count how many of its codebook's entries the test images use."""

from pathlib import Path
from typing import Any

import torch
from trained import built, images_of, learn

import aezoo
from aezoo.contract.network import to_float
from aezoo.contract.shared import chunks


def compare(row: dict[str, Any], recipe: aezoo.Recipe, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Return the share of the entries that some test image uses at some place, in percent, by seeds; nothing else."""
    torch.set_num_threads(1)
    train_NCHW, test_NCHW = images_of(recipe, data_dir)
    shares = []
    for seed in range(recipe.seeds):
        module = built(row["variant"], train_NCHW, seed)
        learn(module, train_NCHW, recipe, seed)
        with torch.no_grad():
            codes = torch.cat([module.codes(to_float(pixels)).flatten() for pixels in chunks(test_NCHW, 500)])
        shares.append(100 * int(codes.bincount().count_nonzero()) / module.codebook_size)
        print(f"{row['variant']} seed {seed}: {shares[-1]:.2f} %", flush=True)
    return shares, []
