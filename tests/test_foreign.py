"""Networks that nobody here wrote: from real packages, each with an adapter of six lines at most, and no false alarm.

One whose package is not installed is skipped; the extra `test` installs those that the ready adapters need.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import aezoo
from aezoo.check.case import Case
from aezoo.check.notes import notes_of
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Variant
from aezoo.contract.halves import halves
from aezoo.contract.network import to_float, training_forward
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError
from aezoo.harness.observer import Observer
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover
from aezoo.registry.factory import architecture_of

SHAPE = (1, 14, 12)
IMAGES = sample_images(SHAPE, count=24)
RECIPE = Recipe(name="t", steps=3, batch_size=8)
X = to_float(IMAGES[:8])
PIXELS = 14 * 12


def variant_of(factory) -> Variant:
    architecture = architecture_of(factory, "net", (), "net")
    return Variant(architecture=architecture, hyperparameters=architecture.check({}), label="net")


def tried(factory):
    return preflight(variant_of(factory), IMAGES, RECIPE)


def failures(factory) -> dict[str, str]:
    return {each.check: each.detail for each in examine(Case(variant_of(factory), IMAGES)) if each.status == "failed"}


# Ten and more, each with an adapter of its own -----------------------------------------------------------------------


def diffusers_kl(image_shape):
    import diffusers

    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    module = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=down, up_block_types=up, norm_num_groups=4
    )
    return aezoo.Adapted(
        module, reconstruct="sample", encode=lambda module, x: module.encode(x).latent_dist.mode(),
        decode=lambda module, z: module.decode(z).sample,
        image=aezoo.ImageForm(shape=image_shape, channels=3, range=(-1, 1), multiple=2),
    )  # fmt: skip


def diffusers_vq(image_shape):
    import diffusers

    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    module = diffusers.VQModel(block_out_channels=(8, 8), down_block_types=down, up_block_types=up, norm_num_groups=4)
    form = aezoo.ImageForm(shape=image_shape, channels=3, multiple=2)
    return aezoo.Adapted(module, reconstruct="sample", penalty="commit_loss", per="pixel", image=form)


def diffusers_tiny(image_shape):
    import diffusers

    module = diffusers.AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    return aezoo.Adapted(
        module, encode=lambda module, x: module.encode(x).latents, decode=lambda module, z: module.decode(z).sample,
        image=aezoo.ImageForm(shape=image_shape, channels=3, range=(-1, 1), multiple=8),
    )  # fmt: skip


def diffusers_dc(image_shape):
    import diffusers

    both = {"block_out_channels": (8, 8), "layers_per_block": (1, 1), "qkv_multiscales": ((), ())}
    halves = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in both.items()}
    return aezoo.Adapted(
        diffusers.AutoencoderDC(latent_channels=4, **halves),
        encode=lambda module, x: module.encode(x).latent, decode=lambda module, z: module.decode(z).sample,
        image=aezoo.ImageForm(shape=image_shape, channels=3, range=(-1, 1), multiple=2),
    )  # fmt: skip


def monai_autoencoder(image_shape):
    from monai.networks.nets import AutoEncoder

    module = AutoEncoder(spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8), strides=(2, 2))
    form = aezoo.ImageForm(shape=image_shape, multiple=4)
    return aezoo.Adapted(module, encode="encode", decode="decode", image=form)


def monai_kl(image_shape):
    from monai.networks.nets import AutoencoderKL

    module = AutoencoderKL(
        spatial_dims=2, num_res_blocks=1, channels=(8, 8), attention_levels=(False, False), norm_num_groups=4
    )
    return aezoo.Adapted(module, reconstruct=0, encode=lambda module, x: module.encode(x)[0], decode="decode")


def monai_vae(image_shape):
    from monai.networks.nets import VarAutoEncoder

    form = aezoo.ImageForm(shape=image_shape, multiple=4)
    module = VarAutoEncoder(2, form.taken, 1, 8, channels=(4, 8), strides=(2, 2))
    return aezoo.Adapted(
        module, reconstruct=0, encode=lambda module, x: module.encode_forward(x)[0], decode="decode_forward",
        penalty=lambda out: 0.5 * (out[1] ** 2 + out[2].exp() - 1 - out[2]).sum(1), per="image", weight=2,
        image=form,
    )  # fmt: skip


def from_pythae(name: str, config: str, **read):
    """Return a build function of one of pythae's classes, read the same but for what is given."""

    def build(image_shape):
        models = importlib.import_module("pythae.models")
        module = getattr(models, name)(getattr(models, config)(input_dim=image_shape, latent_dim=4))
        return aezoo.Adapted(
            module, call=lambda module, x: module({"data": x}), reconstruct="recon_x", per="image", **read,
            encode=lambda module, x: module.encoder(x).embedding,
            decode=lambda module, z: module.decoder(z).reconstruction,
        )  # fmt: skip

    build.__name__ = f"pythae_{name.lower()}"
    return build


