"""Measure aezoo against what a user would pick instead: pythae, Lightning, a DataLoader loop, JAX. CPU only.

    pip install -e '.[peers]'
    python benchmarks/peers.py --json peers.json

The same network from the same initial weights, the same digits (mnist-5k's, 31 full batches of 128 an epoch), Adam
at 1e-3 and MSE, float32. Every measurement has a process of its own, since JAX and torch fight for threads, and each
peer has the threads that it takes by default, all cores; a trial of aezoo has one, as in its bench. Clocked are the
steps, after a warm-up; imports, building the network and JAX's compilation are not. After each trial its error on the
training images is taken, so that nobody is clocked doing something else. A peer whose package is not installed is left
out, and named.

A grid is 8 trials. The peers train one after another in a warm process, as a user's loop would; `jax, vmap` stacks
them into one program, which is the best that JAX can do. aezoo's is a whole `aezoo.bench`, from the first trial's
start to the last one's end: starting processes, scoring and writing records count against it. Rounds alternate over the
peers, and ratios are taken round by round.
"""

import argparse
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tabulate
import torch
from stopwatch import Stopwatch
from torch import Tensor, nn
from torch.nn import functional as F

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.machine import capture, configure
from aezoo.registry.discovery import discover
from aezoo.train.loop import batch_indices, train
from aezoo.train.score import image_errors

BATCH, LR, TRIALS = 128, 1e-3, 8
EPOCHS = {"mlp": 20, "conv": 2}
ROUNDS = {"mlp": 3, "conv": 2}
Train = Callable[[nn.Module, int, int], Callable[[], object]]
"""Takes a network, the epochs and a seed; returns what is to be clocked."""


def digits() -> Tensor:
    """Return the training images, uint8, as many as fill whole batches."""
    images = torch.from_numpy(discover().dataset("mnist-5k").checked(Path()).train)
    return images[: len(images) // BATCH * BATCH]


def network(family: str, seed: int) -> Any:
    torch.manual_seed(seed)
    return aezoo.create(family, image_shape=(1, 28, 28))


def loader(images: Tensor) -> Any:
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(images.float() / 255), batch_size=BATCH, shuffle=True)


def with_bare_loop(module: nn.Module, epochs: int, seed: int) -> Callable[[], object]:
    """Resident images and fused Adam, nothing else."""
    images = digits()
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)

    def run() -> None:
        batches = batch_indices(len(images), BATCH, seed)
        for _ in range(epochs * len(images) // BATCH):
            x_BCHW = images[next(batches)].float() / 255
            optimizer.zero_grad()
            torch.autograd.backward(F.mse_loss(module(x_BCHW), x_BCHW))
            optimizer.step()

    return run


def with_dataloader(module: nn.Module, epochs: int, seed: int) -> Callable[[], object]:  # noqa: ARG001
    """The loop of every tutorial."""
    batches = loader(digits())
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)

    def run() -> None:
        for _ in range(epochs):
            for (x_BCHW,) in batches:
                optimizer.zero_grad()
                torch.autograd.backward(F.mse_loss(module(x_BCHW), x_BCHW))
                optimizer.step()

    return run


def with_lightning(module: nn.Module, epochs: int, seed: int) -> Callable[[], object]:  # noqa: ARG001
    import lightning

    class Lit(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return F.mse_loss(self.network(batch[0]), batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LR)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    model, batches = Lit(), loader(digits())
    return lambda: trainer.fit(model, batches)


def with_pythae(module: Any, epochs: int, seed: int) -> Callable[[], object]:
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = module.encoder

        def forward(self, x: Tensor) -> Any:
            return ModelOutput(embedding=self.layers(x))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = module.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    logging.disable(logging.WARNING)
    images = digits()
    with torch.no_grad():
        latent_dim = module.encode(images[:1].float()).shape[1]
    # Its loss is the sum over an image, 784 times ours; Adam's steps do not depend on the scale.
    model = AE(AEConfig(input_dim=(1, 28, 28), latent_dim=latent_dim), Encoder(), Decoder())
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(prefix="peers-"), num_epochs=epochs, per_device_train_batch_size=BATCH,
        learning_rate=LR, optimizer_cls="Adam", seed=seed, no_cuda=True,
    )  # fmt: skip
    data = BaseDataset(images.float() / 255, torch.zeros(len(images)))
    run: Callable[[], object] = BaseTrainer(model=model, train_dataset=data, training_config=config).train
    return run


def with_aezoo(module: nn.Module, epochs: int, seed: int) -> Callable[[], object]:
    images = digits()
    recipe = Recipe(name="peers", epochs=epochs, batch_size=BATCH, lr=LR)
    return lambda: train(module, images, recipe, seed, lambda _: None)


TORCH: dict[str, Train] = {
    "aezoo": with_aezoo,
    "bare loop": with_bare_loop,
    "dataloader": with_dataloader,
    "lightning": with_lightning,
    "pythae": with_pythae,
}
PEERS = (*TORCH, "jax", "jax, vmap")
PACKAGES = {"lightning": ("lightning",), "pythae": ("pythae",), "jax": ("jax", "optax"), "jax, vmap": ("jax", "optax")}
"""What a peer needs beside torch: `pip install -e '.[peers]'`."""


