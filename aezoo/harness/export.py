"""A trained network leaves its run: a folder that stands alone, ONNX, or what torch.export writes."""

import contextlib
import io
import logging
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aezoo.contract.network import Half, halves, to_float
from aezoo.errors import AezooError, StorageError, plain, reason_of, system_reason
from aezoo.harness.model import Model, as_image
from aezoo.run.files import write_bytes, write_json, write_text
from aezoo.run.model import CONFIG, WEIGHTS
from aezoo.run.store import RunDirectory
from aezoo.run.weights import pack
from aezoo.table.render import render
from aezoo.table.rows import summarise

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""Runs an exported graph on a batch."""
Write = Callable[[nn.Module, Tensor, Path], Run]
"""Writes a graph, with an input of it, to a file, and returns what runs it."""
TOLERANCE = 1e-4
"""The greatest difference of a number, pixels in [0, 1], at which an exported graph is the same network."""
PICTURE = "reconstructions.png"
BATCHES = (1, 3, 8)
"""Sizes of a batch on which it is held against the original."""


class FromBytes(nn.Module):
    """A network, or a half of it, that takes images as bytes, (B, C, H, W), uint8: the scaling is in it."""

    def __init__(self, module: nn.Module, call: Half) -> None:
        super().__init__()
        self.module = module
        self._call = call

    def forward(self, pixels: Tensor) -> Tensor:
        """Return what is computed of images, uint8."""
        return self._call(pixels.to(torch.float32) / 255)


class FromLatents(nn.Module):
    """The decoder of a network, that takes latents, (B, ...)."""

    def __init__(self, module: nn.Module, call: Half) -> None:
        super().__init__()
        self.module = module
        self._call = call

    def forward(self, latents: Tensor) -> Tensor:
        """Return images, float32."""
        return self._call(latents)


def graphs(model: Model) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return what of a network is exported, by name, each with an input: the whole, and its two halves where it has."""
    channels, height, width = model.config.image_shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (max(BATCHES), channels, height, width), generator=generator, dtype=torch.uint8)
    module = model.module.cpu().eval()
    exported: dict[str, tuple[nn.Module, Tensor]] = {"autoencoder": (FromBytes(module, module), pixels)}
    pair = halves(module, to_float(pixels[:2]))
    if pair is not None:
        with torch.no_grad():
            latents = pair[0](to_float(pixels))
        exported["encoder"] = (FromBytes(module, pair[0]), pixels)
        exported["decoder"] = (FromLatents(module, pair[1]), latents)
    return exported


def export_folder(model: Model, out: Path, card: Callable[[Path], str]) -> Path:
    """Write a network into a folder that stands alone, whole or not at all.

    Args:
        model: The network.
        out: The folder; it must not be there, or be empty.
        card: Writes pictures into a folder, and returns the text of README.md.

    Raises:
        AezooError: there is something at `out`, or it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AezooError(f"{out} is there already: give another folder, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".aezoo-export-", dir=out.parent))
    except OSError as error:
        raise StorageError(f"cannot write {out}: {system_reason(error)}") from error
    try:
        content = pack(model.module)
        write_bytes(scratch / WEIGHTS, content)
        write_json(scratch / CONFIG, model.config)
        write_text(scratch / "README.md", card(scratch))
        scratch.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        scratch.rename(out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {system_reason(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def export_onnx(model: Model, out: Path) -> dict[str, float]:
    """Write a network as ONNX, whole and its halves, into a folder, and return how far each is from the original.

    Images go in as bytes, (B, C, H, W), uint8, in batches of any size. Each graph is run in onnxruntime.

    Raises:
        AezooError: the extra is not installed, the network cannot be exported, or what was exported is another network.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise AezooError(f"{error.name} is not installed: pip install 'aezoo[onnx]'") from error
    return _export(model, out, "onnx", _onnx)


def export_pt2(model: Model, out: Path) -> dict[str, float]:
    """Write a network as torch.export does, whole and its halves, into a folder, and return how far each is from it.

    Raises:
        AezooError: the network cannot be exported, or what was exported is another network.
    """
    return _export(model, out, "pt2", _pt2)


def _export(model: Model, out: Path, ending: str, write: Write) -> dict[str, float]:
    """Write each graph of a network, and nothing where one is not the network that it was made of."""
    differences: dict[str, float] = {}
    contents: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="aezoo-export-") as scratch:
        for name, (graph, example) in graphs(model).items():
            path = Path(scratch) / f"{name}.{ending}"
            try:
                with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                    # What exporters say on the way is for those who write them.
                    warnings.simplefilter("ignore")
                    run = write(graph, example, path)
            except Exception as error:
                raise AezooError(f"{name} cannot be exported: {reason_of(error)[:500]}") from error
            differences[name] = _difference(name, graph, example, run)
            contents[path.name] = path.read_bytes()
    for name, content in contents.items():
        write_bytes(out / name, content)
    return differences


