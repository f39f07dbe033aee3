"""What families of tokens claim of themselves, held to a computation of another kind."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover
from aezoo.train.loop import train
from aezoo_plugins.architectures.perceiver import fourier_features
from aezoo_plugins.tokens import AttentionLayer, TokenEncoder

SHAPE = (1, 28, 28)


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 6, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


# Attention -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_is_torchs_transformer_layer_and_may_be_asked_for_some_tokens_alone(masked):
    torch.manual_seed(0)
    ours = AttentionLayer(12, 3)
    torchs = nn.TransformerEncoderLayer(12, 3, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    norm, *mlp = ours.mlp
    pairs = {
        "self_attn.in_proj_weight": torch.cat([ours.query.weight, ours.key_value.weight]),
        "self_attn.in_proj_bias": torch.cat([ours.query.bias, ours.key_value.bias]),
        **{f"self_attn.out_proj.{name}": one for name, one in ours.join.state_dict().items()},
        **{f"linear1.{name}": one for name, one in mlp[0].state_dict().items()},
        **{f"linear2.{name}": one for name, one in mlp[2].state_dict().items()},
        **{f"norm1.{name}": one for name, one in ours.norm.state_dict().items()},
        **{f"norm2.{name}": one for name, one in norm.state_dict().items()},
    }
    torchs.load_state_dict(pairs)
    x = torch.randn(2, 7, 12)
    mask = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    expected = torchs(x, src_mask=None if mask is None else ~mask)
    torch.testing.assert_close(ours(x, x, mask), expected)
    torch.testing.assert_close(ours(x[:, 4:], x, None if mask is None else mask[4:]), expected[:, 4:])


def test_what_tokens_attend_to_differs_from_the_start():
    """Logits of a normalised query and key have a standard deviation of 1."""
    torch.manual_seed(0)
    layer = AttentionLayer(64, 2)
    x = layer.norm(torch.randn(1, 400, 64))
    query, key = layer.query(x).chunk(2, 2)[0], layer.key_value(x)[..., :32]
    assert float((query @ key.transpose(1, 2) / math.sqrt(32)).std().detach()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_encoders_token_depends_on_patches_and_on_tokens_before_it(causal):
    torch.manual_seed(0)
    encoder = TokenEncoder(SHAPE, patch=7, tokens=5, width=16, depth=2, heads=2, causal=causal)
    x = images()
    before = encoder(x)
    with torch.no_grad():
        encoder.tokens[2] *= -1
        changed = (encoder(x) - before).abs().amax((0, 2)) > 1e-4
    assert changed.tolist() == ([False, False, True, True, True] if causal else [True] * 5)
    assert ((encoder(1 - x) - before).abs().amax((0, 2)) > 1e-4).all()


# TiTok ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), [("titok", 256), ("flextok", 240)])
def test_an_image_is_told_by_16_codes_of_about_8_bits(name, size):
    for shape in (SHAPE, (3, 32, 32), (3, 64, 64)):
        pixels = (images(4, shape) * 255).byte()
        found = preflight(discover().resolve(name), pixels, Recipe(name="test", steps=1, batch_size=4))
        assert found.latent_bits == pytest.approx(16 * math.log2(size))


def test_titoks_codes_are_of_the_nearest_direction_and_the_penalty_is_the_authors():
    module = create("titok[code_dim=3,codebook=0.5,codebook_size=10,commitment=0.25,tokens=4]")
    x = images()
    tokens = module.encoder(x).detach()
    tokens = tokens / tokens.norm(dim=2, keepdim=True)
    vectors = module.vectors.detach() / module.vectors.detach().norm(dim=1, keepdim=True)
    angles = torch.acos((tokens.unsqueeze(2) * vectors).sum(3).clamp(-1, 1))
    assert torch.equal(module.codes(x), angles.argmin(2))
    torch.testing.assert_close(module.encode(x), vectors[angles.argmin(2)])
    squared = (vectors[angles.argmin(2)] - tokens).square().mean()
    assert float(module.training_forward(x).penalty.detach()) == pytest.approx(0.5 * 1.25 * float(squared), rel=1e-5)


def test_gradients_of_titoks_penalty_are_split_four_to_one_and_those_of_the_error_pass_the_rounding():
    module = create("titok[code_dim=3,codebook=1.0,codebook_size=10,commitment=0.25,tokens=4]")
    tokens = F.normalize(torch.randn(2, 4, 3), dim=2).requires_grad_()
    rounded, codes, penalty = module.round(tokens)
    error = torch.randn(2, 4, 3)
    # A token of norm 1 moves along the sphere alone: the part of a gradient across it.
    passed = torch.autograd.grad((rounded * error).sum(), tokens, retain_graph=True)[0]
    along = (error * tokens).sum(2, keepdim=True) * tokens
    torch.testing.assert_close(passed, (error - along).detach())
    own = torch.autograd.grad(penalty, tokens, retain_graph=True)[0]
    pull = 0.25 * 2 * (tokens - rounded) / tokens.numel()
    torch.testing.assert_close(own, (pull - (pull * tokens).sum(2, keepdim=True) * tokens).detach())
    expected = torch.zeros(10, 3)
    for token, code, chosen in zip(*(one.detach().flatten(0, 1) for one in (tokens, codes, rounded)), strict=True):
        pull = 2 * (chosen - token) / tokens.numel()
        expected[code] += (pull - (pull @ chosen) * chosen) / module.vectors[code].detach().norm()
    torch.testing.assert_close(torch.autograd.grad(penalty, module.vectors)[0], expected)


def test_titok_without_rounding_has_tokens_of_numbers():
    module = create("titok[code_dim=4,quantise=false,tokens=4]")
    assert module.encode(images()).shape == (6, 4, 4)
    assert not hasattr(module, "codes")


# FlexTok -------------------------------------------------------------------------------------------------------------


def test_dropped_tokens_do_not_reach_flextoks_decoder_and_whole_ones_are_the_default():
    module = create("flextok")
    z = module.encode(images()).detach()
    kept = torch.tensor([1, 2, 4, 8, 16, 3])
    other = z.clone()
    for row, count in enumerate(kept.tolist()):
        other[row, count:] = torch.randn(16 - count, 3)
    assert torch.equal(module.decode(z, kept), module.decode(other, kept))
    torch.testing.assert_close(module.decode(z, torch.full((6,), 16)), module.decode(z))
    fewer = (module.decode(z, kept) - module.decode(z)).abs().amax((1, 2, 3)) > 1e-6
    assert fewer.tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("flextok", list(range(1, 17))),
        ("flextok[lengths=powers]", [1, 2, 4, 8, 16]),
        ("flextok[lengths=powers,tokens=6]", [1, 2, 4, 6]),
    ],
)
def test_training_keeps_as_many_of_flextoks_tokens_as_each_other_number(text, lengths, monkeypatch):
    module = create(text)
    seen = []
    monkeypatch.setattr(module, "decode", lambda z, kept: seen.append(kept) or z)
    monkeypatch.setattr(module, "encode", lambda x: x)
    module.training_forward(torch.zeros(20_000, 1))
    counts = torch.bincount(seen[0], minlength=17)
    assert counts.nonzero().flatten().tolist() == lengths
    assert float((counts[lengths] * len(lengths) / 20_000 - 1).abs().max()) < 0.15


def test_the_error_falls_with_the_number_of_tokens_and_cut_codes_are_those_of_the_whole():
    """Images of four squares, each grey or not: about four bits."""
    squares = torch.randint(0, 2, (512, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(squares * 200.0, scale_factor=7).byte()
    module = create("flextok[levels=(3,),patch=7,tokens=4,width=16]", (1, 14, 14))
    train(module, pixels, Recipe(name="test", steps=250, batch_size=64, lr=3e-3), 0, lambda progress: None)
    module.eval()
    x = pixels[:256] / 255
    with torch.no_grad():
        z = module.encode(x)
        errors = [float(F.mse_loss(module.decode(z, torch.full((256,), count)), x)) for count in (1, 2, 3, 4)]
        torch.testing.assert_close(module.from_codes(module.codes(x)), z)
    # One token says something already, where without truncation it would paint worse than the mean image.
    of_the_mean = float((x - x.mean(0)).square().mean())
    assert errors[0] < 0.95 * of_the_mean
    assert errors[3] < 0.75 * errors[0]
    assert all(more > 0.95 * fewer for more, fewer in itertools.pairwise(errors))


# Perceiver -----------------------------------------------------------------------------------------------------------


def test_fourier_features_are_the_papers_of_each_place():
    features = fourier_features((3, 5), 4)
    for row, column in itertools.product(range(3), range(5)):
        places = (row - 1, (column - 2) / 2)
        expected = list(places)
        for function in (math.sin, math.cos):
            for place, side in zip(places, (3, 5), strict=True):
                expected += [function(math.pi * place * (1 + k * (side / 2 - 1) / 3)) for k in range(4)]
        assert features[5 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_perceiver_knows_a_patch_by_its_place_alone():
    """Patches that come in another order, each with its place, are read alike; places in another order move pixels."""
    module = create("perceiver")
    reader, writer = module.encoder[0], module.decoder[2]
    x, order = images(), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    read, painted = reader(x), writer(reader(x))
    cut = reader.cut
    reader.cut = nn.Sequential(cut, Reordered(order))
    assert not torch.allclose(reader(x), read, atol=1e-3)
    reader.places = reader.places[order]
    torch.testing.assert_close(reader(x), read, rtol=1e-4, atol=1e-5)
    writer.places = writer.places[order]
    torch.testing.assert_close(cut(writer(read)), cut(painted)[:, order], rtol=1e-4, atol=1e-5)


class Reordered(nn.Module):
    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]


# Slot attention ------------------------------------------------------------------------------------------------------


def test_slots_are_updated_as_in_the_papers_algorithm():
    """Place by place and slot by slot; torch's own GRU takes the steps."""
    module = create("slot_attention[rounds=2,slots=3,width=8]").encoder[7]
    inputs = torch.randn(2, 5, 8)
    gru = nn.GRU(8, 8)
    gru.load_state_dict({f"{name}_l0": one for name, one in module.update.state_dict().items()})
    for image, expected in zip(inputs, module(inputs), strict=True):
        normal = module.norm_inputs(image)
        slots = module.start
        for _ in range(2):
            queries = module.norm_slots(slots) @ module.query.weight.T
            new = []
            shares = torch.zeros(5, 3)
            for place in range(5):
                key = module.key.weight @ normal[place]
                exps = [math.exp(float((key @ queries[slot]).detach()) / math.sqrt(8)) for slot in range(3)]
                shares[place] = torch.tensor([one / sum(exps) for one in exps])
            for slot in range(3):
                weights = shares[:, slot] / shares[:, slot].sum()
                taken = sum(weights[place] * (module.value.weight @ normal[place]) for place in range(5))
                state = gru(taken.view(1, 1, 8), slots[slot].view(1, 1, 8))[0][0, 0]
                new.append(state + module.mlp(state))
            slots = torch.stack(new)
        torch.testing.assert_close(expected, slots, rtol=1e-4, atol=1e-5)


