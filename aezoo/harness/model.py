"""A trained network to be used: out of a run, or out of a folder that it was exported to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aezoo import machine
from aezoo.contract.arrays import as_array
from aezoo.contract.encoded import is_grey, list_image_files, open_image
from aezoo.contract.halves import halves
from aezoo.contract.levels import Range, range_of
from aezoo.contract.network import Half, to_float
from aezoo.contract.preprocessing import Preprocessing
from aezoo.errors import AezooError, reason_of
from aezoo.registry.discovery import find
from aezoo.registry.names import Registry
from aezoo.registry.outside import AskedPlugin, bring, is_same, load_registry
from aezoo.run.model import CONFIG, ModelConfig, config_of, find_variant, read_exported
from aezoo.run.records import TrialRecord
from aezoo.run.samples import visible
from aezoo.run.store import RunDirectory
from aezoo.run.weights import unpack
from aezoo.table.rows import records_by_variant
from aezoo.train.build import build
from aezoo.train.engine import arithmetic, products
from aezoo.train.layout import lay_out

if TYPE_CHECKING:
    from PIL import Image

Given = Any
"""Images to be used: a tensor or an array, (N, C, H, W) or one image; a PIL image; a path of a file or a
folder; or a list of those."""
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class ReadFiles:
    """Image files as the network takes them.

    `pixels` are those of the files that can be decoded, (N, C, H, W), uint8; `bad` says why of the others, by their
    places. `resized` files were of another size, `recoloured` ones grey in place of colour, or the other way round.
    """

    pixels: NDArray[np.uint8]
    bad: dict[int, str]
    resized: int
    recoloured: int


class Model(nn.Module):
    """A trained network with what it takes to use it. Called, it is the network, in evaluation mode.

    `config` says what it is and where it came from. Its methods take tensors, arrays, PIL images and paths, or lists of
    them, make pixels of them as its data set did, and go through them in batches, on the device of the network. What is
    given as a tensor comes back as one; all else comes back as an array, float32.
    """

    def __init__(self, module: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.module = module
        self.config = config
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W), float32, in [0, 1]."""
        return cast("Tensor", self.module(x))

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @property
    def preprocessing(self) -> Preprocessing:
        """What makes its input."""
        return self.config.preprocessing

    def reconstruct(self, images: Given, *, values: Range | None = None, batch_size: int = BATCH) -> Any:
        """Return the reconstructions of images, (N, C, H, W), float32, as the network gives them: nothing is clipped.

        Args:
            images: What `Given` says; floats as they are, where they are in [0, 1].
            values: What floats mean, in [0, 1] (``unit``), [-1, 1] (``signed``) or [0, 255] (``bytes``); None to tell
                it by their range.
            batch_size: Images that go through the network at a time.

        Raises:
            AezooError: an image cannot be read, or is none for this network.
        """
        return self._all(images, self.module, values, batch_size)

    def encode(self, images: Given, *, values: Range | None = None, batch_size: int = BATCH) -> Any:
        """Return the latents of images, (N, ...), as the encoder gives them.

        Raises:
            AezooError: the network has no encoder; or as `reconstruct`.
        """
        return self._all(images, self._half(0), values, batch_size)

    def decode(self, latents: Any, *, batch_size: int = BATCH) -> Any:
        """Return the images of latents, (N, ...), as `encode` returns them: (N, C, H, W), float32.

        Raises:
            AezooError: the network has no decoder, or the latents are of another shape.
        """
        array = as_array(latents, "latents")
        if array.dtype.kind not in "fiu":
            raise AezooError(f"latents are numbers, but these are {array.dtype}")
        given = torch.from_numpy(array)
        given = given.float() if given.is_floating_point() else given
        shape = self.config.latent_shape
        if shape is not None and tuple(given.shape[1:]) != tuple(shape):
            raise AezooError(
                f"latents of {self.config.variant} are (N, {', '.join(map(str, shape))}), but got {tuple(given.shape)}"
            )
        decode = self._half(1)
        parts = [self._run(decode, part) for part in torch.split(given, _at_least_one(batch_size))]
        whole = torch.cat(parts)
        return whole.to(latents.device) if isinstance(latents, Tensor) else whole.numpy()

    def errors(self, images: Given, *, values: Range | None = None, batch_size: int = BATCH) -> NDArray[np.float64]:
        """Return the mean squared error of each image, (N,), float64, as the score has it."""
        errors = []
        for x_BCHW in self._batches(images, values, batch_size):
            difference = self._run(self.module, x_BCHW).double() - x_BCHW.double()
            errors.append(difference.square().flatten(1).mean(1).numpy())
        return np.concatenate(errors) if errors else np.empty(0)

    def read_files(self, paths: Sequence[Path]) -> "ReadFiles":
        """Decode image files, and say what was done to them, and which of them cannot be decoded."""
        channels, height, width = self.config.image_shape
        pixels = [np.empty((0, *self.config.image_shape), np.uint8)]
        resized = recoloured = 0
        bad: dict[int, str] = {}
        for place, path in enumerate(paths):
            try:
                image = open_image(path)
                pixels.append(self.preprocessing.of_image(image)[None])
            except AezooError as error:
                bad[place] = str(error)
                continue
            resized += image.size != (width, height)
            recoloured += is_grey(image) is not (channels == 1)
        return ReadFiles(pixels=np.concatenate(pixels), bad=bad, resized=resized, recoloured=recoloured)

    def _all(self, images: Given, call: Half, values: Range | None, batch_size: int) -> Any:
        parts = [self._run(call, x_BCHW) for x_BCHW in self._batches(images, values, batch_size)]
        if not parts:
            raise AezooError("no images were given")
        whole = torch.cat(parts)
        return whole.to(images.device) if isinstance(images, Tensor) else whole.numpy()

    def _run(self, call: Half, batch: Tensor) -> Tensor:
        with torch.no_grad(), products(tf32=False), arithmetic(self.config.recipe.precision, self.device.type):
            output = call(batch.to(self.device))
        return (output.float() if output.is_floating_point() else output).cpu()

    def _half(self, number: int) -> Half:
        channels, height, width = self.config.image_shape
        pair = halves(self.module, torch.zeros(2, channels, height, width, device=self.device))
        if pair is None:
            raise AezooError(f"{self.config.variant} has no encoder and decoder, and so no latent")
        return pair[number]

    def _batches(self, images: Given, values: Range | None, batch_size: int) -> Iterator[Tensor]:
        """Yield images as the network takes them, (B, C, H, W), float32, on the host."""
        _at_least_one(batch_size)
        if isinstance(images, Tensor | np.ndarray):
            floats = self.preprocessing.floats_of(as_array(images, "images"), values=values)
            yield from torch.split(torch.from_numpy(floats), batch_size)
            return
        listed = [images] if isinstance(images, str | Path) or hasattr(images, "convert") else images
        if not isinstance(listed, Iterable):
            raise AezooError(f"images are an array, a tensor, a list of images or a path, but got {images!r:.60}")
        listed = [image for each in listed for image in _expanded(each)]
        arrays = [as_array(each, "an image") for each in listed if isinstance(each, Tensor | np.ndarray)]
        ends = [end for each in arrays if each.dtype.kind == "f" and each.size for end in (each.min(), each.max())]
        if values is None and ends and self.preprocessing.low is None:
            # One rule for all of them, as for one array: a dark image alone would be told for another range.
            values = range_of(np.asarray(ends))
        waiting: list[NDArray[np.float32]] = []
        for each in listed:
            waiting.append(self._one(each, values))
            if sum(map(len, waiting)) >= batch_size:
                yield torch.from_numpy(np.concatenate(waiting))
                waiting = []
        if waiting:
            yield torch.from_numpy(np.concatenate(waiting))

    def _one(self, image: Any, values: Range | None) -> NDArray[np.float32]:
        """Return an image as the network takes it, (1, C, H, W)."""
        if isinstance(image, str | Path):
            try:
                pixels = self.preprocessing.of_file(Path(image))
            except AezooError as error:
                raise AezooError(f"{image}: {error}") from error
            return _floats(pixels)
        if hasattr(image, "convert"):
            return _floats(self.preprocessing.of_image(image))
        if not isinstance(image, Tensor | np.ndarray):
            raise AezooError(f"an image is a tensor, an array, a PIL image or a path, but got {type(image).__name__}")
        return self.preprocessing.floats_of(as_array(image, "an image"), values=values)