def lightning_module(image_shape):
    from lightning import LightningModule

    class Tutorial(LightningModule):
        """Of Lightning's own first page: its forward encodes."""

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(PIXELS, 64), nn.ReLU(), nn.Linear(64, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, PIXELS))

        def forward(self, x):
            return self.encoder(x)

        def training_step(self, batch, batch_idx):
            x = batch[0].view(batch[0].size(0), -1)
            loss = F.mse_loss(self.decoder(self(x)), x)
            self.log("train_loss", loss)
            return loss

    form = aezoo.ImageForm(shape=image_shape, flat=True)
    return aezoo.Adapted(Tutorial(), encode="encoder", decode="decoder", image=form)


class SparseAutoencoder(nn.Module):
    """With the methods of sae_lens's: features of activations, which are flat."""

    def __init__(self, d_in: int, d_sae: int) -> None:
        super().__init__()
        self.W_enc = nn.Parameter(torch.randn(d_in, d_sae) / d_in**0.5)
        self.W_dec = nn.Parameter(self.W_enc.detach().T.clone())
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(d_sae)), nn.Parameter(torch.zeros(d_in))

    def encode(self, x):
        return F.relu((x - self.b_dec) @ self.W_enc + self.b_enc)

    def decode(self, features):
        return features @ self.W_dec + self.b_dec

    def forward(self, x):
        return self.decode(self.encode(x))


def sae_lens_like(image_shape):
    form = aezoo.ImageForm(shape=image_shape, flat=True)
    return aezoo.Adapted(SparseAutoencoder(PIXELS, 32), encode="encode", decode="decode", sparse=True, image=form)


class VectorQuantiser(nn.Module):
    """As examples on VQ have it: a loss, the quantised latent, and its codes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1)
        self.embedding = nn.Embedding(16, 4)

    def quantize(self, z):
        flat = z.permute(0, 2, 3, 1)
        codes = torch.cdist(flat.flatten(0, 2), self.embedding.weight).argmin(1).view(flat.shape[:3])
        quantised = self.embedding(codes).permute(0, 3, 1, 2)
        loss = F.mse_loss(quantised, z.detach()) + 0.25 * F.mse_loss(quantised.detach(), z)
        return loss, z + (quantised - z).detach(), codes

    def forward(self, x):
        loss, z, _ = self.quantize(self.down(x))
        return self.up(z), loss


def vq_example(image_shape):
    return aezoo.Adapted(
        VectorQuantiser(), reconstruct=0, penalty=1, per="pixel", objective="mse + codebook", codebook_size=16,
        encode=lambda module, x: module.quantize(module.down(x))[1], decode="up",
        codes=lambda module, x: module.quantize(module.down(x))[2].flatten(1),
        from_codes=lambda module, codes: module.embedding(codes.view(-1, 7, 6)).permute(0, 3, 1, 2),
    )  # fmt: skip


class ListReturning(nn.Module):
    """In the way of PyTorch-VAE: reconstruction, input, mean and log-variance, in a list; the input in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 32), nn.LeakyReLU())
        self.fc_mu, self.fc_var = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, PIXELS), nn.Tanh(), nn.Unflatten(1, SHAPE))

    def encode(self, x):
        result = self.encoder(x)
        return [self.fc_mu(result), self.fc_var(result)]

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        return [self.decode(z), x, mu, log_var]