def test_slots_are_a_set_and_their_starts_tell_them_apart():
    module = create("slot_attention")
    attention, x = module.encoder[7], images()
    inputs = module.encoder[:7](x)
    slots, places, order = attention(inputs), torch.randperm(16), [2, 0, 3, 1]
    torch.testing.assert_close(attention(inputs[:, places]), slots, rtol=1e-4, atol=1e-5)
    z = module.encode(x)
    torch.testing.assert_close(module.decode(z[:, order]), module.decode(z), rtol=1e-4, atol=1e-5)
    assert float((slots[:, 0] - slots[:, 1]).detach().abs().max()) > 0.1
    with torch.no_grad():
        attention.start.copy_(attention.start[order])
    torch.testing.assert_close(attention(inputs), slots[:, order], rtol=1e-4, atol=1e-5)


def test_slots_paint_layers_that_masks_blend():
    module = create("slot_attention").train()
    z = torch.randn(3, 4, 16)
    painted, masks = module.decoder.layers(z)
    assert (painted.shape, masks.shape) == ((3, 4, 1, 28, 28), (3, 4, 1, 28, 28))
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 1, 28, 28))
    blended = sum(painted[:, slot] * masks[:, slot] for slot in range(4))
    torch.testing.assert_close(module.decode(z), blended)
    x = images()
    torch.testing.assert_close(module(x), module.eval()(x))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("titok[heads=3]", "width must be a multiple of heads, 3, but is 32"),
        ("titok[tokens=0]", "tokens must be at least 1, but is 0"),
        ("titok[codebook=0.0]", "codebook must be above 0, but is 0.0"),
        ("flextok[tokens=1]", "tokens must be at least 2, so that there is an order, but is 1"),
        ("flextok[levels=(2,)]", r"levels must be one number or more, each at least 3, but are (2,)"),
        ("perceiver[queries=0]", "queries must be at least 1, but is 0"),
        ("slot_attention[rounds=0]", "rounds must be at least 1, but is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(text, told):
    with pytest.raises(AezooError) as caught:
        create(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
