"""The commands that use a trained network, of a run or of an exported folder: reconstruct, encode, score and export."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aezoo.cli import complete
from aezoo.cli.app import (
    BlockOption,
    DataDirOption,
    DeviceOption,
    FormatOption,
    PluginOption,
    SkipOption,
    app,
    in_small_letters,
    say,
)
from aezoo.errors import AezooError, counted, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aezoo.harness.model import Model

LISTED = 20
"""Images whose scores a terminal shows, at the most."""
BATCH = 128
"""Images between two looks at the progress."""
ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|FOLDER", autocompletion=complete.runs,
        help="a folder that `aezoo bench` wrote, or that `aezoo export` wrote",
    ),
]  # fmt: skip
RestArgument = Annotated[
    list[str],
    typer.Argument(metavar="[VARIANT] PATH", help="of a run, a variant first; then images, or folders of images"),
]
SeedOption = Annotated[int | None, typer.Option(help="Of a run: from which seed; by default the first.")]
AnyOption = Annotated[
    bool, typer.Option("--any-source", help="Also where the plugin's code is another than it was trained with.")
]


@app.command()
def reconstruct(
    model: ModelArgument,
    rest: RestArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the reconstructions, a PNG each.")],
    skip_bad: SkipOption = False,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    any_source: AnyOption = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Reconstruct images of yours by a trained network, a PNG file each.

    Example: aezoo reconstruct results/my-run 'conv[latent_dim=16]' ./photos -o seen
    """
    import numpy as np

    from aezoo.harness.model import as_image
    from aezoo.run.files import new_files
    from aezoo.train.samples import HALF_A_BYTE

    network, places = _open(model, rest, seed, device, any_source, plugin, no_plugin)
    given = _files(places)
    targets = _as_png([file.name for file in given])
    count, clipped = 0, 0.0
    with new_files(out) as folder:
        for files, pixels in _batches(network, given, "reconstructing", skip_bad=skip_bad):
            images = network.reconstruct(pixels)
            clipped += float(np.mean((images < -HALF_A_BYTE) | (images > 1 + HALF_A_BYTE))) * len(images)
            count += len(images)
            for file, image in zip(files, images, strict=True):
                target = folder / targets[file.name]
                target.parent.mkdir(parents=True, exist_ok=True)
                as_image(image).save(target)
    share = f"; {clipped / count:.2%} of the numbers lie outside [0, 1], and are clipped" if clipped else ""
    print(f"{counted(count, 'image')} in {out}{share}")


