"""Networks of somebody else's, read by `aezoo.Adapted`; none of them needs a package that aezoo does not."""

import copy
import functools
import re
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo.check.case import Case
from aezoo.check.suite import Finding, examine, sample_images
from aezoo.contract.architecture import Variant
from aezoo.contract.halves import halves as network_halves
from aezoo.contract.network import discrete, num_adversary_params, num_params, to_float
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover
from aezoo.registry.factory import architecture_of
from aezoo.registry.outside import asked_with, extend
from aezoo.train.engine import Trainer

SHAPE = (1, 6, 5)
IMAGES = sample_images(SHAPE, count=32)
RECIPE = Recipe(name="t", steps=20, batch_size=8)
X = to_float(IMAGES[:8])


def variant_of(factory) -> Variant:
    architecture = architecture_of(factory, "net", (), "net")
    return Variant(architecture=architecture, hyperparameters=architecture.check({}), label="net")


def tried(factory):
    return preflight(variant_of(factory), IMAGES, RECIPE)


def failures(factory) -> dict[str, Finding]:
    return {each.check: each for each in examine(Case(variant_of(factory), IMAGES)) if each.status == "failed"}


def halves(taken: tuple[int, ...] = SHAPE, latent_dim: int = 4) -> tuple[nn.Module, nn.Module]:
    pixels = torch.Size(taken).numel()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim))
    return encoder, nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, taken))


# The form of images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "taken", "told"),
    [
        ({}, (1, 6, 5), []),
        ({"range": (-1, 1)}, (1, 6, 5), ["pixels are in [-1, 1] inside"]),
        ({"multiple": 4}, (1, 8, 8), ["images are padded with 0 from 6x5 to 8x8, and cropped again"]),
        ({"at_least": 6}, (1, 6, 6), ["images are padded with 0 from 6x5 to 6x6, and cropped again"]),
        ({"at_least": 7, "multiple": 2}, (1, 8, 8), ["images are padded with 0 from 6x5 to 8x8, and cropped again"]),
        ({"channels": 3}, (3, 6, 5), ["grey is repeated to 3 channels, and averaged back"]),
        ({"flat": True}, (1, 6, 5), ["images are flat inside"]),
        (
            {"channels": 3, "multiple": 4, "range": (-1, 1), "flat": True},
            (3, 8, 8),
            [
                "grey is repeated to 3 channels, and averaged back",
                "images are padded with 0 from 6x5 to 8x8, and cropped again",
                "pixels are in [-1, 1] inside",
                "images are flat inside",
            ],
        ),
    ],
)
def test_a_network_gets_images_in_its_form_and_what_it_gives_comes_back_and_the_row_says_so(arguments, taken, told):
    form = aezoo.ImageForm(shape=SHAPE, **arguments)
    given = form.taking(X)
    assert form.taken == taken
    assert tuple(given.shape[1:]) == ((torch.Size(taken).numel(),) if form.flat else taken)
    low, high = form.range
    image = given.reshape(8, *taken)
    torch.testing.assert_close(image[:, -1, :6, :5], low + (high - low) * X[:, 0])
    assert torch.equal(image[:, :, 6:], torch.full_like(image[:, :, 6:], low))
    torch.testing.assert_close(form.giving(given), X)
    identity = aezoo.Adapted(nn.Identity(), image=form)
    torch.testing.assert_close(identity(X), X)
    assert identity.adaptations == told


