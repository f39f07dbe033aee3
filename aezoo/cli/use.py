"""The commands that use a trained network, of a run or of an exported folder: reconstruct, encode, score and export."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aezoo.cli import complete
from aezoo.cli.app import BlockOption, DataDirOption, FormatOption, PluginOption, app
from aezoo.errors import AezooError, plain

if TYPE_CHECKING:
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
    typer.Argument(metavar="[VARIANT] PATH...", help="of a run, a variant first; then images, or folders of images"),
]
SeedOption = Annotated[int | None, typer.Option(help="Of a run: from which seed; by default the first.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AnyOption = Annotated[
    bool, typer.Option("--any-source", help="Also where the plugin's code is another than it was trained with.")
]


@app.command()
def reconstruct(
    model: ModelArgument,
    rest: RestArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the reconstructions, a PNG each.")],
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

    network, places = _open(model, rest, seed, device, any_source, plugin, no_plugin)
    paths, names = _images(places)
    clipped = 0.0
    with _progress("reconstructing", len(paths)) as advance:
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            images = network.reconstruct(batch)
            clipped += float(np.mean((images < -0.5 / 255) | (images > 1 + 0.5 / 255))) * len(batch)
            for name, image in zip(names[start : start + BATCH], images, strict=True):
                target = (out / name).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                as_image(image).save(target)
            advance(len(batch))
    share = f"; {clipped / len(paths):.2%} of the numbers lie outside [0, 1], and are clipped" if clipped else ""
    print(f"{len(paths)} images in {out}{share}")


@app.command()
def encode(
    model: ModelArgument,
    rest: RestArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="latents.npz or latents.parquet")],
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
    paths, names = _images(places)
    parts = []
    with _progress("encoding", len(paths)) as advance:
        for start in range(0, len(paths), BATCH):
            parts.append(network.encode(paths[start : start + BATCH]))
            advance(len(paths[start : start + BATCH]))
    latents = np.concatenate(parts)
    _write_latents(out, latents, names)
    print(f"{len(latents)} latents of {'x'.join(map(str, latents.shape[1:]))} in {out}")


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
    from aezoo.cli.screen import print_table
    from aezoo.harness import scoring
    from aezoo.run.files import write_text
    from aezoo.table.render import check_format, render

    check_format(fmt)
    network, places = _open(model, rest, seed, device, any_source, plugin, no_plugin)
    try:
        network = scoring.with_errors(network, registry_of(plugin, no_plugin), data_dir)
    except AezooError as error:
        print(f"warning: no percentiles: {error}", file=sys.stderr)
    paths, names = _images(places)
    labels = [Path(name).parts[0] if len(Path(name).parts) > 1 else None for name in names]
    tables = []
    with _progress("scoring", len(paths)) as advance:
        for start in range(0, len(paths), BATCH):
            end = start + BATCH
            tables.append(scoring.score(network, paths[start:end], labels[start:end]))
            advance(len(paths[start:end]))
    table = pd.concat(tables, ignore_index=True).assign(path=names)
    if out is not None:
        write_text(out, render(table, "csv"))
    worst = table.sort_values("mse", ascending=False, ignore_index=True)
    print_table(worst if fmt in ("csv", "json") else worst.head(LISTED), fmt)
    if len(worst) > LISTED and fmt not in ("csv", "json"):
        print(f"the worst {LISTED} of {len(worst)}; --out writes all of them")
    if normal is not None:
        wanted = [name.strip() for name in normal.split(",")]
        unknown = [name for name in wanted if name not in labels]
        if unknown:
            there = ", ".join(sorted({label for label in labels if label})) or "none: give a folder of folders"
            raise AezooError(f"no label {unknown[0]!r} among the images; there are {there}")
        abnormal = np.asarray([label not in wanted for label in labels])
        area = scoring.auc(table["mse"].to_numpy(), abnormal)
        print(f"AUC {area:.4f}: {int(abnormal.sum())} abnormal against {int((~abnormal).sum())} normal images")


@app.command()
def export(
    model: ModelArgument,
    variant: Annotated[str | None, typer.Argument(metavar="[VARIANT]", help="of a run")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder.")] = Path("model"),
    fmt: Annotated[str, typer.Option("--format", help="folder; or with graphs in it: onnx or pt2.")] = "folder",
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
        print(f"warning: no percentiles in it: {error}", file=sys.stderr)
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
    if not exported and not rest:
        shown = shlex.join(["aezoo", "table", str(source)])
        raise AezooError(f"{source} is a run: say which variant of it; `{shown}` shows them")
    network = load(
        source, None if exported else rest[0], seed, device=device, any_source=any_source, plugins=plugin or [],
        block=no_plugin or [],
    )  # fmt: skip
    return network, list(rest if exported else rest[1:])


def _images(places: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the images of paths, and what each is called: within its folder, or by its own name."""
    from aezoo.harness.model import image_paths

    paths: list[Path] = []
    names: list[str] = []
    for place in map(Path, places):
        inside = image_paths([place])
        paths += inside
        names += [str(path.relative_to(place)) if place.is_dir() else path.name for path in inside]
    if not paths:
        raise AezooError("give images: files, or folders of them")
    return paths, names


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a command is, on a terminal; yield what takes how many images are done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(plain(what), total=total)
        yield lambda count: progress.advance(task, count)
