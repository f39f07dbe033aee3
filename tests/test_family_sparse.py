"""What the sparse families and the masked autoencoder claim, held to computations of another kind."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.train.loop import train
from aezoo_plugins.dictionaries import AuxK, Centre, variance

SHAPE = (1, 8, 8)
SPARSE = ["sparse_l1", "topk", "batch_topk", "matryoshka", "gated", "jumprelu", "winner_take_all"]


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 12, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def trained(text: str, scale: float = 1.0, steps: int = 300) -> tuple[nn.Module, Tensor]:
    """Train on images that are sums of a few of 30 smooth bumps, and return the network with them."""
    rng = torch.Generator().manual_seed(2)
    places, at = torch.rand(30, 2, generator=rng), torch.linspace(0, 1, 8)
    bumps = torch.exp(-40 * ((at[:, None] - places[:, :1, None]) ** 2 + (at - places[:, 1:, None]) ** 2))
    amounts = torch.rand(400, 30, generator=rng) * (torch.rand(400, 30, generator=rng) < 0.15)
    pixels = (255 * scale * (amounts @ bumps.flatten(1)).clamp(max=1)).byte().view(-1, *SHAPE)
    module = create(text)
    train(module, pixels, Recipe(name="t", steps=steps, batch_size=64, lr=5e-3), 0, lambda _: None)
    return module.eval(), pixels.float() / 255


def active(module: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((module.encode(x) != 0).float().sum(1).mean())


# The dictionary ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*SPARSE, "sparse_kl"])
def test_a_dictionary_starts_with_entries_of_norm_1(text):
    module = create(f"{text}[width=20]")
    torch.testing.assert_close(module.entries.norm(dim=0), torch.ones(20))
    torch.testing.assert_close(module.encoder[1].weight, module.entries.T)


def test_codes_are_sparse_but_for_those_of_sigmoids():
    assert [create(f"{text}[width=20]").sparse for text in SPARSE] == [True] * len(SPARSE)
    module = create("sparse_kl[width=20]")
    assert module.sparse is False
    assert (module.encode(images()) > 0).all()


def test_the_mean_image_is_that_of_all_batches_in_training():
    centre, batches = Centre(64), images(30).split(10)
    for batch in batches:
        centre(batch)
    torch.testing.assert_close(centre.mean, images(30).flatten(1).mean(0))
    centre.eval()
    torch.testing.assert_close(centre(images(4)), images(4).flatten(1) - images(30).flatten(1).mean(0))


@pytest.mark.parametrize("text", SPARSE)
def test_brighter_images_have_the_same_codes_and_brighter_reconstructions(text):
    """What all images have in common is the mean image's business, and no unit's."""
    dark, bright = create(f"{text}[width=20]"), create(f"{text}[width=20]")
    x = images(16) / 2
    dark.training_forward(x)
    bright.training_forward(x + 0.5)
    dark.eval(), bright.eval()
    torch.testing.assert_close(bright.encode(x + 0.5), dark.encode(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bright(x + 0.5), dark(x) + 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["sparse_l1", "gated", "topk[k=3]", "matryoshka[k=3]"])
def test_a_weight_means_the_same_for_images_of_any_contrast(text):
    penalties = []
    for x in (images(16), images(16) / 5):
        module = create(text)
        with torch.no_grad():
            module.encoder[1].bias.zero_()
            module.decoder[0].bias.zero_()
            if hasattr(module, "aux"):
                module.aux.idle.fill_(99)
                module.encoder[1].weight[:99] *= 0.1  # silent beside the others
            penalties.append(float(module.training_forward(x).penalty))
    assert penalties[0] > 0
    assert penalties[1] == pytest.approx(penalties[0] / 25, rel=1e-4)  # as a squared error's


# Dead units ----------------------------------------------------------------------------------------------------------


def test_dead_units_reconstruct_the_residual_with_their_largest_numbers():
    torch.manual_seed(0)
    aux = AuxK((1, 3, 3), 12, 0.5, 20)  # of 9 pixels half, 4 units, take part
    aux.idle[:7] = 50.0
    x, entries, reconstruction = torch.rand(5, 1, 3, 3), torch.randn(9, 12), torch.rand(5, 1, 3, 3)
    z, code = torch.randn(5, 12), torch.zeros(5, 12)
    code[:, 7:] = 1.0
    residual = (x - reconstruction).view(5, 9)
    total = 0.0
    for image in range(5):
        largest = sorted(((float(z[image, unit]), unit) for unit in range(7)), reverse=True)[:4]
        made = sum(max(value, 0.0) * entries[:, unit] for value, unit in largest)
        total += float((made - residual[image]).square().sum())
    normalised = total / float((residual - residual.mean(0)).square().sum())
    expected = 0.5 * normalised * float(x.view(5, 9).var(0, correction=0).mean())
    assert float(aux(x, z, code, reconstruction, entries)) == pytest.approx(expected, rel=1e-5)


def test_only_dead_units_learn_from_the_residual():
    module = create("topk[k=3,width=20]")
    module.aux.idle[:5] = 50.0
    with torch.no_grad():
        module.encoder[1].bias[:5] = -20.0  # silent, and one of them is near
        module.encoder[1].bias[2] = 0.0
        module.encoder[1].weight[2] *= 0.01
    module.training_forward(images()).penalty.backward()
    assert module.aux.idle[:5].min() > 20 > module.aux.idle[5:].max()
    moved = (module.encoder[1].weight.grad != 0).any(1), (module.entries.grad != 0).any(0)
    assert [torch.nonzero(one).flatten().tolist() for one in moved] == [[2], [2]]
    assert module.decoder[0].bias.grad is None


def test_a_unit_is_dead_once_it_was_silent_for_more_steps_than_patience():
    module = create("topk[k=3,patience=2,width=20]")
    with torch.no_grad():
        module.encoder[1].bias[4] = -100.0
    penalties = [float(module.training_forward(images()).penalty.detach()) for _ in range(4)]
    assert float(module.aux.idle[4]) == 4
    assert [one > 0 for one in penalties] == [False, False, True, True]
    with torch.no_grad():
        module.encoder[1].bias[4] = 100.0
    module.training_forward(images())
    assert float(module.aux.idle[4]) == 0


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_the_loss_of_dead_units_revives_them(name):
    silent = []
    for patience in (5, 10**6):
        module, x = create(f"{name}[k=3,patience={patience},width=40]"), images(64)
        with torch.no_grad():
            module.encoder[1].weight[:30] *= 0.1  # 30 of 40 never reach the largest three
        optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
        for _ in range(400):
            output = module.training_forward(x)
            optimiser.zero_grad()
            (F.mse_loss(output.reconstruction, x) + output.penalty).backward()
            optimiser.step()
        silent.append(int((module.eval().encode(x) == 0).all(0).sum()))
    print(silent)
    assert 3 * silent[0] <= silent[1] >= 18


# Codes by count ------------------------------------------------------------------------------------------------------


def test_batch_topk_keeps_k_for_each_image_in_training_and_about_as_many_in_evaluation():
    module = create("batch_topk[k=4,width=40]")
    x = images(64)
    for _ in range(5):
        module.training_forward(x)
    module.eval()
    assert active(module, x) == pytest.approx(4, rel=0.05)
    counts = (module.encode(x) != 0).sum(1)
    assert counts.min() < 4 < counts.max()


def test_the_threshold_of_batch_topk_follows_the_smallest_positive_number_that_is_kept():
    module = create("batch_topk[k=40,width=40]")
    x = images(64)
    module.training_forward(x)
    z = module.eval().encoder(x)
    assert (z == 0).any()
    torch.testing.assert_close(module.threshold, z[z > 0].min())
    with torch.no_grad():
        module.encoder[1].bias.fill_(-100.0)  # nothing is positive any more
    before = module.threshold.clone()
    module.train().training_forward(x)
    torch.testing.assert_close(module.threshold, before)


def test_matryoshka_adds_the_errors_of_its_prefixes_and_as_often_the_loss_of_dead_units():
    module, x = create("matryoshka[k=4,levels=3,width=40]"), images(32)
    module.aux.idle[:8] = 50.0
    with torch.no_grad():
        module.encoder[1].weight[:8] *= 0.05  # silent beside the others
    output = module.training_forward(x)
    with torch.no_grad():
        z = module.eval().encoder(x)
        code = z * (z >= z.flatten().sort(descending=True).values[4 * 32 - 1])
        whole = module.decode(code)
        expected = 0.0
        for size in (0, 10, 20):
            prefix = torch.cat([code[:, :size], torch.zeros(32, 40 - size)], 1)
            expected += float(F.mse_loss(module.decode(prefix), x))
        # Their mean with the whole's, as the authors' code has it, has four terms beside one loss of dead units.
        dead = float(module.aux(x, z, code, whole, module.entries))
    assert dead > 0
    assert float(output.penalty.detach()) == pytest.approx(expected + 4 * dead, rel=1e-5)
    torch.testing.assert_close(output.reconstruction, whole)
    assert create("matryoshka").bounds == [0, 16, 32, 64, 128, 256]


@pytest.mark.parametrize("size", [8, 16])
def test_the_first_entries_of_matryoshka_reconstruct_better_than_those_of_batch_topk(size):
    errors = []
    for text in ("matryoshka[k=4,levels=3,width=32]", "batch_topk[k=4,width=32]"):
        module, x = trained(text)
        code = module.encode(x)
        code[:, size:] = 0.0
        errors.append(float(F.mse_loss(module.decode(code), x).detach()))
    assert errors[0] < 0.9 * errors[1]


def test_matryoshka_refuses_levels_that_would_have_no_entries():
    create("matryoshka[k=2,levels=4,width=8]")
    with pytest.raises(AezooError, match=r"levels must be at most 4.* 8 units, but is 5"):
        create("matryoshka[k=2,levels=5,width=8]")


def test_winners_are_each_units_largest_activations_in_the_batch():
    module = create("winner_take_all[rate=0.25,width=20]")
    z = torch.rand(12, 20)
    kept = module.winners(z) != 0
    assert kept.sum(0).tolist() == [3] * 20
    assert (z.masked_fill(~kept, 2).amin(0) >= z.masked_fill(kept, -1).amax(0)).all()
    torch.testing.assert_close(module.threshold, z.sort(0, descending=True).values[2])


def test_a_unit_wins_as_often_in_evaluation_as_in_training():
    module, x = trained("winner_take_all[rate=0.125,width=32]")
    shares = (module.encode(x) != 0).float().mean(0)
    assert float(shares.mean()) == pytest.approx(0.125, rel=0.2)
    assert 0.06 < float(shares.min()) < float(shares.max()) < 0.25


@pytest.mark.parametrize(
    ("text", "scored"),
    [
        ("winner_take_all", "by thresholds"), ("batch_topk", "by a threshold"), ("matryoshka", "by a threshold"),
        ("mae", "on whole images"), ("nested_dropout", "whole"), ("flextok", "whole"),
    ],
)  # fmt: skip
def test_a_row_says_how_it_is_scored_where_training_has_a_rule_that_evaluation_has_not(text, scored):
    module = create(text, (1, 16, 16))
    assert module.objective.endswith(f"; scored {scored}")
    # As the rows of a batch depend on each other, or on a draw, in training and not in evaluation.
    x = images(8, (1, 16, 16))
    torch.manual_seed(1)
    whole, alone = (
        torch.cat([module.training_forward(part).reconstruction for part in parts]) for parts in ([x], x.split(1))
    )
    module.eval()
    assert not torch.allclose(whole, alone, atol=1e-4)
    torch.testing.assert_close(module(x), torch.cat([module(part) for part in x.split(1)]), rtol=1e-4, atol=1e-5)


# Codes by a penalty --------------------------------------------------------------------------------------------------


def test_an_l1_penalty_is_the_same_for_longer_entries_and_smaller_codes():
    module = create("sparse_l1[width=20]")
    x = images()
    before = module.training_forward(x)
    with torch.no_grad():
        module.encoder[1].weight /= 3
        module.encoder[1].bias /= 3
        module.decoder[0].weight *= 3
    after = module.training_forward(x)
    torch.testing.assert_close(after.penalty, before.penalty)
    torch.testing.assert_close(after.reconstruction, before.reconstruction)


def test_the_l1_loss_is_that_of_images_scaled_to_a_mean_squared_norm_of_1():
    module, x = create("sparse_l1[weight=0.3,width=20]"), images()
    output = module.training_forward(x)
    with torch.no_grad():
        centred = x - x.mean(0)
        scale = centred.flatten(1).square().sum(1).mean().sqrt()
        error = (output.reconstruction - x).flatten(1).div(scale).square().sum(1).mean()
        sums = (module.eval().encode(x) / scale * module.entries.norm(dim=0)).sum(1).mean()
        harness = F.mse_loss(output.reconstruction, x) + output.penalty
    torch.testing.assert_close(harness / variance(x), error + 0.3 * sums)


def test_the_kl_loss_is_the_exercises_twice_over_the_pixels():
    module, x = create("sparse_kl[width=20]"), images()
    output = module.training_forward(x)
    with torch.no_grad():
        mean = module.eval().encode(x).mean(0)
        rate = Bernoulli(torch.full((20,), 0.1))
        half = (output.reconstruction - x).flatten(1).square().sum(1).mean() / 2
        exercise = half + 3.0 * kl_divergence(rate, Bernoulli(mean)).sum()
        constant = 3.0 * rate.entropy().sum()  # of the rate, which no weight changes
        harness = F.mse_loss(output.reconstruction, x) + output.penalty
    torch.testing.assert_close(harness * 64 / 2, exercise + constant)


def test_a_gate_passes_what_its_magnitude_says_and_nothing_where_it_is_closed():
    module = create("gated[width=20]").eval()
    x = images()
    with torch.no_grad():
        module.log_scale.fill_(math.log(2))
        module.magnitude_bias.fill_(0.5)
        gates = module.encoder(x)
        magnitudes = 2 * (gates - module.encoder[1].bias) + 0.5
        torch.testing.assert_close(module.encode(x), torch.where(gates > 0, magnitudes.relu(), 0.0))


def test_the_gates_learn_from_an_l1_and_a_reconstruction_with_the_dictionary_held_still():
    module, x = create("gated[weight=0.3,width=20]"), images()
    output = module.training_forward(x)
    output.penalty.backward()
    assert module.entries.grad is None
    assert module.decoder[0].bias.grad is None
    assert (module.encoder[1].weight.grad != 0).all(1).any()
    with torch.no_grad():
        seen = module.eval().encoder(x).relu()
        scale = (x - x.mean(0)).flatten(1).square().sum(1).mean().sqrt()
        expected = F.mse_loss(module.decode(seen), x) + 0.3 * seen.sum(1).mean() * scale / 64  # entries of norm 1
    torch.testing.assert_close(output.penalty.detach(), expected)


def test_the_gradient_of_a_threshold_is_the_papers_estimate():
    module = create("jumprelu[bandwidth=0.4,target=4.0,threshold=0.3,width=30]")
    x = images(6)
    output = module.training_forward(x)
    module.eval()
    torch.testing.assert_close(output.reconstruction, module(x))
    with torch.no_grad():
        z, threshold = module.encoder(x), 0.3
        near = ((z - threshold).abs() < 0.2).float() / 0.4
        count = float((z > threshold).float().sum(1).mean())
    assert float(output.penalty.detach()) == pytest.approx(2 / 4 * (count - 4) ** 2 * float(variance(x)), rel=1e-5)
    (by_autograd,) = torch.autograd.grad(output.penalty, module.threshold, retain_graph=True)
    torch.testing.assert_close(by_autograd, 2 / 4 * 2 * (count - 4) * variance(x) * -near.mean(0))
    direction = torch.randn_like(output.reconstruction)
    (by_autograd,) = torch.autograd.grad(output.reconstruction, module.threshold, direction)
    upstream = direction.flatten(1) @ module.entries
    torch.testing.assert_close(by_autograd, (upstream * -threshold * near).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("target", "scale"), [(4.0, 1.0), (8.0, 1.0), (4.0, 0.5)])
def test_l0_comes_out_as_the_target_says(target, scale):
    module, x = trained(f"jumprelu[target={target},width=40]", scale, steps=500)
    assert active(module, x) == pytest.approx(target, rel=0.12)


@pytest.mark.parametrize("target", [0.0, 257.0])
def test_a_target_is_a_number_of_the_units(target):
    with pytest.raises(AezooError, match=f"target must be above 0 and at most 256, the width, but is {target}"):
        create(f"jumprelu[target={target}]")


# Masked patches ------------------------------------------------------------------------------------------------------


def test_each_number_of_hidden_patches_is_as_likely_and_each_patch_too():
    module = create("mae[patch=4]", (1, 16, 16))
    hidden = module.draw(26000, torch.device("cpu"))
    counts = hidden.sum(1).bincount(minlength=17)
    assert counts[13:].sum() == 0
    assert (counts[:13] - 2000).abs().max() < 220  # 5 deviations
    assert (hidden.float().mean(0) - 6 / 16).abs().max() < 0.015


def test_hidden_patches_are_to_the_encoder_as_if_they_were_left_out():
    module = create("mae[depth=2,patch=4]", (1, 16, 16))
    x, attend = images(3, (1, 16, 16)), module.encoder["attend"]
    hidden = module.draw(3, x.device)
    assert 0 < hidden.sum() < hidden.numel()
    tokens = module.encoder["cut"](x)
    masked = attend(tokens, hidden)
    for image in range(3):
        seen = ~hidden[image]
        alone = attend.layers((tokens[image] + attend.positions)[seen].unsqueeze(0))
        torch.testing.assert_close(masked[image][seen], alone[0], rtol=1e-4, atol=1e-5)


def test_training_does_not_see_what_is_hidden_and_evaluation_sees_all():
    module = create("mae[patch=4]", (1, 16, 16))
    x = images(1, (1, 16, 16))
    torch.manual_seed(5)
    hidden = module.draw(1, x.device)[0]
    assert 0 < hidden.sum() < 16
    changed = []
    for row in range(4):
        for column in range(4):
            other = x.clone()
            other[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
            outputs = []
            for one in (x, other):
                torch.manual_seed(5)
                outputs.append(module.training_forward(one).reconstruction)
            changed.append(not torch.equal(*outputs))
            assert not torch.equal(module(x), module(other))
    assert changed == (~hidden).tolist()