def test_the_channels_of_grey_are_averaged_back_and_a_sigmoid_makes_pixels_of_logits():
    form = aezoo.ImageForm(shape=SHAPE, channels=3)
    assert torch.equal(form.giving(torch.arange(3.0)[None, :, None, None].expand(2, 3, 6, 5)), torch.ones(2, *SHAPE))
    logits = aezoo.ImageForm(shape=SHAPE, logits=True)
    torch.testing.assert_close(logits.giving(torch.logit(X, eps=1e-6)), X, atol=1e-5, rtol=0)
    assert aezoo.Adapted(nn.Identity(), image=logits).adaptations == ["a sigmoid makes pixels of its output"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"shape": SHAPE, "range": (1, 1)}, r"range must be the least and the greatest pixel, .* but is \(1, 1\)"),
        ({"shape": SHAPE, "range": (-1, 1), "logits": True}, r"logits are of pixels in \[0, 1\], but range is"),
        ({"shape": SHAPE, "multiple": 0}, "multiple must be at least 1, but is 0"),
        ({"shape": (2, 6, 5), "channels": 3}, "takes images of 3 channels, but these have 2: grey ones are repeated"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line(arguments, told):
    with pytest.raises(AezooError, match=told):
        aezoo.ImageForm(**arguments)


def test_a_reconstruction_of_another_size_is_one_line():
    adapted = aezoo.Adapted(nn.Identity(), image=aezoo.ImageForm(shape=SHAPE, multiple=4), call=lambda _, x: x[..., 1:])
    with pytest.raises(ContractError, match=r"expected reconstructions of shape \(B, 1, 8, 8\), got \(8, 1, 8, 7\)"):
        adapted(X)


# What its output is --------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    sample: Tensor
    loss: Tensor


@pytest.mark.parametrize(
    ("made", "read"),
    [
        (lambda y: (y, 1), 0),
        (lambda y: [None, y], 1),
        (lambda y: Pair(y, y.sum()), "sample"),
        (lambda y: {"out": y}, "out"),
        (lambda y: SimpleNamespace(sample=y), "sample"),
        (lambda y: {"deep": (1, SimpleNamespace(sample=y))}, lambda out: out["deep"][1].sample),
        (lambda y: y, None),
    ],
)
def test_a_reconstruction_is_read_from_whatever_a_network_returns(made, read):
    class Net(nn.Module):
        def forward(self, x):
            return made(x / 2)

    adapted = aezoo.Adapted(Net(), reconstruct=read)
    assert torch.equal(adapted(X), X / 2)
    assert torch.equal(adapted.training_forward(X).reconstruction, X / 2)


@pytest.mark.parametrize("read", ["nothing", 5])
def test_a_part_that_is_not_there_is_one_line_that_names_those_that_are(read):
    class Net(nn.Module):
        def forward(self, x):
            return {"sample": x, "loss": x.mean()}

    told = f"reconstruct={read!r} is no part of what the network returned, a dict of 2: sample (8, 1, 6, 5), loss ()"
    with pytest.raises(ContractError, match=re.escape(told)):
        aezoo.Adapted(Net(), reconstruct=read)(X)


class Variational(nn.Module):
    """As a package may have it: its own loss is half of the squared error, summed over an image, and a divergence."""

    def __init__(self, taken: tuple[int, ...]) -> None:
        super().__init__()
        grey = (1, *taken[1:])
        self.encoder, self.decoder = halves(taken, 8)[0], halves(grey)[1]
        self.taken = taken

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return {"image": self.decoder(z).expand(-1, *self.taken), "kl": divergence}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "its penalty is divided by the pixels of an image, times 2"),
        (
            {"channels": 3, "multiple": 4, "range": (-1, 1)},
            "its penalty is divided by the pixels of an image, divided by the 3 channels of grey, divided by 4, the "
            "square of its pixels' range, times 2",
        ),
    ],
)
def test_a_penalty_beside_a_sum_over_an_image_counts_as_in_the_networks_own_loss(arguments, told):
    form = aezoo.ImageForm(shape=SHAPE, **arguments)
    network = Variational(form.taken)
    adapted = aezoo.Adapted(network, reconstruct="image", penalty="kl", per="image", weight=2, image=form)
    assert adapted.adaptations[-1] == told
    assert adapted.objective == "mse + penalty"

    torch.manual_seed(0)
    output = adapted.training_forward(X)
    (F.mse_loss(output.reconstruction, X) + output.penalty).backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]

    network.zero_grad()
    torch.manual_seed(0)
    own = network(form.taking(X))
    # Padding is none of the image.
    errors = (own["image"] - form.taking(X))[..., :6, :5].square().flatten(1).sum(1)
    (0.5 * errors + own["kl"]).mean().backward()
    ratios = [float((a / b.grad).median()) for a, b in zip(gradients, network.parameters(), strict=True)]
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad * ratios[0], rtol=1e-4, atol=1e-7)
    assert ratios[0] == pytest.approx(2 / (30 * form.span**2 * form.repeats), rel=1e-4)


def test_a_penalty_beside_a_mean_counts_as_it_stands_but_for_the_range():
    class Net(nn.Module):
        def forward(self, x):
            return x, x.new_tensor([3.0] * len(x))

    arguments = {"reconstruct": 0, "penalty": 1, "per": "pixel"}
    assert float(aezoo.Adapted(Net(), **arguments).training_forward(X).penalty) == 3
    form = aezoo.ImageForm(shape=SHAPE, range=(-1, 1), multiple=4)
    adapted = aezoo.Adapted(Net(), **arguments, weight=0.5, image=form)
    assert float(adapted.training_forward(X).penalty) == 3 * 0.5 / 4
    assert adapted.adaptations[-1] == (
        "its penalty is taken beside a mean over pixels, divided by 4, the square of its pixels' range, times 0.5"
    )


@pytest.mark.parametrize(("penalty", "got"), [(torch.zeros(8, 4), r"\(8, 4\)"), (0.5, "float"), (None, "NoneType")])
def test_a_penalty_that_is_no_number_an_image_is_one_line(penalty, got):
    class Net(nn.Module):
        def forward(self, x):
            return x, penalty

    with pytest.raises(ContractError, match=rf"a scalar, or a number for each image, \(B,\), but got {got}"):
        aezoo.Adapted(Net(), reconstruct=0, penalty=1, per="pixel").training_forward(X)


# Its latent, codes and adversary -------------------------------------------------------------------------------------