def pytorch_vae_like(image_shape):
    return aezoo.Adapted(
        ListReturning(), reconstruct=0, encode=lambda module, x: module.encode(x)[0], decode="decode",
        penalty=lambda out: -0.5 * (1 + out[3] - out[2] ** 2 - out[3].exp()).sum(1), per="pixel", weight=0.00025,
        objective="mse + kl", image=aezoo.ImageForm(shape=image_shape, range=(-1, 1)),
    )  # fmt: skip


def own_loss(out):
    return out.loss - out.recon_loss


FOREIGN = {
    "diffusers": [diffusers_kl, diffusers_vq, diffusers_tiny, diffusers_dc],
    "monai": [monai_autoencoder, monai_kl, monai_vae],
    "pythae": [
        from_pythae("VAE", "VAEConfig", penalty="reg_loss", weight=2),
        from_pythae("BetaTCVAE", "BetaTCVAEConfig", penalty=own_loss, weight=2),
        from_pythae("IWAE", "IWAEConfig", penalty=own_loss, weight=2),
        from_pythae("WAE_MMD", "WAE_MMD_Config", penalty=own_loss),
        from_pythae(
            "Adversarial_AE", "Adversarial_AE_Config", penalty=lambda out: out.autoencoder_loss - out.recon_loss,
            weight=2, adversary="discriminator", adversary_loss="discriminator_loss",
        ),
    ],
    "lightning": [lightning_module],
    "torch": [sae_lens_like, vq_example, pytorch_vae_like],
}  # fmt: skip


@pytest.mark.parametrize("package", FOREIGN)
def test_foreign_networks_have_a_row_each_and_it_says_what_was_adapted(package, tmp_path):
    pytest.importorskip(package)
    builds = FOREIGN[package]
    run = aezoo.bench(
        builds, dataset=IMAGES, recipe=RECIPE, out=tmp_path / "run", device="cpu", timing=False, executor="inline",
        observer=Observer(),
    )  # fmt: skip
    table = run.table().set_index("variant")
    names = [build.__name__ for build in builds]
    assert table.loc[names, "status"].to_list() == ["ok"] * len(names)
    assert table.loc[names, "test_mse"].notna().all()
    for build in builds:
        adapted = build(SHAPE)
        assert table["adapted"].fillna("")[build.__name__] == "; ".join(adapted.adaptations)
        assert table.loc[build.__name__, "objective"] == adapted.objective
    assert {name for name in names if table["latent_size"].isna()[name]} <= {"diffusers_vq"}


def test_adapters_are_six_lines_at_most():
    for build in [build for builds in FOREIGN.values() for build in builds]:
        source = inspect.getsource(build)
        adapter = source[source.index("    return aezoo.Adapted(") :].removesuffix("    )  # fmt: skip\n")
        assert len(adapter.strip().splitlines()) <= 6, build.__name__


GUIDE = (Path(__file__).parent.parent / "plugins" / "README.md").read_text()


def test_the_guides_adapter_is_the_line_of_the_message_and_what_no_trial_can_tell():
    models = pytest.importorskip("pythae.models")
    section = GUIDE.split("## Somebody else's network\n")[1].split("\n## ")[0]
    names: dict = {"VAE": models.VAE, "VAEConfig": models.VAEConfig}
    exec(re.search(r"`pyvae.py` being\n`(def build.+?)`", section)[1], names)
    with pytest.raises(ContractError) as told:
        tried(names["build"])
    said = re.search(r"invalid: pyvae seed 0: (.+?)\n```", section, re.DOTALL)[1]
    assert str(told.value).partition(", vae_model.py")[0] == " ".join(said.split()).partition(", vae_model.py")[0]

    names = {}
    exec(re.search(r"```py\n(.+?)```", section, re.DOTALL)[1], names)
    build = names["build"]
    assert failures(build) == {}
    (adapted,) = build(SHAPE).adaptations
    assert f"\nadapted: pyvae2: {adapted}\n" in section


