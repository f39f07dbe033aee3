"""A trained network as a graph that needs no aezoo: ONNX, or what torch.export writes, held against the original."""

import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aezoo.contract.halves import halves
from aezoo.contract.network import Called, Half, to_float
from aezoo.errors import AezooError, plain, reason_of
from aezoo.harness.model import Model
from aezoo.run.model import GRAPHS

Kind = Literal["onnx", "pt2"]
Run = Callable[[NDArray[Any]], NDArray[Any]]
"""Runs an exported graph on a batch."""
Write = Callable[[nn.Module, Tensor, Path], Run]
"""Writes a graph, with an input of it, to a file, and returns what runs it."""
TOLERANCE = 1e-4
"""The greatest difference of a number, pixels in [0, 1], at which an exported graph is the same network."""
BATCHES = (1, 3, 8)
"""Sizes of a batch on which it is held against the original."""


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """The graphs of a network, whole and its halves, or why there are none.

    `contents` holds the files, by name; `differences` how far each is, at the most, from the network.
    """

    kind: Kind
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    differences: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


def graphs(model: Model) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return what of a network is exported, by name, each with an input: the whole, and its two halves where it has.

    Images go in as bytes, (B, C, H, W), uint8: the scaling is part of what is exported.
    """
    channels, height, width = model.config.image_shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (max(BATCHES), channels, height, width), generator=generator, dtype=torch.uint8)
    module = copy.deepcopy(model.module).cpu().eval()
    whole, encoder, decoder = GRAPHS
    exported: dict[str, tuple[nn.Module, Tensor]] = {whole: (Called(module, _of_bytes(module)), pixels)}
    pair = halves(module, to_float(pixels[:2]))
    if pair is not None:
        with torch.no_grad():
            latents = pair[0](to_float(pixels))
        exported[encoder] = (Called(module, _of_bytes(pair[0])), pixels)
        exported[decoder] = (Called(module, pair[1]), latents)
    return exported


def _of_bytes(call: Half) -> Half:
    """Return a network, or its encoder, that takes images as bytes."""
    return lambda pixels: call(pixels.to(torch.float32) / 255)


def export(model: Model, kind: Kind) -> Graphs:
    """Return a network as graphs: images go in as bytes, (B, C, H, W), uint8, in batches of any size.

    Each graph is run, an ONNX one in onnxruntime, and held against the network. Where one cannot be exported, or is
    another network, there are none, and the reason.

    Raises:
        AezooError: the extra is not installed.
    """
    if kind == "onnx":
        try:
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401 - torch's exporter needs it
        except ImportError as error:
            raise AezooError(f"{error.name} is not installed: pip install 'aezoo[onnx]'") from error
    contents: dict[str, bytes] = {}
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="aezoo-export-") as scratch:
        for name, (graph, example) in graphs(model).items():
            path = Path(scratch) / f"{name}.{kind}"
            try:
                with torch.no_grad(), _quietly():
                    run = (_onnx if kind == "onnx" else _pt2)(graph, example, path)
                    differences[name] = _difference(graph, example, run)
            except Exception as error:  # noqa: BLE001 - exporters raise whatever they like
                # What made torch's exporter give up is the reason; what to do about it is for those who write it.
                reason = re.sub(r"\x1b\[[0-9;]*m", "", reason_of(error.__cause__ or error))
                return Graphs(kind=kind, reason=f"{name}: {plain(reason[:200])}")
            contents[path.name] = path.read_bytes()
    return Graphs(kind=kind, contents=contents, differences=differences)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what exporters print, warn of and log to themselves: it is for those who write them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):  # fmt: skip
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _onnx(graph: nn.Module, example: Tensor, path: Path) -> Run:
    import onnxruntime

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


def _difference(graph: nn.Module, example: Tensor, run: Run) -> float:
    """Return the greatest difference between what a graph gives and the original, over batches of several sizes.

    Raises:
        AezooError: it is above `TOLERANCE`.
    """
    differences = []
    for size in BATCHES:
        with torch.no_grad():
            expected = graph(example[:size]).numpy()
        got = np.asarray(run(example[:size].numpy()))
        if got.shape != expected.shape:
            raise AezooError(f"the exported graph gives {got.shape}, and the network {expected.shape}")
        differences.append(np.abs(got.astype(np.float64) - expected).max(initial=0.0))
    # Of numbers among which one is NaN, np.max is NaN.
    greatest = float(np.max(differences))
    if not greatest <= TOLERANCE:
        raise AezooError(f"the exported graph differs by {greatest:.2g} from the network, more than {TOLERANCE:g}")
    return greatest