class Sampled(nn.Module):
    """Its forward samples, also in evaluation; its halves do not."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = halves()

    def encode(self, x):
        return self.down(x), x.new_ones(())

    def decode(self, z):
        return self.up(z)

    def forward(self, x):
        z = self.encode(x)[0]
        return self.decode(z + 0.1 * torch.randn_like(z)), z


def test_evaluation_is_by_the_halves_and_training_by_the_networks_own_pass():
    def build(image_shape):
        return aezoo.Adapted(Sampled(), reconstruct=0, encode=lambda module, x: module.encode(x)[0], decode="decode")

    adapted = build(SHAPE)
    assert torch.equal(adapted(X), adapted.module.up(adapted.module.down(X)))
    assert not torch.equal(adapted.training_forward(X).reconstruction, adapted(X))
    assert adapted.objective == "mse, its own pass in training"
    assert failures(build) == {}
    assert tried(build).latent_shape == (4,)


def test_halves_alone_are_all_of_it_and_a_call_beside_them_is_for_training():
    arguments = {"encode": lambda module, x: module.encode(x)[0], "decode": "decode"}
    adapted = aezoo.Adapted(Sampled(), **arguments)
    assert torch.equal(adapted.training_forward(X).reconstruction, adapted(X))
    assert adapted.objective == "mse"
    called = aezoo.Adapted(Sampled(), **arguments, call=lambda module, x: module(x)[0])
    assert not torch.equal(called.training_forward(X).reconstruction, called(X))


class Methods(nn.Module):
    def __init__(self, taken=SHAPE) -> None:
        super().__init__()
        self.down, self.up = halves(taken)

    def encode(self, x):
        return self.down(x)

    def decode(self, z):
        return self.up(z)

    def forward(self, x):
        return self.decode(self.encode(x))


class Children(nn.Module):
    def __init__(self, taken=SHAPE) -> None:
        super().__init__()
        self.encoder, self.decoder = halves(taken)

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z), z


class Around(Methods):
    """Its methods make up a part of its reconstruction alone."""

    def forward(self, x):
        return self.decode(self.encode(x)) + x.mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("form", [{}, {"logits": True}, {"range": (-1, 1), "channels": 3, "multiple": 4}])
@pytest.mark.parametrize(
    ("network", "arguments", "size"), [(Methods, {}, 4), (Children, {"reconstruct": 0}, 4), (Around, {}, None)]
)
def test_halves_that_nobody_names_are_read_as_in_any_network_in_its_form_of_images(network, arguments, size, form):
    image = aezoo.ImageForm(shape=SHAPE, **form)

    def build(image_shape):
        return aezoo.Adapted(network(image.taken), image=image, **arguments)

    facts = tried(build)
    assert facts.latent_size == size
    assert [note.partition(":")[0] for note in facts.notes] == (
        [] if size else ["decoder(encoder(x)) is not forward(x), so that it has no latent size"]
    )
    assert failures(build) == {}
    if size:
        adapted = build(SHAPE)
        encode, decode = network_halves(copy.deepcopy(adapted), X)
        torch.testing.assert_close(decode(encode(X)), adapted(X))
        assert tuple(encode(X).shape) == (8, 4)


def test_a_network_that_differentiates_by_its_input_marks_no_tensor_of_the_harness():
    class Net(nn.Module):
        def forward(self, x):
            return x.requires_grad_(True) * 1.0

    x = X.clone()
    aezoo.Adapted(Net()).training_forward(x)
    assert not x.requires_grad


class Coded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = halves()
        self.book = nn.Embedding(5, 1)

    def quantised(self, x):
        z = self.down(x)
        codes = (z[..., None] - self.book.weight[:, 0]).abs().argmin(-1)
        chosen = self.book(codes)[..., 0]
        return z, codes, chosen

    def forward(self, x):
        z, _, chosen = self.quantised(x)
        return self.up(z + (chosen - z).detach()), F.mse_loss(chosen, z.detach()) + F.mse_loss(z, chosen.detach())


def coded(image_shape):
    return aezoo.Adapted(
        Coded(), reconstruct=0, penalty=1, per="pixel", objective="mse + codebook",
        encode=lambda module, x: module.quantised(x)[2], decode="up",
        codes=lambda module, x: module.quantised(x)[1],
        from_codes=lambda module, codes: module.book(codes)[..., 0], codebook_size=5,
    )  # fmt: skip


def test_codes_are_the_latent_of_a_foreign_quantiser():
    facts = tried(coded)
    assert facts.latent_kind == "discrete"
    assert facts.latent_bits == pytest.approx(4 * 2.321928)
    adapted = coded(SHAPE)
    torch.testing.assert_close(adapted(X), adapted.module(X)[0])
    assert discrete(adapted).codebook_size == 5
    assert failures(coded) == {}


class Judged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = halves()
        self.judges = nn.ModuleDict({"latent": nn.Linear(4, 1)})

    def forward(self, x):
        z = self.down(x)
        judge = self.judges["latent"]
        real, fake = judge(torch.randn_like(z)), judge(z.detach())
        fooled, judged = F.softplus(-judge(z)).mean(), (F.softplus(-real) + F.softplus(fake)).mean()
        return {"image": self.up(z), "fooled": fooled, "judged": judged}


def judged(image_shape):
    return aezoo.Adapted(
        Judged(), reconstruct="image", penalty="fooled", per="image", encode="down", decode="up",
        objective="mse + adversary", adversary="judges.latent", adversary_loss="judged",
    )  # fmt: skip


def test_an_adversary_of_a_foreign_network_takes_steps_of_its_own_and_counts_apart():
    adapted = judged(SHAPE)
    assert num_adversary_params(adapted) == 5
    assert num_params(adapted) == 30 * 4 + 4 + 4 * 30 + 30
    before = copy.deepcopy(adapted.state_dict())
    Trainer(adapted, RECIPE).step(X)
    changed = {name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(before)
    assert failures(judged) == {}
    assert tried(judged).adversary_params == 5


class Codec(nn.Module):
    """Its files are of no one length: likelihoods beside the reconstruction, in the way of compressai."""

    def __init__(self, shape=(1, 8, 8)) -> None:
        super().__init__()
        self.down, self.up = halves(shape)
        self.scale = nn.Parameter(torch.ones(()))

    def rounded(self, x):
        z = self.down(x)
        return z + (z.round() - z).detach()

    def forward(self, x):
        z = self.rounded(x)
        return {"x_hat": self.up(z), "likelihoods": torch.exp2(-2 - self.scale.abs() * z.abs())}


def codec(image_shape):
    return aezoo.Adapted(
        Codec(), reconstruct="x_hat", penalty=lambda out: -out["likelihoods"].log2().sum(1), per="image", weight=0.01,
        objective="mse + rate", encode="rounded", decode="up",
        bits=lambda module, x: -module(x)["likelihoods"].log2().sum(1),
        image=aezoo.ImageForm(shape=image_shape, multiple=8, range=(-1, 1)),
    )  # fmt: skip


def test_a_foreign_codec_says_what_bits_an_image_takes():
    adapted = codec(SHAPE)
    x = aezoo.ImageForm(shape=SHAPE, multiple=8, range=(-1, 1)).taking(X)
    expected = 8 + adapted.module.rounded(x).abs().sum(1)
    torch.testing.assert_close(adapted.bits(X), expected)
    facts = tried(codec)
    assert facts.latent_bits >= 8
    assert failures(codec) == {}
    # What is not given is not there: nobody takes it for a codec.
    assert not hasattr(judged(SHAPE), "bits")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"encode": "encode"}, "encode and decode go together, but there is encode without decode"),
        ({"decode": "decode"}, "encode and decode go together, but there is decode without encode"),
        ({"adversary": "up"}, "adversary and adversary_loss go together, but there is adversary without"),
        ({"adversary": "judge", "adversary_loss": 1}, "adversary='judge': Sampled has no such child; it has down, up"),
        ({"penalty": 1}, "give per='image' where that is a sum over an image, per='pixel' where it is a mean"),
        ({"penalty": 1, "per": "batch"}, "but got 'batch'"),
        ({"per": "image"}, "per and weight are a penalty's, but there is no penalty"),
        ({"weight": 2}, "per and weight are a penalty's, but there is no penalty"),
        ({"codes": "encode"}, "a discrete latent has codes, from_codes and codebook_size: give all three, or none"),
        (
            {"codes": "encode", "from_codes": "decode", "codebook_size": 4},
            "codes tell of a latent, but there is no encode and decode",
        ),
        ({"encode": "encoder", "decode": "decode"}, "encode='encoder': Sampled has no such method, nor child"),
        ({"encode": 3, "decode": "decode"}, "encode takes a function of the module and a batch, or a method's name"),
    ],
)
def test_what_does_not_fit_together_is_one_line(arguments, told):
    with pytest.raises(AezooError, match=told):
        aezoo.Adapted(Sampled(), **arguments)


@pytest.mark.parametrize(
    ("made", "taker"),
    [
        (lambda: aezoo.Adapted(Sampled), "Adapted"),
        (lambda: aezoo.Flat(Sampled, SHAPE), "Flat"),
        (lambda: aezoo.Autoencoder(Sampled, nn.Identity()), "Autoencoder"),
    ],
)
def test_a_class_in_the_place_of_a_network_is_one_line(made, taker):
    with pytest.raises(AezooError, match=re.escape(f"{taker} takes an nn.Module, but got the class Sampled: write")):
        made()


def test_a_network_alone_is_adapted_and_no_function_that_holds_one():
    with pytest.raises(AezooError, match="Adapted takes an nn.Module, but got function"):
        aezoo.Adapted(lambda x: x)
    network = Sampled()
    with pytest.raises(AezooError, match="encode must take the module as its first argument"):
        aezoo.Adapted(network, encode=lambda _, x: network.encode(x)[0], decode="decode")
    # A method or a child of its own is one of each copy's own.
    adapted = aezoo.Adapted(network, encode=network.down, decode=network.decode)
    with pytest.raises(AezooError, match="Sampled has no such method, nor child"):
        aezoo.Adapted(network, encode=nn.Flatten(), decode="decode")
    other = copy.deepcopy(adapted)
    nn.init.zeros_(other.module.up[0].weight)
    nn.init.zeros_(other.module.up[0].bias)
    assert not other(X).any()
    assert adapted(X).any()


# The line that a message names ---------------------------------------------------------------------------------------


class Tuple(nn.Module):
    """The input comes back first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(*halves())

    def forward(self, x):
        return x, self.inner(x), {"mean": 1}