def missing(peer: str) -> list[str]:
    """Return the packages of a peer that are not installed."""
    return [package for package in PACKAGES.get(peer, ()) if find_spec(package) is None]


def train_in_torch(peer: str, family: str, epochs: int, trials: int) -> dict[str, list[float]]:
    """Train the grid with one of the torch peers, one trial after the other; return seconds and errors of each."""
    if peer == "aezoo":
        configure(threads=1)
    TORCH[peer](network(family, 0), 1, 0)()
    seconds, errors = [], []
    for seed in range(trials):
        module = network(family, seed)
        run = TORCH[peer](module, epochs, seed)
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
        errors.append(float(image_errors(module, digits()).mean()))
    return {"trial_seconds": seconds, "grid_seconds": [sum(seconds)], "train_mse": errors}


def bench_in_aezoo(family: str, epochs: int, trials: int) -> dict[str, list[float]]:
    """Run the grid as a bench of so many seeds, without the baselines' trials."""
    wanted = {f"architecture {family}", "dataset mnist-5k"}
    others = [plugin.name for plugin in discover().plugins if not wanted & set(plugin.contributions)]
    steps = epochs * len(digits()) // BATCH
    recipe = Recipe(name="peers", steps=1, batch_size=BATCH, lr=LR)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"timing": False, "device": "cpu", "block": others}
        aezoo.bench([f"{family}[]"], recipe=recipe, out=Path(folder) / "warm", **settings)
        recipe = recipe.change(steps=steps, seeds=trials)
        run = aezoo.bench([f"{family}[]"], recipe=recipe, out=Path(folder) / "run", observer=watch, **settings)
        errors = [record.train_mse or 0.0 for record in run.records()]
    return {"grid_seconds": [max(watch.done.values()) - min(watch.begun.values())], "train_mse": errors}