def _onnx(graph: nn.Module, example: Tensor, path: Path) -> Run:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        graph, (example,), dynamo=True, verbose=False, input_names=["input"], output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda array: np.asarray(session.run(None, {"input": array})[0])


def _pt2(graph: nn.Module, example: Tensor, path: Path) -> Run:
    program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    run = program.module()
    return lambda array: np.asarray(run(torch.from_numpy(array)).detach().numpy())


def _difference(name: str, graph: nn.Module, example: Tensor, run: Run) -> float:
    """Return the greatest difference between what a graph gives and the original, over batches of several sizes.

    Raises:
        AezooError: it is above `TOLERANCE`.
    """
    greatest = 0.0
    for size in BATCHES:
        with torch.no_grad():
            expected = graph(example[:size]).numpy()
        got = np.asarray(run(example[:size].numpy()))
        if got.shape != expected.shape:
            raise AezooError(f"{name}: the exported graph gives {got.shape}, and the network {expected.shape}")
        greatest = max(greatest, float(np.abs(got.astype(np.float64) - expected).max()))
    if not greatest <= TOLERANCE:
        raise AezooError(
            f"{name}: the exported graph differs by {greatest:.2g} from the network, more than {TOLERANCE:g}"
        )
    return greatest


def card(model: Model, source: Path) -> Callable[[Path], str]:
    """Return what writes the README.md of an exported network, and its pictures: what it is, how good, how to use it.

    `source` is the run that it comes out of, or the folder.
    """
    return lambda folder: _card(model, source, folder)


def _card(model: Model, source: Path, folder: Path) -> str:
    config = model.config
    data, made = config.dataset, config.environment
    shape = "x".join(map(str, config.image_shape))
    latent = "none" if config.latent_shape is None else "x".join(map(str, config.latent_shape))
    rate = config.recipe.rate if config.lr is None else config.lr
    facts = [
        ("variant", f"`{config.variant}`"),
        ("plugin", f"{config.plugin.distribution} {config.plugin.version}, source {config.plugin.source_sha256[:12]}"),
        ("images", f"{shape}, {data.name}, {data.num_train:,} to train, {data.num_test:,} to test"),
        ("latent", latent),
        ("parameters", f"{config.num_params:,}"),
        ("test MSE", f"{config.test_mse:.6g} (this seed, {config.seed})"),
        ("recipe", f"{config.recipe.name} ({config.fingerprint}), {config.recipe.optimizer} at {rate:g}"),
        ("made with", f"aezoo {made.aezoo}, torch {made.torch}, {made.device_name}"),
    ]
    lines = [f"# {config.variant}", "", "| | |", "|---|---|", *(f"| {name} | {plain(text)} |" for name, text in facts)]
    if (source / "run.json").is_file():
        lines += ["", *_of_run(model, source, folder)]
    lines += [
        "",
        "```python",
        "import aezoo",
        "",
        'model = aezoo.load("FOLDER")  # this folder; nothing in it is code, and nothing is unpickled',
        "latents = model.encode(images)  # arrays, tensors, PIL images or paths",
        "seen = model.reconstruct(images)",
        "```",
        "",
        "On a terminal: `aezoo reconstruct FOLDER photos -o seen`, `aezoo encode`, `aezoo score`, `aezoo export`.",
    ]
    return "\n".join(lines) + "\n"


def _of_run(model: Model, path: Path, folder: Path) -> list[str]:
    """Return what its run says of it: its row of the table, its reconstructions, and the line that makes it again."""
    run = RunDirectory(path).load()
    table = summarise(run)
    rows = table[table["variant"] == model.config.variant]
    lines = ["Over all seeds of its run, with the 95 % interval:", "", render(rows, "github").strip(), ""]
    images = run.read_images()
    if images is not None:
        originals = np.stack([images.pixels[place] for place in images.choice.images])
        seen = model.reconstruct(originals)
        top, bottom = (np.concatenate(list(part), axis=2) for part in (originals / 255.0, seen))
        as_image(np.concatenate([top, bottom], axis=1)).save(folder / PICTURE)
        lines += [f"![test images, and below them their reconstructions]({PICTURE})", ""]
    again = shlex.join(["aezoo", "reproduce", str(path), model.config.trial_id])
    return [*lines, f"Trained again from its record by `{plain(again)}`."]