class Object(Tuple):
    def forward(self, x):
        y = self.inner(x)
        return SimpleNamespace(sample=y, kl=y.mean(), name="kl")


class FromDictionary(Tuple):
    def forward(self, batch):
        return {"recon_x": self.inner(batch["data"])}


class FromPixelValues(Tuple):
    def forward(self, batch):
        return (self.inner(batch.get("pixel_values")),)


class ByKeyword(Tuple):
    def forward(self, *, sample, timestep=0):
        return {"sample": self.inner(sample) + timestep}


class ChannelsLast(Tuple):
    def forward(self, x):
        return self.inner(x).permute(0, 2, 3, 1)


class FlatOutput(nn.Module):
    """A convolution takes images, and they come out flat."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(24, 4))
        self.decoder = nn.Linear(4, 30)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class NoChannel(FlatOutput):
    def forward(self, x):
        return self.decoder(self.encoder(x)).view(-1, 6, 5)


class FlatInParts(FlatOutput):
    """In the way of torch's example of a VAE, but for its encoder."""

    def forward(self, x):
        z = self.encoder(x)
        return {"recon": self.decoder(z), "mu": z}


class OddSides(nn.Sequential):
    """7 to 3 to 7; of 6 there come 5."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 3, stride=2), nn.ConvTranspose2d(2, 1, 3, stride=2))


class InColour(Tuple):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return (self.inner(x),)


class GreyOfColour(InColour):
    """Takes colours, and gives one map, as networks of segmentation do."""

    def forward(self, x):
        return self.inner(x)[:, :1]


class Strided(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 4, stride=4), nn.ConvTranspose2d(2, 1, 4, stride=4))


class OneSize(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.AvgPool2d(8), *halves((1, 8, 8)), nn.Upsample(scale_factor=8))


class FlatPair(nn.Module):
    """Flat images in, flat images and a latent out."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(30, 4), nn.Linear(4, 30)

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z), z


