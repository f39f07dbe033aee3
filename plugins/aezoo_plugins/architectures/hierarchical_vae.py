"""A hierarchical VAE: a few numbers first, and then more, each group with a prior that the groups above it give."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.variational import Variance, beside_mse, draw

Gaussian = tuple[Tensor, Tensor]
"""Means and log-variances, each (B, numbers)."""


class Hierarchical(nn.Module):
    """Layers up, and layers down, that meet in each group of latents.
    """
