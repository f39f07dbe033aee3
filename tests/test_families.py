"""What each family claims of itself, held to a computation of another kind."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import ARCHITECTURES, FILES

import aezoo
from aezoo.contract.latent import named_parts
from aezoo.contract.network import num_params
from aezoo.contract.recipe import Recipe
from aezoo.train.loop import train
from aezoo.train.score import image_errors
from aezoo_plugins.architectures.convnext import Paint
from aezoo_plugins.architectures.coordinate import OMEGA
from aezoo_plugins.architectures.dc_ae import Down, Norm, Up, to_channels
from aezoo_plugins.architectures.recurrent import states
from aezoo_plugins.architectures.topological import difference, pairwise, spanning_tree
from aezoo_plugins.blocks import LastConvTranspose, UpsampleConv
from aezoo_plugins.datasets import mnist_5k
from aezoo_plugins.patches import FromPatches, ToPatches, patch_of

SHAPE = (1, 8, 8)


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 12, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def jacobian(function, x: Tensor) -> Tensor:
    """Return the Jacobian of a function of one row, (out, in)."""
    return torch.autograd.functional.jacobian(lambda row: function(row.unsqueeze(0)).flatten(), x).flatten(1)


# Dense ---------------------------------------------------------------------------------------------------------------


def test_tied_weights_are_the_encoders_own_transposed():
    module, free = create("tied_mlp[latent_dim=4]"), create("mlp[latent_dim=4]")
    z = module.encode(images())
    assert module.decode(z).shape == (12, *SHAPE)
    by_hand = z
    layers = [layer for layer in reversed(module.encoder) if isinstance(layer, nn.Linear)]
    for layer, bias in zip(layers, module.biases, strict=True):
        by_hand = (by_hand if layer is layers[0] else by_hand.relu()) @ layer.weight + bias
    torch.testing.assert_close(module.decode(z), by_hand.sigmoid().view(12, *SHAPE))
    assert layers[-1].weight.shape == (128, 64)
    assert 0.5 < num_params(module) / num_params(free) < 0.52


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deep[width=1000]", [1000, 500, 250, 30]),
        ("deep", [250, 125, 30]),
        ("deep[latent_dim=64]", [250, 64]),
        ("deep[width=130]", [130, 30]),
        ("deep[width=20]", [60, 30]),
    ],
)
def test_deep_has_the_papers_layers_and_none_is_a_second_bottleneck(text, expected):
    module = create(text, (1, 28, 28))
    assert [one.out_features for one in module.encoder if isinstance(one, nn.Linear)] == expected


@pytest.mark.parametrize("text", ["residual_mlp[latent_dim=40,width=8]", "recurrent[latent_dim=40,width=8]"])
def test_a_width_below_the_latents_is_no_second_bottleneck(text):
    module = create(text)
    z = module.encode(images(200))
    # A normalisation before the latent takes one direction of as many.
    assert int(torch.linalg.matrix_rank(z - z.mean(0))) >= 39


def test_the_width_of_mlp_keeps_its_ratios():
    module = create("mlp[width=256]", (1, 28, 28))
    assert [one.out_features for one in module.encoder if isinstance(one, nn.Linear)] == [256, 128, 24, 3]


def test_mlp_of_16_numbers_is_ahead_of_pca_after_500_steps():
    """With a layer of 16 ReLUs beside its latent it was behind after 1,000."""
    found = mnist_5k.load(Path())
    data, held_out = (torch.from_numpy(np.asarray(one)) for one in (found.train, found.test))
    module, pca = create("mlp[latent_dim=16]", (1, 28, 28)), create("pca[latent_dim=16]", (1, 28, 28))
    train(module, data, Recipe(name="t", steps=500), 0, lambda _: None)
    with torch.no_grad():
        pca.fit(data)
    assert image_errors(module, held_out).mean() < 0.98 * image_errors(pca, held_out).mean()


# Convolutions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "depth", "channels"), [(4, 2, [6, 4]), (8, 3, [8, 8, 8]), (4, 1, [6])])
def test_the_broadcast_decoder_reads_all_numbers_of_a_latent_away_from_the_borders(width, depth, channels):
    module = create(f"spatial_broadcast[depth={depth},latent_dim=6,width={width}]", (1, 16, 16))
    first, *others = (one for one in module.decoder if not isinstance(one, nn.ReLU))
    assert [first.convolution.out_channels, *(one.out_channels for one in others)] == [*channels, 1]
    middle = jacobian(lambda z: first(z)[:, :, 8, 8], torch.randn(6))
    assert torch.linalg.matrix_rank(middle) == 6


def test_the_broadcast_decoders_first_layer_is_the_convolution_of_tiled_latents():
    module = create("spatial_broadcast[latent_dim=5,width=3]", (1, 9, 7))
    first, z = module.decoder[0], torch.randn(4, 5)
    rows, columns = torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 7)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(4, -1, -1, -1)
    tiled = torch.cat([z[:, :, None, None].expand(-1, -1, 9, 7), places], dim=1)
    torch.testing.assert_close(first(z), first.convolution(tiled))


@pytest.mark.parametrize(("have", "count"), [(4, 8), (8, 4), (6, 4), (1, 3)])
def test_dc_aes_shortcut_changes_channels_and_keeps_the_mean(have, count):
    x = torch.rand(2, have, 3, 5)
    y = to_channels(x, count)
    assert y.shape == (2, count, 3, 5)
    if have % count == 0 or count % have == 0:
        torch.testing.assert_close(y.mean(1), x.mean(1))
    if count > have and count % have == 0:
        torch.testing.assert_close(to_channels(y, have), x)


def test_dc_aes_shortcuts_alone_halve_and_double_by_means_and_copies():
    """With convolutions that say nothing: what goes down is a mean of pixels, and up again a copy."""
    x = torch.rand(2, 4, 6, 8)
    down, up, plain = Down(4, 8, shortcut=True), Up(8, 4, shortcut=True), Down(4, 8, shortcut=False)
    for layer in (down, up, plain):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    low = down(x)
    assert low.shape == (2, 8, 3, 4)
    # A channel makes four, of which two neighbours, those of a row, are averaged.
    torch.testing.assert_close(
        low.unflatten(1, (4, 2)), x.unflatten(2, (3, 2)).unflatten(4, (4, 2)).mean(5).transpose(2, 3)
    )
    high = up(low)
    torch.testing.assert_close(
        high.unflatten(2, (3, 2)).unflatten(4, (4, 2))[..., 0], low.unflatten(1, (4, 2)).transpose(2, 3)
    )
    torch.testing.assert_close(high[..., ::2], high[..., 1::2])
    assert not plain(x).any()


def test_dc_ae_has_no_shortcut_at_the_image_and_one_to_the_latent():
    module = create("dc_ae", (1, 16, 16))
    ends = [layer for half in (module.encoder, module.decoder) for layer in half if isinstance(layer, Down | Up)]
    first, last = ends[0].convolution, ends[-1].convolution
    x, z = images(2, (1, 16, 16)), torch.randn(2, 4, 2, 2)
    nn.init.zeros_(module.encoder[-1].weight)
    nn.init.zeros_(module.encoder[-1].bias)
    assert not torch.allclose(module.encode(x)[0], module.encode(x)[1])
    for layer in (first, last):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    torch.testing.assert_close(module.encode(x)[0], module.encode(x)[1])
    torch.testing.assert_close(module.decode(z), torch.full((2, 1, 16, 16), 0.5))


def test_dc_aes_norm_divides_by_the_root_mean_square_over_the_channels():
    norm, x = Norm(4), torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(norm(x), F.rms_norm(x.movedim(1, 3), (4,), eps=1e-5).movedim(3, 1))
    torch.testing.assert_close(norm(x).square().mean(1), torch.ones(2, 3, 3), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("size", [(14, 10), (13, 9)], ids=["doubled", "not doubled"])
def test_upsampling_and_convolving_in_one_is_the_same_function(size):
    layer = UpsampleConv(3, 2, size)
    x = torch.rand(2, 3, 7, 5)
    torch.testing.assert_close(layer(x), layer.convolution(F.interpolate(x, size)))


@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
def test_a_last_transposed_convolution_is_torchs_with_its_gradients_also_of_gradients(padding):
    settings = {"stride": 2, "padding": 1, "output_padding": padding}
    ours, torchs = LastConvTranspose(4, 2, 3, **settings), nn.ConvTranspose2d(4, 2, 3, **settings)
    torchs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, torchs):
        x = torch.linspace(-1, 1, 2 * 4 * 3 * 5).view(2, 4, 3, 5).requires_grad_()
        y = layer(x)
        first = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [x, layer.weight])
        jacobians = torch.func.vmap(torch.func.jacrev(lambda one, layer=layer: layer(one[None])))(x.detach())
        results.append([y, *first, *second, jacobians])
    for our, their in zip(*results, strict=True):
        torch.testing.assert_close(our, their)


def test_convnexts_last_layer_is_a_transposed_convolution():
    paint, torchs = Paint(5, 3, 4, stride=4), nn.ConvTranspose2d(5, 3, 4, stride=4)
    torchs.load_state_dict(paint.state_dict())
    x = torch.rand(2, 5, 3, 2)
    torch.testing.assert_close(paint(x), torchs(x))


def test_patches_are_those_of_unfold():
    cut, join = ToPatches((2, 7, 9), 4), FromPatches((2, 7, 9), 4)
    x = torch.rand(3, 2, 7, 9)
    torch.testing.assert_close(cut(x), F.unfold(F.pad(x, (0, 3, 0, 1)), 4, stride=4).transpose(1, 2))
    torch.testing.assert_close(join(cut(x)), x)


@pytest.mark.parametrize("text", ["conv_spatial", "dc_ae"])
def test_a_spatial_latent_keeps_its_size_or_with_strides_that_are_given_grows_with_the_image(text):
    for side, kept, grown in ((28, 4, 4), (32, 4, 4), (64, 4, 8), (96, 3, 12)):
        x = torch.zeros(1, 3, side, side)
        for strides, latent in (("", kept), ("[strides=3]", grown)):
            assert create(text + strides, (3, side, side)).eval().encode(x).shape == (1, 4, latent, latent)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in FILES])
def test_a_latent_of_128x128_pixels_is_of_the_size_that_it_is_of_28x28(name):
    """So that there is something to rank it against. On a device that has shapes and no numbers, where it can be."""
    sizes = []
    for side in (28, 128):
        shape = (3, side, side)
        device = "cpu" if name == "residual_fsq" else "meta"  # its library asks for numbers
        with torch.device(device), torch.no_grad():
            latent = create(f"{name}[]", shape).eval().encode(torch.zeros(1, *shape))
        parts = named_parts(latent) or {"latent": latent}
        sizes.append(sum(part.numel() for part in parts.values()))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("text", ["conv", "conv_resize", "resnet", "spatial_broadcast"])
@pytest.mark.parametrize(
    ("shape", "widths"), [((1, 28, 28), [8, 16]), ((3, 32, 32), [8, 16]), ((3, 64, 70), [8, 16, 32])]
)
def test_convolutions_bring_a_larger_image_down_in_more_strides(text, shape, widths):
    layers = [one for one in create(text, shape).encoder.modules() if isinstance(one, nn.Conv2d)]
    assert [one.out_channels for one in layers if one.stride == (2, 2)] == widths


@pytest.mark.parametrize(
    ("shape", "patch"), [((1, 8, 8), 7), ((1, 28, 28), 7), ((3, 32, 32), 8), ((3, 64, 64), 16), ((1, 16, 100), 10)]
)
def test_patches_grow_with_the_image_so_that_about_4_by_4_make_it(shape, patch):
    assert patch_of(shape) == patch
    assert create("mae", shape).encoder["cut"][0].patch == patch
    assert patch_of(shape, 5) == create("vit[patch=5]", shape).encoder[0].patch == 5


def test_a_coordinate_decoder_paints_each_pixel_by_itself():
    """One painter serves any resolution: at the same places it paints the same."""
    small, large = create("coordinate[features=siren]", (1, 5, 5)), create("coordinate[features=siren]", (1, 9, 9))
    weights = {name: one for name, one in small.decoder.state_dict().items() if name != "places"}
    large.decoder.load_state_dict(weights, strict=False)
    z = torch.randn(2, 16)
    torch.testing.assert_close(large.decoder(z)[..., ::2, ::2], small.decoder(z), rtol=1e-4, atol=1e-5)


# Attention, sequence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_siren_paints_the_sines_of_its_layers(depth):
    painter = create(f"coordinate[depth={depth},features=siren,latent_dim=4]").decoder
    z = torch.randn(3, 4)
    y = painter.places
    for layer, shift in zip(painter.layers, painter.shifts, strict=True):
        y = torch.sin(OMEGA * (layer(y) + shift(z).unsqueeze(1)))
    expected = torch.sigmoid(painter.last(y)).transpose(1, 2).view(3, *SHAPE)
    torch.testing.assert_close(painter(z), expected, rtol=1e-4, atol=1e-5)


def test_a_recurrent_autoencoder_reads_rows_in_order_and_writes_from_the_last_one():
    module = create("recurrent", (1, 6, 5))
    x = images(2, (1, 6, 5))
    z = module.encode(x)
    assert not torch.allclose(module.encode(x.flip(2)), z)
    state = module.decoder["widen"](z).unsqueeze(0)
    first, _ = module.decoder["write"](torch.ones(1, 2, 1), state)
    torch.testing.assert_close(module.decode(z)[:, 0, -1], module.decoder["paint"](first)[0])


def test_the_recurrent_ones_states_and_gradients_are_those_of_torchs_gru():
    gru = nn.GRU(3, 4)
    results = []
    for own in (True, False):
        x, start = torch.linspace(-1, 1, 30).view(5, 2, 3).requires_grad_(), torch.full((2, 4), 0.5).requires_grad_()
        y = states(gru, x, start) if own else gru(x, start.unsqueeze(0))[0]
        gradients = torch.autograd.grad((y * torch.arange(40.0).view(5, 2, 4)).sum(), [x, start, *gru.parameters()])
        results.append((y.detach(), *gradients))
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs)


# Objectives ----------------------------------------------------------------------------------------------------------


def test_contraction_is_the_jacobians_norm():
    module = create("contractive[latent_dim=5]")
    x = images(3)
    expected = [jacobian(module.encode, one).square().sum() for one in x]
    torch.testing.assert_close(module.squared_jacobian(module.encode(x)), torch.stack(expected))
    output = module.training_forward(x)
    assert float(output.penalty.detach()) == pytest.approx(0.1 * float(torch.stack(expected).mean()) / 64, rel=1e-5)


def test_a_spanning_tree_connects_all_at_the_least_length_also_where_points_coincide():
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
    points[3] = points[7]
    table = pairwise(points)
    rows, columns = spanning_tree(table)
    joined = list(range(9))
    for a, b in zip(rows.tolist(), columns.tolist(), strict=True):
        joined = [joined[a] if one == joined[b] else one for one in joined]
    assert len(rows) == 8
    assert len(set(joined)) == 1
    # Prim's algorithm, by hand.
    inside, length = {0}, 0.0
    while len(inside) < 9:
        best, new = min((float(table[a, b]), b) for a in inside for b in range(9) if b not in inside)
        inside, length = inside | {new}, length + best
    assert float(table[rows, columns].sum()) == pytest.approx(length, rel=1e-5)


def test_the_topological_penalty_is_nothing_for_codes_at_the_images_own_distances():
    points = torch.rand(9, 5)
    assert float(difference(pairwise(points), pairwise(points))) == 0.0
    assert float(difference(pairwise(points), pairwise(points[:, :1]))) > 0.0


def test_the_topological_penalty_is_a_quarter_of_the_authors_for_mnist():
    """Theirs stands beside an MSE of pixels in [-1, 1]: distances there over the greatest, squares not halved."""
    module, x = create("topological"), images()
    with torch.no_grad():
        module.scale.fill_(2.0)
        penalty = module.training_forward(x).penalty
        signed = 2 * x.flatten(1) - 1
        of_images = torch.cdist(signed, signed) / (4 * 64) ** 0.5
        of_codes = torch.cdist(module.encode(x), module.encode(x)) / 2
        error = 0.0
        for table in (of_images, of_codes):
            rows, columns = spanning_tree(table)
            error += float((of_images[rows, columns] - of_codes[rows, columns]).square().sum())
    assert float(penalty) == pytest.approx(0.5003 * error / len(x) / 4, rel=1e-3)


@pytest.mark.parametrize("depth", [1, 3])
def test_each_layer_of_a_siren_starts_in_the_papers_limits(depth):
    painter = create(f"coordinate[depth={depth},features=siren,width=64]").decoder
    largest = [float(layer.weight.detach().abs().max()) for layer in (*painter.layers, painter.last)]
    largest += [float(shift.weight.detach().abs().max()) for shift in painter.shifts]
    limits = [1 / 2, *[math.sqrt(6 / 64) / 30] * depth, *[math.sqrt(6 / 16) / 30] * depth]
    assert all(0.8 * limit < found <= limit for found, limit in zip(largest, limits, strict=True)), largest


# Ordered, low rank ---------------------------------------------------------------------------------------------------


def test_nested_dropout_cuts_codes_short_after_a_geometric_number():
    module = create("nested_dropout[latent_dim=12,rate=0.25]")
    torch.manual_seed(0)
    kept = module.truncate(torch.ones(20_000, 12)) != 0
    lengths = kept.sum(1)
    assert torch.equal(kept, torch.arange(12) < lengths.unsqueeze(1))
    for length in (1, 2, 5):
        share = float((lengths == length).float().mean())
        assert share == pytest.approx(0.25 * 0.75 ** (length - 1), abs=0.01)


def test_irmae_uses_fewer_directions_than_the_body_alone():
    """Of a code that is wider than the images' own rank, more linear layers use less."""
    rng = torch.Generator().manual_seed(0)
    codes, basis = torch.rand(256, 3, generator=rng), torch.rand(3, 64, generator=rng)
    data = (codes @ basis / 3 * 255).to(torch.uint8).view(-1, 1, 8, 8)
    ranks = []
    for text in ("mlp[latent_dim=16]", "irmae[latent_dim=16,layers=4]"):
        module = create(text)
        train(module, data, Recipe(name="t", steps=600, batch_size=128), 0, lambda _: None)
        with torch.no_grad():
            z = module.encode(data.float() / 255)
        share = F.normalize(torch.linalg.svdvals(z - z.mean(0)), p=1, dim=0)
        ranks.append(math.exp(-float((share * share.clamp(min=1e-12).log()).sum())))
    assert ranks[1] < 0.8 * ranks[0]