class Lightning(FlatPair):
    """Its forward encodes, as modules of Lightning may have it."""

    def forward(self, x):
        return self.encoder(x)


class Posterior:
    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def mode(self) -> Tensor:
        return self.mean


class Latents(Sampled):
    """The latent is a distribution, and the reconstruction in an object."""

    def encode(self, x):
        return SimpleNamespace(latent_dist=Posterior(self.down(x)))

    def decode(self, z):
        return SimpleNamespace(sample=self.up(z))

    def forward(self, x):
        return self.decode(self.encode(x).latent_dist.mode())


class Inner(Sampled):
    """Its methods are parts of its halves: without what lies between they are no latent of it."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Linear(4, 4)

    def encode(self, x):
        return self.down(x)

    def forward(self, x):
        return self.decode(self.between(self.encode(x))), 0


class Learners(nn.Module):
    """In the way of torch's example of a VAE: its halves are flat, and it samples, always."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_variance, self.up = nn.Linear(30, 4), nn.Linear(30, 4), nn.Linear(4, 30)

    def encode(self, x):
        return self.mean(x), self.log_variance(x)

    def decode(self, z):
        return torch.sigmoid(self.up(z))

    def forward(self, x):
        mean, log_variance = self.encode(x.view(-1, 30))
        return self.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


class Conditional(Tuple):
    def forward(self, x, label):
        return self.inner(x) + label[:, None, None, None]