# A U-Net is none -----------------------------------------------------------------------------------------------------


def small_unet(smp):
    return smp.Unet("resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(8, 8, 8), in_channels=1)


def leaking_unet(image_shape):
    """The deepest features are called its latent, and the decoder takes the others from where the encoder left them."""

    def encode(module, x):
        module.skips = module.encoder(x)
        return module.skips[-1]

    def decode(module, z):
        return module.segmentation_head(module.decoder([*module.skips[:-1], z]))

    smp = pytest.importorskip("segmentation_models_pytorch")
    form = aezoo.ImageForm(shape=image_shape, multiple=8)
    return aezoo.Adapted(small_unet(smp), encode=encode, decode=decode, image=form)


def leaking_unet_of_monai(image_shape):
    def encode(module, x):
        module.skips = [module.conv_0(x)]
        for down in (module.down_1, module.down_2, module.down_3, module.down_4):
            module.skips.append(down(module.skips[-1]))
        return module.skips[-1]

    def decode(module, z):
        for up, skip in zip(
            (module.upcat_4, module.upcat_3, module.upcat_2, module.upcat_1), module.skips[-2::-1], strict=True
        ):
            z = up(z, skip)
        return module.final_conv(z)

    nets = pytest.importorskip("monai.networks.nets")
    module = nets.BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(4, 4, 4, 4, 4, 4))
    return aezoo.Adapted(module, encode=encode, decode=decode, image=aezoo.ImageForm(shape=image_shape, multiple=32))


@pytest.mark.parametrize("build", [leaking_unet, leaking_unet_of_monai])
def test_a_unet_is_refused_where_its_depth_is_called_a_latent(build):
    with pytest.raises(ContractError) as told:
        tried(build)
    assert "by a network that encoded no image" in str(told.value) or "after it encoded other images" in str(told.value)
    assert "what the encoder leaves behind for its decoder passes around the bottleneck" in str(told.value)


def test_a_unet_as_it_stands_has_no_latent_and_its_row_says_that_it_may_copy():
    module = small_unet(pytest.importorskip("segmentation_models_pytorch")).eval()
    images = to_float(sample_images((1, 16, 16)))
    # The image itself, and maps of 8x8, 4x4 and 2x2 with 64, 64 and 128 channels.
    passed = 16**2 + 64 * 8**2 + 64 * 4**2 + 128 * 2**2
    assert halves(module, images) is None
    assert notes_of(module, images) == [
        f"its encoder gives its decoder {passed:,} numbers of an image of 256 pixels, so that nothing keeps it from "
        "copying: it has no bottleneck, and its loss stands beside none that has one"
    ]


# The ready adapters --------------------------------------------------------------------------------------------------


def ready(text: str, shape=SHAPE) -> aezoo.Adapted:
    pytest.importorskip(text.partition("[")[0])
    torch.manual_seed(0)
    return discover().resolve(text).build(shape).eval()


SMALL = {"diffusers": "width=4,latent_channels=2,strides=2", "monai": "width=4,strides=2", "pythae": "latent_dim=3"}
MODELS = {
    "diffusers": ("kl", "vq", "tiny", "dc"),
    "monai": ("autoencoder", "vae", "kl", "vq"),
    "pythae": (
        "ae", "vae", "beta_tc_vae", "info_vae", "svae", "iwae", "vamp", "wae_mmd", "adversarial_ae", "rae_gp",
    ),
}  # fmt: skip
READY = [f"{package}[model={model},{SMALL[package]}]" for package, models in MODELS.items() for model in models]


