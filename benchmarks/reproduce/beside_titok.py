"""Train our `titok`, and titok-pytorch's tokeniser of the same sizes on the same batches."""

from pathlib import Path
from typing import Any

import torch
from titok_pytorch import TiTokTokenizer
from torch import Tensor, nn
from trained import built, images_of, learn, learn_theirs

import aezoo
from aezoo.train.build import Stream, seed_stream
from aezoo.train.score import image_errors

WIDTH, PATCH, HEADS = 32, 7, 2
"""Our defaults."""
SIZES = {"depth": 1, "heads": HEADS, "dim_head": WIDTH // HEADS}
"""Of either half."""


class Reconstructed(nn.Module):
    """Their tokeniser as an autoencoder."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(x, return_recon_images=True)[1]
        return reconstruction


def compare(row: dict[str, Any], recipe: aezoo.Recipe, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Return the test MSE of ours and of theirs, seed by seed; a row's `settings` are those of their quantiser."""
    torch.set_num_threads(1)
    train_NCHW, test_NCHW = images_of(recipe, data_dir)
    ours, others = [], []
    for seed in range(recipe.seeds):
        module = built(row["variant"], train_NCHW, seed)
        learn(module, train_NCHW, recipe, seed)
        ours.append(float(image_errors(module, test_NCHW).mean()))
        others.append(float(image_errors(theirs(row, module, train_NCHW, recipe, seed), test_NCHW).mean()))
        print(f"{row['label']} seed {seed}: ours {ours[-1]:.5f}, theirs {others[-1]:.5f}", flush=True)
    return ours, others


def theirs(row: dict[str, Any], module: Any, images_NCHW: Tensor, recipe: aezoo.Recipe, seed: int) -> nn.Module:
    """Return their tokeniser, as wide and as deep as ours, and trained: it gives the MSE as its loss."""
    halves = {f"{half}_{name}": value for half in ("enc", "dec") for name, value in SIZES.items()}
    seed_stream(seed, Stream.INITIALISATION)
    model: Any = TiTokTokenizer(
        dim=WIDTH,
        image_size=images_NCHW.shape[2],
        patch_size=PATCH,
        channels=images_NCHW.shape[1],
        num_latent_tokens=row["tokens"],
        codebook_size=module.codebook_size,
        vq_kwargs=row["settings"],
        **halves,
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    learn_theirs(model, optimizer, images_NCHW, recipe, seed)
    return Reconstructed(model).eval()