@pytest.mark.parametrize(
    ("network", "line"),
    [
        (Tuple, "aezoo.Adapted(Tuple(), reconstruct=1)"),
        (
            Object,
            "aezoo.Adapted(Object(), reconstruct='sample') (it also returns the scalar 'kl': see penalty and per)",
        ),
        (
            FromDictionary,
            "aezoo.Adapted(FromDictionary(), call=lambda module, x: module({'data': x}), reconstruct='recon_x')",
        ),
        (
            FromPixelValues,
            "aezoo.Adapted(FromPixelValues(), call=lambda module, x: module({'pixel_values': x}), reconstruct=0)",
        ),
        (
            ByKeyword,
            "aezoo.Adapted(ByKeyword(), call=lambda module, x: module(sample=x), reconstruct='sample')",
        ),
        (ChannelsLast, "aezoo.Adapted(ChannelsLast(), reconstruct=lambda out: out.movedim(-1, 1))"),
        (
            FlatOutput,
            "aezoo.Adapted(FlatOutput(), reconstruct=lambda out: out.reshape(-1, *image_shape), "
            'encode="encoder", decode=lambda module, z: module.decoder(z).reshape(-1, *image_shape))',
        ),
        (
            NoChannel,
            "aezoo.Adapted(NoChannel(), reconstruct=lambda out: out.reshape(-1, *image_shape), "
            'encode="encoder", decode=lambda module, z: module.decoder(z).reshape(-1, *image_shape))',
        ),
        (
            FlatInParts,
            "aezoo.Adapted(FlatInParts(), reconstruct=lambda out: out['recon'].reshape(-1, *image_shape), "
            'encode="encoder", decode=lambda module, z: module.decoder(z).reshape(-1, *image_shape))',
        ),
        (OddSides, "aezoo.Adapted(OddSides(), image=aezoo.ImageForm(shape=image_shape, at_least=7))"),
        (
            InColour,
            "aezoo.Adapted(InColour(), reconstruct=0, image=aezoo.ImageForm(shape=image_shape, channels=3))",
        ),
        (
            GreyOfColour,
            "aezoo.Adapted(GreyOfColour(), reconstruct=lambda out: out.expand(-1, 3, -1, -1), "
            "image=aezoo.ImageForm(shape=image_shape, channels=3))",
        ),
        (Strided, "aezoo.Adapted(Strided(), image=aezoo.ImageForm(shape=image_shape, multiple=32))"),
        (OneSize, "aezoo.Adapted(OneSize(), image=aezoo.ImageForm(shape=image_shape, at_least=64))"),
        (
            FlatPair,
            'aezoo.Adapted(FlatPair(), reconstruct=0, encode="encoder", decode="decoder", '
            "image=aezoo.ImageForm(shape=image_shape, flat=True))",
        ),
        (
            Lightning,
            'aezoo.Adapted(Lightning(), encode="encoder", decode="decoder", '
            "image=aezoo.ImageForm(shape=image_shape, flat=True))",
        ),
        (
            Sampled,
            'aezoo.Adapted(Sampled(), reconstruct=0, encode=lambda module, x: module.encode(x)[0], decode="decode")',
        ),
        (
            Latents,
            "aezoo.Adapted(Latents(), reconstruct='sample', encode=lambda module, x: "
            "module.encode(x).latent_dist.mode(), decode=lambda module, z: module.decode(z).sample)",
        ),
        (Inner, "aezoo.Adapted(Inner(), reconstruct=0)"),
        (
            Learners,
            "aezoo.Adapted(Learners(), reconstruct=lambda out: out[0].reshape(-1, *image_shape), "
            "encode=lambda module, x: module.encode(x.flatten(1))[0], "
            "decode=lambda module, z: module.decode(z).reshape(-1, *image_shape))",
        ),
    ],
)
def test_the_line_that_a_message_names_works_when_it_is_pasted(network, line):
    with pytest.raises(ContractError) as told:
        tried(network)
    assert f"; bench in its place: def build(image_shape): return {line}; look at " in str(told.value)
    facts = tried(pasted(str(told.value), dict(globals())))
    assert (facts.latent_shape is not None) == ("encode=" in line)


def pasted(message: str, names: dict):
    """Paste the line that a message names, as it is, where these names are; return what it defines."""
    (line,) = re.findall(r"in its place: (def .*?)(?: \(it also .*)?; look at ", message)
    exec(line, names)
    return names[line.split("def ")[1].split("(")[0]]


NETWORK = """
import functools
from torch import nn

class Net(nn.Module):
    def __init__(self, image_shape, width: int, *, bias=True, activation=nn.ReLU):
        super().__init__()
        channels, height, pixels = image_shape
        pixels *= channels * height
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width, bias=bias), activation())
        self.decoder = nn.Sequential(nn.Linear(width, pixels), nn.Unflatten(1, image_shape))

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z), z

class Shapeless(Net):
    def __init__(self):
        super().__init__((1, 6, 5), 4)

def make(*, image_shape, width: int = 3):
    return Net(image_shape, width)
narrow = functools.partial(Net, width=2)
"""
ADAPTED = ', reconstruct=0, encode="encoder", decode="decoder")'