@app.command()
def encode(
    model: ModelArgument,
    rest: RestArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="latents.npz or latents.parquet")],
    skip_bad: SkipOption = False,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    any_source: AnyOption = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Encode images of yours by a trained network: their latents, as npz or parquet.

    Example: aezoo encode results/my-run 'conv[latent_dim=16]' ./photos -o latents.npz
    """
    import numpy as np

    if out.suffix.lower() not in (".npz", ".parquet"):
        raise AezooError(f"--out takes a file that ends in .npz or .parquet, but got {out}")
    network, places = _open(model, rest, seed, device, any_source, plugin, no_plugin)
    names, parts = [], []
    for files, pixels in _batches(network, _files(places), "encoding", skip_bad=skip_bad):
        names += [file.name for file in files]
        parts.append(network.encode(pixels))
    latents = np.concatenate(parts)
    _write_latents(out, latents, names)
    print(f"{counted(len(latents), 'latent')} of {'x'.join(map(str, latents.shape[1:]))} in {out}")


def _write_latents(out: Path, latents: Any, names: Sequence[str]) -> None:
    import io

    import numpy as np
    import pandas as pd

    from aezoo.run.files import write_bytes

    content = io.BytesIO()
    if out.suffix.lower() == ".npz":
        np.savez(content, latents=latents, paths=np.asarray(names, dtype=str))
    else:
        flat = latents.reshape(len(latents), -1)
        frame = pd.DataFrame(flat, columns=[f"z{number}" for number in range(flat.shape[1])])
        frame.insert(0, "path", list(names))
        try:
            frame.to_parquet(content)
        except ImportError as error:
            raise AezooError(
                "pyarrow writes parquet files, and is not installed: pip install 'aezoo[parquet]'"
            ) from error
    write_bytes(out, content.getvalue())


@app.command()
def score(
    model: ModelArgument,
    rest: RestArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also a file: scores.csv.")] = None,
    normal: Annotated[
        str | None, typer.Option(metavar="LABEL,...", help="The labels, which are folders, that are normal: an AUC.")
    ] = None,
    skip_bad: SkipOption = False,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    any_source: AnyOption = False,
    data_dir: DataDirOption = None,
    fmt: FormatOption = "rich",
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Say how well images of yours are reconstructed: each one's error, and its percentile among those of the data.

    Example: aezoo score results/my-run 'conv[latent_dim=16]' ./parts --normal good
    """
    import numpy as np
    import pandas as pd

    from aezoo.cli.app import registry_of
    from aezoo.cli.screen import Look, print_table
    from aezoo.harness import scoring
    from aezoo.run.files import write_text
    from aezoo.table.formats import check_format
    from aezoo.table.render import render

    check_format(fmt)
    network, places = _open(model, rest, seed, device, any_source, plugin, no_plugin)
    try:
        network = scoring.with_errors(network, registry_of(plugin, no_plugin), data_dir)
    except AezooError as error:
        say(f"warning: no percentiles: {error}")
    given = _files(places)
    labels = {_label(file) for file in given}
    wanted = [name.strip() for name in normal.split(",")] if normal is not None else []
    unknown = [name for name in wanted if name not in labels]
    if unknown:
        there = ", ".join(sorted(labels))
        raise AezooError(f"no label {unknown[0]!r}, which is a folder, among the images; there are {there}")
    tables = []
    for files, pixels in _batches(network, given, "scoring", skip_bad=skip_bad):
        table = scoring.score(network, pixels)
        table.insert(0, "path", [file.name for file in files])
        if len(labels) > 1:
            table.insert(1, "label", [_label(file) for file in files])
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    if out is not None:
        write_text(out, render(table, "csv"))
    worst = table.sort_values("mse", ascending=False, ignore_index=True)
    print_table(worst if fmt in ("csv", "json") else worst.head(LISTED), Look(fmt=fmt))
    if len(worst) > LISTED and fmt not in ("csv", "json"):
        print(f"the worst {LISTED} of {len(worst)}; --out writes all of them")
    if wanted:
        if len(labels) == 1:
            raise AezooError(f"an AUC is of normal and of abnormal images, but all are {normal}")
        abnormal = np.asarray(~table["label"].isin(wanted))
        area = scoring.auc(table["mse"].to_numpy(), abnormal)
        print(f"AUC {area:.4f}: {int(abnormal.sum())} abnormal against {int((~abnormal).sum())} normal images")