@pytest.mark.parametrize("text", READY)
def test_each_ready_adapter_takes_images_of_an_odd_size_and_trains_all_of_its_network(text):
    shape = (2, 13, 9)
    x, adapted = to_float(sample_images(shape)), ready(text, shape)
    with torch.no_grad():
        assert adapted(x).shape == x.shape
        torch.testing.assert_close(adapted.decode(adapted.encode(x[:3])), adapted(x)[:3], rtol=1e-4, atol=1e-5)
    padded = ["images are padded with 0 from 13x9 to 16x12, and cropped again"]
    assert [told for told in adapted.adaptations if "padded" in told] == (padded if "strides" in text else [])
    output = training_forward(adapted.train(), x)
    (F.mse_loss(output.reconstruction, x) + (0 if output.penalty is None else output.penalty)).backward()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)
    frozen = {name for name, parameter in adapted.named_parameters() if not parameter.requires_grad}
    assert frozen == ({"module.quantizer.quantizer.embedding.weight"} if text == READY[7] else set())


@pytest.mark.parametrize("text", [READY[1], READY[7], *READY[8:]])
def test_a_ready_adapter_passes_the_preflight(text):
    pytest.importorskip(text.partition("[")[0])
    facts = preflight(discover().resolve(text), IMAGES, RECIPE)
    assert facts.latent_kind == ("discrete" if "model=vq" in text else "continuous")
    assert facts.notes == []


@torch.no_grad()
def test_a_ready_adapter_reconstructs_as_its_network_does_itself():
    """But for what it says: a padding that is cropped, a mean for a sample, a latent that is not rounded to bytes."""

    def own(adapted, read):
        return adapted.image.giving(read(adapted.module, adapted.image.taking(X)))

    for text, read, tolerance in (
        (READY[0], lambda module, x: module(x).sample, 1e-5),
        (READY[1], lambda module, x: module(x).sample, 1e-5),
        (READY[3], lambda module, x: module(x).sample, 1e-5),
        (READY[4], lambda module, x: module(x), 1e-5),
        (READY[6], lambda module, x: module.reconstruct(x), 1e-5),
        (READY[7], lambda module, x: module(x)[0], 1e-5),
    ):
        adapted = ready(text)
        torch.testing.assert_close(adapted(X), own(adapted, read), rtol=0, atol=tolerance)
    variational = ready(READY[5])
    variational.module.use_mean_at_inference = True
    torch.testing.assert_close(variational(X), own(variational, lambda module, x: module(x)[0]))
    # 256 steps of a byte between -3 and 3.
    tiny = ready(READY[2])
    z = tiny.encode(X)
    bytes_of = (tiny.module.scale_latents(z) * 255).round().byte()
    own_image = tiny.image.giving(tiny.module(tiny.image.taking(X)).sample)
    torch.testing.assert_close(tiny.decode(tiny.module.unscale_latents(bytes_of / 255)), own_image)
    assert not torch.equal(tiny(X), own_image)


OTHERWISE = ("ae", "iwae", "adversarial_ae")


@pytest.mark.parametrize("model", [model for model in MODELS["pythae"] if model not in OTHERWISE])
def test_what_is_optimised_of_pythae_is_its_own_loss_but_for_a_factor(model):
    adapted = ready(f"pythae[model={model},latent_dim=3]").train()
    keywords = {"dataset_size": 4000} if model == "beta_tc_vae" else {}
    factor = 1 if model in ("wae_mmd", "rae_gp") else 2
    torch.manual_seed(1)
    output = training_forward(adapted, X)
    torch.manual_seed(1)
    own = adapted.module({"data": X.clone()}, **keywords)
    total = F.mse_loss(output.reconstruction, X) + output.penalty
    torch.testing.assert_close(total, factor / PIXELS * own.loss, rtol=1e-5, atol=1e-7)
    assert float(output.penalty.detach()) > 0 or model == "wae_mmd"