@pytest.mark.parametrize(
    ("given", "line", "size"),
    [
        (
            "Net[width=5]",
            "def build(image_shape, *, width, bias=True): import aezoo; return aezoo.Adapted("
            f"Net(image_shape=image_shape, width=width, bias=bias){ADAPTED}",
            5,
        ),
        ("Shapeless", f"def build(image_shape): import aezoo; return aezoo.Adapted(Shapeless(){ADAPTED}", 4),
        (
            "make[width=2]",
            "def make_adapted(image_shape, *, width=3): import aezoo; return aezoo.Adapted("
            f"make(image_shape=image_shape, width=width){ADAPTED}",
            2,
        ),
        (
            "narrow",
            "def build(image_shape, *, width=2, bias=True): import aezoo; return aezoo.Adapted("
            f"Net(image_shape=image_shape, width=width, bias=bias){ADAPTED}",
            2,
        ),
    ],
)
def test_the_line_that_a_message_names_is_pasted_below_a_file_as_it_is(given, line, size, tmp_path):
    def variant(text):
        registry, (text,) = extend(discover(), [text])
        return registry.select([text])[0]

    file = tmp_path / "mine.py"
    file.write_text(NETWORK)
    with pytest.raises(ContractError, match=re.escape(f"; bench in its place: {line}; look at Net.forward")):
        preflight(variant(f"{file}:{given}"), IMAGES, RECIPE)
    file.write_text(f"{NETWORK}\n{line}\n")
    name = given.replace(given.partition("[")[0], line.removeprefix("def ").partition("(")[0])
    assert preflight(variant(f"{file}:{name}"), IMAGES, RECIPE).latent_shape == (size,)


ONLY = """
from mine import Net

class Only(Net):
    def __init__(self, image_shape, width=2):
        super().__init__(image_shape, width)
"""


@pytest.mark.parametrize("given", ["./mine.py:Net[width=5]", "./mine.py:make", "./one.py", "one:Only", "function"])
def test_an_architecture_is_asked_for_with_a_hyperparameter_as_it_was_given(given, tmp_path, monkeypatch):
    def variant(asked):
        registry, (text,) = extend(discover(), [asked])
        (selected,) = registry.select([text])
        return registry, selected

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETWORK)
    (tmp_path / "one.py").write_text(ONLY)
    registry, selected = variant(at_hand_of if given == "function" else given)
    asked = asked_with(registry.plugin(selected), selected.label, "width", 7)
    named = given.partition("[")[0]
    assert asked == ("functools.partial(at_hand_of, width=7)" if given == "function" else f"'{named}[width=7]'")
    _, again = variant(eval(asked, {"functools": functools, "at_hand_of": at_hand_of}))
    assert again.hyperparameters["width"] == 7


def at_hand_of(image_shape, width: int = 3):
    return nn.Sequential(*halves(SHAPE, width))


def test_the_line_for_a_plugins_function_calls_it_and_what_has_no_name_is_described():
    def build(shape, *, scale: float = 1.0):
        return Scaled(scale)

    class Scaled(Tuple):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

    architecture = aezoo.Architecture(name="net", build=build, summary="s", reference="r")
    variant = Variant(architecture=architecture, hyperparameters={"scale": 2.0}, label="net")
    with pytest.raises(ContractError) as told:
        preflight(variant, IMAGES, RECIPE)
    adapted = pasted(str(told.value), {**globals(), "build": build})
    assert adapted.__name__ == "build_adapted"
    assert adapted(SHAPE, scale=3.0).module.scale == 3
    described = (
        "in its place: a function that returns aezoo.Adapted(module, reconstruct=1), module being what it builds"
    )
    for unnamed in (lambda image_shape: Tuple(), partial(Scaled, nn.Linear(1, 1))):
        with pytest.raises(ContractError, match=re.escape(described)):
            tried(unnamed)


@pytest.mark.parametrize("around", [aezoo.Adapted, lambda module: aezoo.Flat(module, SHAPE)])
def test_the_line_for_what_is_adapted_already_is_for_the_network_inside(around):
    def mine(image_shape):
        return around(FlatPair())

    with pytest.raises(ContractError) as told:
        tried(mine)
    assert "aezoo.Adapted(mine(image_shape=image_shape).module, reconstruct=0, encode=" in str(told.value)
    assert tried(pasted(str(told.value), {**globals(), "mine": mine})).latent_shape == (4,)


class OfTheBatch(nn.Sequential):
    """In evaluation too it normalises by the batch at hand, and so takes no single image."""

    def __init__(self) -> None:
        encoder, decoder = halves()
        super().__init__(encoder, nn.BatchNorm1d(4, track_running_stats=False), decoder)


