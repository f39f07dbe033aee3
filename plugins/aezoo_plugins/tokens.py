"""What families of learnt tokens share: attention of some tokens to others, and a transformer whose latent is tokens.

Shapes: tokens (B, count, width).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aezoo import AezooError, ImageShape
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import FromPatches, ToPatches


class AttentionLayer(nn.Module):
    """Let tokens attend to a context, and pass each of them through an MLP; both beside a shortcut.

    As a layer of `patches.Transformer` (normalised before each part, GELU, four times as wide inside, no dropout), but
    that what attends need not be what is attended to: so a last layer is computed only for the tokens that are wanted.

    Args:
        width: Of the tokens.
        heads: Of the attention.
        context_width: Of a context that is of another kind, and has a normalisation of its own; None where the tokens
            are some of it, or all.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        check_at_least_one(width=width, heads=heads)
        if width % heads:
            raise AezooError(f"width must be a multiple of heads, {heads}, but is {width}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.context_norm = None if context_width is None else nn.LayerNorm(context_width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * width)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        # Keys and queries of standard deviation 1, so that tokens attend to different things from the start.
        for weight in (self.query.weight, *self.key_value.weight.chunk(2)):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, count, width) to the same, by a context (B, some, context_width).

        `mask` (count, some) is true where a token may attend.
        """
        query = self.query(self.norm(tokens))
        both = self.key_value((self.context_norm or self.norm)(context))
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = both.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, mask)
        tokens = tokens + self.join(attended.transpose(1, 2).flatten(2))
        return tokens + self.mlp(tokens)


def positions(count: int, width: int) -> nn.Parameter:
    """Return learnt vectors (count, width) of about norm 1, as TiTok's start.

    Transformers more often start them at a standard deviation of 0.02; what then tells tokens apart is small beside
    what they have in common, and learns later.
    """
    return nn.Parameter(width**-0.5 * torch.randn(count, width))


class TokenEncoder(nn.Module):
    """A transformer over an image's patches and a few learnt tokens, of which these come out: what they have gathered.

    Args:
        image_shape: (channels, height, width).
        patch: Pixels of a patch's side.
        tokens: How many come out.
        width: Of all tokens.
        depth: Layers.
        heads: Of each layer.
        causal: Whether patches attend to patches alone, and each token to these, itself and those before it.
    """

    def __init__(
        self, image_shape: ImageShape, *, patch: int, tokens: int, width: int, depth: int, heads: int, causal: bool
    ) -> None:
        super().__init__()
        check_at_least_one(tokens=tokens, width=width, depth=depth, heads=heads)
        self.cut = ToPatches(image_shape, patch)
        self.patches = self.cut.count
        self.embed = nn.Linear(self.cut.size, width)
        self.places, self.tokens = positions(self.patches, width), positions(tokens, width)
        self.layers = nn.ModuleList(AttentionLayer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        mask = None
        if causal:
            mask = torch.ones(self.patches + tokens, self.patches + tokens, dtype=torch.bool).tril()
            mask[: self.patches, : self.patches] = True
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, tokens, width)."""
        patches = self.embed(self.cut(x)) + self.places
        all_tokens = torch.cat([patches, self.tokens.to(patches.dtype).expand(len(x), -1, -1)], dim=1)
        for layer in self.layers[:-1]:
            all_tokens = layer(all_tokens, all_tokens, self.mask)
        mask = None if self.mask is None else self.mask[self.patches :]
        return self.norm(self.layers[-1](all_tokens[:, self.patches :], all_tokens, mask))


class TokenDecoder(nn.Module):
    """A transformer over tokens and a learnt vector for each patch, which is painted from what that becomes.

    In the papers that vector is a mask token, the same for all patches, and a position: here they are their sum.

    Args:
        image_shape: (channels, height, width).
        patch: Pixels of a patch's side.
        tokens: How many come in.
        width: Of all tokens.
        depth: Layers.
        heads: Of each layer.
    """

    def __init__(self, image_shape: ImageShape, *, patch: int, tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.join = FromPatches(image_shape, patch)
        cut = ToPatches(image_shape, patch)
        self.patches = cut.count
        self.places, self.positions = positions(self.patches, width), positions(tokens, width)
        self.layers = nn.ModuleList(AttentionLayer(width, heads) for _ in range(depth))
        self.paint = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, cut.size), nn.Sigmoid())

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, tokens, width) to images (B, C, H, W)."""
        tokens = tokens + self.positions
        all_tokens = torch.cat([self.places.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        for layer in self.layers[:-1]:
            all_tokens = layer(all_tokens, all_tokens)
        return self.join(self.paint(self.layers[-1](all_tokens[:, : self.patches], all_tokens)))