def test_of_a_bound_of_ten_samples_that_is_so_in_expectation_and_of_an_adversary_without_it():
    adapted = ready("pythae[model=iwae,latent_dim=3]").train()
    totals = []
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(200):
            random = torch.get_rng_state()
            output = training_forward(adapted, X)
            torch.set_rng_state(random)
            own = adapted.module({"data": X}).loss
            totals.append(F.mse_loss(output.reconstruction, X) + output.penalty - 2 / PIXELS * own)
    off = torch.stack(totals)
    assert off.std() > 0
    assert abs(float(off.mean())) < 4 * float(off.std()) / 200**0.5

    adapted = ready("pythae[model=adversarial_ae,latent_dim=3]").train()
    torch.manual_seed(1)
    output = training_forward(adapted, X)
    torch.manual_seed(1)
    own = adapted.module({"data": X})
    total = F.mse_loss(output.reconstruction, X) + output.penalty
    torch.testing.assert_close(total, 2 / PIXELS * own.autoencoder_loss)
    torch.manual_seed(1)
    assert torch.equal(adapted.adversary_loss(X), own.discriminator_loss)


def test_the_penalties_of_diffusers_and_monai_are_those_of_their_scripts():
    adapted = ready(READY[0]).train()
    torch.manual_seed(1)
    penalty = training_forward(adapted, X).penalty
    posterior = adapted.module.encode(adapted.image.taking(X)).latent_dist
    # Beside a sum over the pixels of an image in [-1, 1], where a squared error is four times that in [0, 1].
    torch.testing.assert_close(penalty, 1e-6 * posterior.kl().mean() / (4 * PIXELS))

    adapted = ready(READY[1]).train()
    own = adapted.module(adapted.image.taking(X))
    torch.testing.assert_close(training_forward(adapted, X).penalty, own.commit_loss)

    for text, weight in ((READY[5], 2 / PIXELS), (READY[6], 1e-6)):
        adapted = ready(text).train()
        penalty = training_forward(adapted, X).penalty
        out = adapted.module(adapted.image.taking(X))
        deviation = (out[2] / 2).exp() if text == READY[5] else out[2]
        normal = torch.distributions.Normal(out[1], deviation)
        divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
        torch.testing.assert_close(penalty, weight * divergence.flatten(1).sum(1).mean(), rtol=1e-4, atol=1e-10)

    adapted = ready(READY[7]).train()
    z = adapted.module.encode(adapted.image.taking(X))
    codebook = adapted.module.quantizer.quantizer.embedding.weight.clone()
    nearest = torch.cdist(z.permute(0, 2, 3, 1).flatten(0, 2), codebook).amin(1)
    torch.testing.assert_close(training_forward(adapted, X).penalty, 0.25 * nearest.square().mean() / z.shape[1])