def _expanded(given: Any) -> list[Any]:
    """Return the image files of a folder, or what is given as it is."""
    return list(image_paths([given])) if isinstance(given, str | Path) and Path(given).is_dir() else [given]


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise AezooError(f"batch_size is 1 or more, but is {batch_size}")
    return batch_size


def _floats(pixels_CHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(to_float(torch.tensor(pixels_CHW[None])).numpy())


def load(
    source: str | Path,
    variant: str | None = None,
    seed: int | None = None,
    *,
    device: str = "auto",
    plugins: Sequence[AskedPlugin] = (),
    block: Sequence[str] = (),
    any_source: bool = False,
) -> Model:
    """Load a trained network from a run, or from a folder that `aezoo export` wrote.

    Args:
        source: The folder.
        variant: Of a run, which one, written as in its table.
        seed: Of a run, from which seed; by default the first one that has a network.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        plugins: Files or modules of plugins that are not installed, functions or classes, as for `bench`. What the
            network was trained from is found by itself where it is as it was: a file at its path, and of this session
            a function or class.
        block: Plugins or distributions to be left out, as for `bench`.
        any_source: Whether a plugin is taken whose code is another one than when the network was trained.

    Raises:
        AezooError: there is no such network, its plugin is not here or another one now, or a file is damaged.
    """
    place = Path(source)
    registry = load_registry(plugins, block)
    if (place / CONFIG).is_file():
        if variant is not None or seed is not None:
            raise AezooError(f"{place} holds one network, exported from a run: give no variant and no seed")
        config, content = read_exported(place)
    else:
        if variant is None:
            RunDirectory(place).require()
            raise AezooError(f"{place} is a run: say which variant of it; `aezoo table {place}` shows them")
        run = RunDirectory(place).require()
        record = trial(run, variant, seed)
        info = run.info()
        rules = info.preprocessing or Preprocessing(image_shape=record.dataset.image_shape)
        config, content = config_of(record, rules, info.label_names), run.read_weights(record)
    return Model(network(config, content, registry, machine.choose_device(device), any_source=any_source), config)


def trial(run: RunDirectory, variant: str, seed: int | None) -> TrialRecord:
    """Return the record of a trial of a run whose network is kept.

    Raises:
        AezooError: there is none.
    """
    by_variant = records_by_variant(run.load())
    name = find_variant(run.path, variant, by_variant)
    trained = [record for record in by_variant[name] if record.status == "ok"]
    chosen = [record for record in trained if seed in (None, record.seed)]
    if not chosen:
        which = "" if seed is None else f" seed {seed}"
        others = ", ".join(str(record.seed) for record in trained)
        raise AezooError(
            f"{run.path} has no trained {name}{which}" + (f"; there are seeds {others}" if others and which else "")
        )
    kept = [record for record in chosen if record.weights_sha256 is not None and run.keeps_weights(record)]
    if not kept:
        why = chosen[0].weights_missing or "they were dropped (--weights)"
        raise AezooError(f"{run.path} keeps no weights of {chosen[0].label}: {why}")
    return kept[0]


def network(
    config: ModelConfig, weights: bytes, registry: Registry, device: str, *, any_source: bool = False
) -> nn.Module:
    """Build a trained network on a device.

    Raises:
        AezooError: its plugin is not here, or another one now; or the weights do not fit.
    """
    registry = bring(registry, config.plugin, config.architecture, any_source=any_source)
    variant = registry.resolve(config.variant if "[" in config.variant else f"{config.variant}[]")
    plugin = registry.plugin(variant)
    if not any_source and not is_same(plugin, variant.architecture, config.plugin):
        raise AezooError(
            f"{config.variant} was trained with {config.plugin.distribution} {config.plugin.version}, but the code of "
            f"{plugin} is another ({plugin.source.source_sha256[:12]}, not {config.plugin.source_sha256[:12]}): "
            "install that one, or say that any will do (any_source=True, --any-source)"
        )
    chosen = find(variant.text, plugin.origin)
    try:
        blank = torch.zeros(1, dtype=torch.uint8).expand(2, *config.image_shape)
        module = lay_out(build(chosen, blank, config.seed, device), config.layout)
    except (RuntimeError, MemoryError) as error:
        raise AezooError(f"the network of {config.variant} cannot be built: {reason_of(error)}") from error
    unpack(weights, module)
    return module.eval()


def image_paths(places: Iterable[str | Path]) -> list[Path]:
    """Return the image files of paths: a file itself, and all within a folder, by name.

    Raises:
        AezooError: there is no such path, or no image in it.
    """
    paths: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise AezooError(f"no file or folder {place}")
        paths += [place / path for path in list_image_files(place)[0]] if place.is_dir() else [place]
    if not paths:
        raise AezooError("no images were given")
    return paths


def as_image(pixels_CHW: NDArray[np.floating[Any]]) -> "Image.Image":
    """Return a reconstruction as a picture, its numbers clipped to [0, 1]; of other channels than 1 or 3 their mean."""
    from PIL import Image

    pixels = np.rint(np.clip(np.nan_to_num(pixels_CHW), 0, 1) * 255).astype(np.uint8)
    shown = visible(pixels[None])[0].transpose(1, 2, 0)
    return Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown)