@app.command()
def export(
    model: ModelArgument,
    variant: Annotated[str | None, typer.Argument(metavar="VARIANT", help="of a run")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder.")] = Path("model"),
    fmt: Annotated[
        str, typer.Option("--format", callback=in_small_letters, help="folder; or with graphs in it: onnx or pt2.")
    ] = "folder",
    seed: SeedOption = None,
    any_source: AnyOption = False,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Take a trained network home: a folder that stands alone, or a graph that needs no aezoo.

    Example: aezoo export results/my-run 'conv[latent_dim=16]' -o my-model
    """
    from aezoo.cli.app import registry_of
    from aezoo.harness import graphs as graphing
    from aezoo.harness import scoring
    from aezoo.harness.export import export_folder

    if fmt not in ("folder", "onnx", "pt2"):
        raise AezooError(f"--format takes folder, onnx or pt2, but got {fmt!r}")
    network, _ = _open(model, [variant] if variant else [], seed, "cpu", any_source, plugin, no_plugin)
    try:
        network = scoring.with_errors(network, registry_of(plugin, no_plugin), data_dir)
    except AezooError as error:
        say(f"warning: no percentiles in it: {error}")
    graphs = None if fmt == "folder" else graphing.export(network, "onnx" if fmt == "onnx" else "pt2")
    print(export_folder(network, out, model, graphs))
    if graphs is not None:
        for name, difference in graphs.differences.items():
            print(f"{out / name}.{fmt}: at most {difference:.2g} from the network")
        if graphs.reason is not None:
            raise AezooError(f"{out} holds no {fmt}: {graphs.reason}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="that `aezoo export` wrote")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="on the Hugging Face hub")],
    private: Annotated[bool, typer.Option("--private", help="Where it is made: for you alone.")] = False,
) -> None:
    """Upload an exported network to the Hugging Face hub, with the token that `hf auth login` keeps.

    Example: aezoo push my-model me/my-autoencoder
    """
    from aezoo.harness.hub import push as upload

    print(upload(folder, repository, private=private))


def _open(
    source: Path, rest: Sequence[str], seed: int | None, device: str, any_source: bool,
    plugin: list[str] | None, no_plugin: list[str] | None,
) -> "tuple[Model, list[str]]":  # fmt: skip
    """Return the network, and what is left of the arguments when its variant is taken."""
    from aezoo.harness.model import load
    from aezoo.run.model import CONFIG

    exported = (source / CONFIG).is_file()
    variant = None if exported or not rest else rest[0]
    network = load(
        source, variant, seed, device=device, any_source=any_source, plugins=plugin or [], block=no_plugin or []
    )
    return network, list(rest if exported else rest[1:])


def _label(file: "ImageFile") -> str:
    return file.path.absolute().parent.name


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image file, and what it is called: within the folder that was given, or by its own name."""

    path: Path
    name: str


def _batches(
    network: "Model", files: Sequence[ImageFile], what: str, *, skip_bad: bool
) -> "Iterator[tuple[list[ImageFile], NDArray[np.uint8]]]":
    """Yield image files, a batch of them at a time, with their pixels, and show how far it is.

    Raises:
        AezooError: one cannot be decoded, and is not to be left out; or none is left.
    """
    left_out = resized = recoloured = 0
    with _progress(what, len(files)) as advance:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            read = network.read_files([file.path for file in batch])
            for place, reason in read.bad.items():
                line = f"{batch[place].path}: {reason}"
                if not skip_bad:
                    raise AezooError(f"{line}; --skip-bad leaves out all that cannot be read")
                say(f"left out: {line}")
            left_out += len(read.bad)
            resized += read.resized
            recoloured += read.recoloured
            if len(read.pixels):
                yield [file for place, file in enumerate(batch) if place not in read.bad], read.pixels
            advance(len(batch))
    if left_out == len(files):
        raise AezooError("no image is left: none of them can be read")
    rules = network.preprocessing
    shape = "x".join(map(str, rules.image_shape))
    for count, done in (
        (left_out, "left out"),
        (resized, f"of another size, made {shape} (fit={rules.fit})"),
        (recoloured, f"in {'colour, made grey' if rules.image_shape[0] == 1 else 'grey, made colour'}"),
    ):
        if count:
            say(f"{counted(count, 'file', len(files))} {done}")


def _files(places: Sequence[str]) -> list[ImageFile]:
    """Return the image files of paths.

    Raises:
        AezooError: there are none, or two would have one name.
    """
    from aezoo.harness.model import image_paths

    if not places:
        raise AezooError("give images: files, or folders of them")
    files: dict[str, ImageFile] = {}
    for place in map(Path, places):
        if place.suffix.lower() in (".npy", ".npz", ".csv", ".parquet"):
            raise AezooError(f"{place} is no image; arrays and rows go through aezoo.load(...), in Python")
        for path in image_paths([place]):
            file = ImageFile(path=path, name=str(path.relative_to(place)) if place.is_dir() else path.name)
            other = files.setdefault(file.name, file)
            if other is not file:
                raise AezooError(f"{other.path} and {path} would both be called {file.name}: give them one at a time")
    return list(files.values())


def _as_png(names: Sequence[str]) -> dict[str, Path]:
    """Return where the PNG file of each image goes; those that differ in their endings alone keep them."""
    counts = Counter(Path(name).with_suffix(".png") for name in names)
    return {
        name: target if counts[target := Path(name).with_suffix(".png")] == 1 else Path(f"{name}.png") for name in names
    }


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a command is, on a terminal; yield what takes how many images are done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(plain(what), total=total)
        yield lambda count: progress.advance(task, count)