def test_by_default_maps_have_the_zoos_64_numbers_and_codes_its_128_bits():
    for text in ("diffusers[]", "diffusers[model=tiny]", "diffusers[model=dc]", "monai[]", "monai[model=kl]"):
        for shape in ((1, 28, 28), (3, 64, 64)):
            with torch.no_grad():
                assert tuple(ready(text, shape).encode(torch.zeros(1, *shape)).shape) == (1, 4, 4, 4), text
    for text in ("diffusers[model=vq]", "monai[model=vq]"):
        adapted = ready(text, (1, 28, 28))
        assert tuple(adapted.codes(torch.zeros(2, 1, 28, 28)).shape) == (2, 16)
        assert adapted.codebook_size == 256


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("diffusers[width=6]", "width must be a multiple of 4 and of latent_channels, 4"),
        ("diffusers[latent_channels=3]", "width must be a multiple of 4 and of latent_channels, 3"),
        ("monai[latent_dim=8]", "latent_dim says nothing of model=autoencoder: it has latent_channels"),
        ("monai[model=vae,latent_channels=8]", "latent_channels says nothing of model=vae: it has latent_dim"),
        ("monai[width=6]", "width must be a multiple of 4, but is 6"),
        ("monai[latent_channels=0]", "latent_channels must be at least 1, but is 0"),
        ("pythae[dataset_size=9]", "dataset_size says nothing of model=vae: it is of beta_tc_vae"),
        ("pythae[model=svae,latent_dim=2]", "of svae, latent_dim must be at least 3, but is 2"),
        ("pythae[model=gan]", "hyperparameter 'model' accepts 'ae' or 'vae' or .*, but got 'gan'"),
    ],
)
def test_a_wrong_hyperparameter_is_one_line(text, told):
    with pytest.raises(AezooError, match=told):
        discover().resolve(text).build(SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_a_package_that_is_not_installed_is_one_line(name, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("aezoo_plugins.foreign.importlib.import_module", missing)
    with pytest.raises(ContractError, match=f"^{name} is not installed: pip install 'aezoo\\[{name}\\]'$"):
        preflight(discover().resolve(f"{name}[]"), IMAGES, RECIPE)


def test_a_package_that_lacks_another_one_says_which(monkeypatch):
    def broken(module):
        raise ModuleNotFoundError("No module named 'regex'", name="regex")

    monkeypatch.setattr("aezoo_plugins.foreign.importlib.import_module", broken)
    with pytest.raises(AezooError, match="^diffusers cannot be imported, it lacks regex: pip install regex$"):
        discover().resolve("diffusers[]").build(SHAPE)


# No false alarm ------------------------------------------------------------------------------------------------------


class Base(aezoo.Autoencoder):
    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 8)),
            nn.Sequential(nn.Linear(8, PIXELS), nn.Sigmoid(), nn.Unflatten(1, SHAPE)),
        )


class Rounds(Base):
    """To few levels, so that even the untrained network's rounding is larger than what tells its images apart."""

    def forward(self, x):
        y = super().forward(x)
        return y if self.training else (y * 4).round() / 4


class RoundsBehindChildren(nn.Module):
    """To 8 bits, with a gradient that passes, and no halves but two children."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Base().children()

    def forward(self, x):
        y = self.decoder(self.encoder(x))
        return y + ((y * 255).round() / 255 - y).detach()


class Samples(Base):
    objective = "mse, sampled latent"

    def encode(self, x):
        z = super().encode(x)
        return z + 0.1 * torch.randn_like(z)


class DifferentiatesInTraining(Base):
    objective = "mse + gradient"

    def training_forward(self, x):
        x = x.clone().requires_grad_()
        z = self.encode(x)
        (gradient,) = torch.autograd.grad(z.sum(), x, create_graph=True)
        return aezoo.TrainingOutput(self.decode(z), 1e-3 * gradient.square().mean())


class DifferentiatesInForward(Base):
    """A step of gradient descent on the latent, as networks of iterative inference take it."""

    def forward(self, x):
        z = self.encoder(x)
        start = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((self.decoder(start) - x).square().sum(), start)
        return self.decoder(z - 0.1 * gradient)


class MendedInForward(DifferentiatesInForward):
    def encode(self, x):
        with torch.enable_grad():
            z = self.encoder(x)
            start = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad((self.decoder(start) - x).square().sum(), start)
        return z - 0.1 * gradient

    forward = aezoo.Autoencoder.forward


class Conditional(Base):
    """With a branch for labels, which nobody gives it here."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Embedding(10, 8)

    def forward(self, x, label=None):
        z = self.encode(x)
        return self.decode(z if label is None else z + self.condition(label))