def to_jax(module: Any) -> tuple[list[tuple[Any, ...]], Callable[..., Any]]:
    """Translate a sequential network: its parameters, layer by layer, and its forward."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    layers = [*module.encoder, *module.decoder]
    params = [tuple(jnp.asarray(value.detach().numpy()) for value in layer.parameters()) for layer in layers]

    def apply(layer: nn.Module, weights: tuple[Any, ...], x: Any) -> Any:
        match layer:
            case nn.Linear():
                x = x @ weights[0].T + weights[1]
            case nn.ReLU():
                x = jax.nn.relu(x)
            case nn.Sigmoid():
                x = jax.nn.sigmoid(x)
            case nn.Flatten():
                x = x.reshape(len(x), -1)
            case nn.Unflatten():
                x = x.reshape(len(x), *layer.unflattened_size)
            case nn.Conv2d():
                kind = ("NCHW", "OIHW", "NCHW")
                x = lax.conv_general_dilated(x, weights[0], (2, 2), [(1, 1)] * 2, dimension_numbers=kind)
                x += weights[1][:, None, None]
            case nn.ConvTranspose2d():
                kind, pad = ("NCHW", "IOHW", "NCHW"), [(1, 1 + extra) for extra in layer.output_padding]
                flipped = jnp.flip(weights[0], (2, 3))
                x = lax.conv_general_dilated(x, flipped, (1, 1), pad, lhs_dilation=(2, 2), dimension_numbers=kind)
                x += weights[1][:, None, None]
            case _:
                raise TypeError(type(layer).__name__)
        return x

    def forward(params: Any, x: Any) -> Any:
        for layer, weights in zip(layers, params, strict=True):
            x = apply(layer, weights, x)
        return x

    x_BCHW = digits()[:4].float() / 255
    expected = module(x_BCHW).detach().numpy()
    np.testing.assert_allclose(forward(params, x_BCHW.numpy()), expected, rtol=1e-3, atol=1e-5)
    return params, forward


def train_in_jax(family: str, epochs: int, trials: int, *, stacked: bool) -> dict[str, list[float]]:
    """Train the grid with `lax.scan` over the steps of a trial, compiled beforehand; `stacked` trains all at once."""
    import jax
    import optax
    from jax import numpy as jnp

    images = jnp.asarray(digits().numpy())
    optimizer = optax.adam(LR)
    networks = [to_jax(network(family, seed)) for seed in range(trials)]
    forward = networks[0][1]

    def loss(params: Any, x: Any) -> Any:
        return jnp.mean(jnp.square(forward(params, x) - x))

    def step(state: Any, indices: Any) -> Any:
        params, moments = state
        value, gradients = jax.value_and_grad(loss)(params, images[indices].astype(jnp.float32) / 255)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, updates), moments), value

    def trial(params: Any, order: Any) -> Any:
        return jax.lax.scan(step, (params, optimizer.init(params)), order)[0][0]

    def order(seed: int) -> Any:
        batches = batch_indices(len(images), BATCH, seed)
        return jnp.asarray(torch.stack([next(batches) for _ in range(epochs * len(images) // BATCH)]).numpy())

    orders = [order(seed) for seed in range(trials)]
    params = [params for params, _ in networks]
    if stacked:
        given = jax.tree.map(lambda *each: jnp.stack(each), *params), jnp.stack(orders)
        program = jax.jit(jax.vmap(trial)).lower(*given).compile()
        started = time.perf_counter()
        trained = jax.block_until_ready(program(*given))
        seconds = [time.perf_counter() - started]
        trained = [jax.tree.map(lambda each, i=index: each[i], trained) for index in range(trials)]
    else:
        program = jax.jit(trial).lower(params[0], orders[0]).compile()
        seconds, trained = [], []
        for given in zip(params, orders, strict=True):
            started = time.perf_counter()
            trained.append(jax.block_until_ready(program(*given)))
            seconds.append(time.perf_counter() - started)
    errors = [float(loss(one, images.astype(jnp.float32) / 255)) for one in trained]
    return {"trial_seconds": [] if stacked else seconds, "grid_seconds": [sum(seconds)], "train_mse": errors}


def measure(peer: str, family: str, epochs: int, trials: int) -> dict[str, list[float]]:
    """Run one peer in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", peer, "--families", family]
    command += ["--epochs", str(epochs), "--trials", str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{peer} failed:\n{done.stderr}")
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_one(peer: str, family: str, epochs: int, trials: int) -> dict[str, list[float]]:
    """Train the grid with one peer, in this process; return the seconds of its trials and of all, and the errors."""
    if peer == "aezoo, bench":
        return bench_in_aezoo(family, epochs, trials)
    if peer.startswith("jax"):
        return train_in_jax(family, epochs, trials, stacked=peer == "jax, vmap")
    return train_in_torch(peer, family, epochs, trials)


def compare(family: str, rounds: int, epochs: int, trials: int) -> dict[str, Any]:
    """Run the rounds, print the table of a family, and return the raw figures."""
    present = [peer for peer in PEERS if not missing(peer)]
    raw: dict[str, list[dict[str, list[float]]]] = {peer: [] for peer in ("aezoo, bench", *present)}
    for number in range(rounds):
        for peer in random.Random(number).sample(list(raw), len(raw)):
            raw[peer].append(measure(peer, family, epochs, trials))
            print(f"{family}, round {number + 1} of {rounds}: {peer}", file=sys.stderr)
    images = epochs * len(digits())
    rows: list[list[Any]] = []
    for what, base, key in (
        ("one trial", "aezoo", "trial_seconds"),
        (f"grid of {trials}", "aezoo, bench", "grid_seconds"),
    ):
        # A trial's time is the median of the grid's.
        seconds = {peer: [statistics.median(one[key]) for one in runs if one.get(key)] for peer, runs in raw.items()}
        count = images * (trials if key == "grid_seconds" else 1)
        for peer, taken in seconds.items():
            if not taken or (peer == "aezoo" and base != peer):
                continue
            ratios = [other / mine for mine, other in zip(seconds[base], taken, strict=True)]
            mse = statistics.mean(error for run in raw[peer] for error in run["train_mse"])
            speed = count / statistics.median(taken)
            rows.append([what, peer, speed, statistics.median(ratios), min(ratios), max(ratios), mse])
    print(f"\n{family}: {rounds} rounds, {images // BATCH} steps a trial")
    heads = ["", "trainer", "images/s", "aezoo is faster by", "min", "max", "train MSE"]
    print(tabulate.tabulate(rows, heads, floatfmt=("", "", ",.0f", ".2f", ".2f", ".2f", ".5f")))
    # Seeds of one recipe: whoever trained something else would stand out.
    errors = [row[-1] for row in rows]
    if max(errors) > 1.25 * min(errors):
        warnings.warn(f"the {family} networks ended at different errors, {min(errors)} to {max(errors)}", stacklevel=2)
    return {"epochs": epochs, "rounds": raw}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default="mlp,conv")
    parser.add_argument("--rounds", type=int, help=f"by default {ROUNDS}")
    parser.add_argument("--epochs", type=int, help=f"of a trial, 31 steps each; by default {EPOCHS}")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of a grid; by default %(default)s")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(given.one, given.families, given.epochs, given.trials)))
        return
    packages = ("torch", *dict.fromkeys(name for names in PACKAGES.values() for name in names))
    found: dict[str, Any] = {"environment": capture("cpu", 1).model_dump()}
    found["versions"] = {name: version(name) for name in packages if find_spec(name)}
    found["left_out"] = {peer: missing(peer) for peer in PEERS if missing(peer)}
    for peer, names in found["left_out"].items():
        print(f"left out: {peer}, which needs {' and '.join(names)}; pip install -e '.[peers]'", file=sys.stderr)
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    for family in given.families.split(","):
        rounds, epochs = given.rounds or ROUNDS[family], given.epochs or EPOCHS[family]
        found[family] = compare(family, rounds, epochs, given.trials)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