class Shrinks(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(1, 1, 2)


def test_what_no_adapter_mends_is_told_by_its_cause():
    with pytest.raises(ContractError) as told:
        tried(OfTheBatch)
    assert "it takes a batch of 8 as it is, and none of 1: in evaluation it must use no statistics" in str(told.value)
    assert "Adapted" not in str(told.value)
    with pytest.raises(ContractError) as told:
        tried(Shrinks)
    assert (
        "got (8, 1, 5, 4); its sides come out otherwise, as where a stride leaves a rest: pad them, and crop them again"
    ) in str(told.value)


def test_a_network_that_wants_more_than_images_is_told_how_it_is_called():
    with pytest.raises(ContractError) as told:
        tried(Conditional)
    assert "call=lambda module, x: module(x, label=x.new_zeros(len(x), dtype=int))" in str(told.value)
    assert tried(pasted(str(told.value), dict(globals()))).notes == []

    class Prompted(Tuple):
        def forward(self, x, prompt):
            return self.inner(x) + prompt.strength

    with pytest.raises(ContractError) as told:
        tried(Prompted)
    assert (
        "it wants more than images; bench in its place, with what it takes for PROMPT: def build(image_shape): return "
        "aezoo.Adapted(Prompted(), call=lambda module, x: module(x, prompt=PROMPT)); look at "
    ) in str(told.value)


class InTwo(Methods):
    """A latent of two parts, that its decoder takes one by one."""

    def encode(self, x):
        z = self.down(x)
        return z[:, :1], z[:, 1:]

    def decode(self, first, rest):
        return self.up(torch.cat([first, rest], 1))

    def forward(self, x):
        return self.decode(*self.encode(x))


class InTwoByName(InTwo):
    def encode(self, x):
        return dict(zip(("first", "rest"), super().encode(x), strict=True))

    def forward(self, x):
        return self.decode(**self.encode(x))


@pytest.mark.parametrize(
    ("network", "parts"), [(InTwo, r"a tuple of 2: 0 \(8, 1\), 1"), (InTwoByName, "a dict of 2: first")]
)
def test_a_decoder_that_takes_the_parts_of_a_latent_one_by_one_is_told_how(network, parts):
    with pytest.raises(ContractError, match=f"it is given what encode returns, {parts}.*, as one argument") as told:
        tried(network)
    assert tried(pasted(str(told.value), dict(globals()))).latent_size == 4


def test_where_nothing_like_an_image_comes_back_the_parts_are_told_by_their_shapes():
    class Patches(nn.Module):
        def forward(self, x):
            return SimpleNamespace(loss=x.mean(), logits=x.flatten(1), names=["a"])

    with pytest.raises(ContractError) as told:
        tried(Patches)
    assert (
        "but returned a SimpleNamespace of 3: loss (), logits (8, 30), names list; bench in its place, with that which "
        "makes an image of out for IMAGE: def build(image_shape): return aezoo.Adapted(Patches(), reconstruct=lambda "
        "out: IMAGE); what else training needs comes from"
    ) in str(told.value)


def test_a_form_in_which_a_network_runs_is_told_with_what_it_returns_then():
    class PatchesOfColours(InColour):
        def forward(self, x):
            return self.inner(x).flatten(2), x.mean()

    with pytest.raises(ContractError) as told:
        tried(PatchesOfColours)
    assert (
        "to have 3 channels, but got 1 channels instead; bench in its place: def build(image_shape): return "
        "aezoo.Adapted(PatchesOfColours(), reconstruct=lambda out: IMAGE, image=aezoo.ImageForm(shape=image_shape, "
        "channels=3)), IMAGE being made of what it returns then, a tuple of 2: 0 (2, 3, 30), 1 (); look at "
    ) in str(told.value)


def test_a_form_that_fits_by_chance_is_not_told():
    class Pieces(nn.Module):
        """Of 32x32 pixels, to which sides are padded in vain, it makes two rows an image."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(512, 3)

        def forward(self, x):
            return self.layer(x.view(-1, 512)), 0

    with pytest.raises(ContractError, match="take the sizes from image_shape"):
        tried(Pieces)


def test_what_is_no_matter_of_sizes_is_not_blamed_on_them():
    class Steps(nn.Module):
        def forward(self, x):
            return x.latent + self.nothing

    with pytest.raises(ContractError, match="it may want something else than a batch of images") as told:
        tried(Steps)
    assert "take the sizes" not in str(told.value)


def test_a_hint_is_given_up_where_it_takes_long(monkeypatch):
    class Wide(nn.Module):
        """What takes the square of its pixels to look at."""

        def forward(self, x):
            sides.append(x.shape[2])
            raise ValueError("no")

    sides: list[int] = []
    with pytest.raises(ContractError, match="ValueError: no"):
        tried(Wide)
    assert max(sides) == 256
    sides.clear()
    monkeypatch.setattr("aezoo.check.hints.PATIENCE", -1.0)
    with pytest.raises(ContractError, match="ValueError: no"):
        tried(Wide)
    assert max(sides) == 6


def test_a_number_that_comes_as_a_batch_of_one_is_named_for_a_penalty():
    class Net(Tuple):
        def forward(self, x):
            return self.inner(x), x.mean().view(1)

    with pytest.raises(ContractError, match=re.escape("(it also returns the scalar 1: see penalty and per)")):
        tried(Net)


def test_a_class_of_no_module_as_of_exec_is_told_of_like_any_other():
    names = {"nn": nn}
    exec("class Tupled(nn.Flatten):\n    def forward(self, x): return x.mean(), x", names)
    with pytest.raises(ContractError, match="but returned a tuple of 2.*look at Tupled.forward"):
        tried(names["Tupled"])