class MovingMeans(Base):
    """An embedding that moves by running means, and is a parameter all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8))

    def encode(self, x):
        z = super().encode(x)
        if self.training:
            with torch.no_grad():
                self.table.lerp_(z.mean(0), 0.1)
        return z


CONCERNS = {
    Rounds: (
        "halves",
        "forward is not its decoder on its encoder's latent, though with another image's latent it reconstructs that "
        "image: what it does behind its decoder, such as rounding or clipping, belongs into decode",
    ),
    Samples: (
        "evaluation",
        "got two: it draws random numbers, as of a sampled latent, and its score is of one draw; take the mean where "
        "not self.training, give encode and decode where it is aezoo.Adapted, or declare aezoo.Architecture(..., "
        "exceptions={'evaluation': 'why'})",
    ),
    Conditional: (
        "gradients",
        "got none in 5 steps for condition.weight (10, 8): a part that is not used, as a conditioning branch, that is "
        "learnt otherwise, as a codebook by running means, or that a rounding cuts off; use it, set "
        "requires_grad=False, or declare aezoo.Architecture(..., exceptions={'gradients': 'why'})",
    ),
    MovingMeans: ("gradients", "got none in 5 steps for table (8,): a part that is not used, as a conditioning branch"),
}


@pytest.mark.parametrize("network", CONCERNS)
def test_what_keeps_no_row_from_being_compared_is_a_note_that_says_what_it_is_and_a_check_that_fails(network):
    check, told = CONCERNS[network]
    (note,) = tried(network).notes
    assert told in note
    assert f"look at {network.__name__}" in note
    found = failures(network)
    assert list(found) == [check]
    assert told in found[check]


@pytest.mark.parametrize("network", [Samples, Conditional, MovingMeans])
def test_what_is_declared_is_no_concern(network):
    check, _ = CONCERNS[network]
    architecture = aezoo.Architecture(
        name="net", build=lambda image_shape: network(), summary="s", reference="2020", exceptions={check: "as it is"}
    )
    variant = Variant(architecture=architecture, hyperparameters={}, label="net")
    assert preflight(variant, IMAGES, RECIPE).notes == []
    assert not [each for each in examine(Case(variant, IMAGES)) if each.status == "failed"]


def test_a_network_that_rounds_behind_its_children_has_no_halves_and_is_accused_of_nothing():
    facts = tried(RoundsBehindChildren)
    assert facts.latent_size is None
    assert facts.notes == [
        "decoder(encoder(x)) is not forward(x), so that it has no latent size: declare its halves by methods encode "
        "and decode, by aezoo.Autoencoder, or as encode and decode of aezoo.Adapted"
    ]
    assert failures(RoundsBehindChildren) == {}


def test_a_network_may_differentiate_while_it_trains_and_is_told_how_where_it_does_so_in_evaluation():
    assert failures(DifferentiatesInTraining) == {}
    assert tried(DifferentiatesInTraining).notes == []
    with pytest.raises(ContractError) as told:
        tried(DifferentiatesInForward)
    assert (
        "it differentiates in its forward pass, and a network is scored under torch.no_grad(): do that in a block of "
        "torch.enable_grad(), or where it is not yours, bench in its place: def build(image_shape): return "
        "aezoo.Adapted(DifferentiatesInForward(), call=torch.enable_grad()(lambda module, x: module(x))); or score it "
        'by its halves: def build(image_shape): return aezoo.Adapted(DifferentiatesInForward(), encode="encode", '
        'decode="decode"); look at DifferentiatesInForward.forward'
    ) in str(told.value)
    lent = torch.enable_grad()(lambda module, x: module(x))
    assert failures(lambda image_shape: aezoo.Adapted(DifferentiatesInForward(), call=lent)) == {}
    assert failures(MendedInForward) == {}


def test_a_bench_goes_on_with_what_is_no_breach(tmp_path):
    run = aezoo.bench(
        [Rounds, Samples, Conditional, MovingMeans, DifferentiatesInTraining], dataset=IMAGES, recipe=RECIPE,
        out=tmp_path / "run", device="cpu", timing=False, executor="inline", observer=Observer(),
    )  # fmt: skip
    statuses = run.table().set_index("variant")["status"]
    assert statuses.eq("ok").all()
    assert len(statuses) == 7
