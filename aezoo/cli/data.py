"""The commands about data: what is in a data set and what is wrong with it, and its images prepared."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aezoo.cli import complete
from aezoo.cli.app import BlockOption, DataDirOption, PluginOption, SkipOption, app, help_where_alone, registry_of, say
from aezoo.errors import DamagedDataError, duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aezoo.contract.dataset import DatasetVariant
    from aezoo.run.records import PluginSource
    from aezoo.run.survey import Survey

data = typer.Typer(
    invoke_without_command=True, callback=help_where_alone, rich_markup_mode=None,
    help="Check, prepare and show data sets, yours among them.",
)  # fmt: skip
app.add_typer(data, name="data")
LISTED = 20
"""Groups of duplicates that are printed, at the most."""
DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET|PATH", autocompletion=complete.datasets,
        help="mnist-5k, ./photos, ./x.npz, 'images[path=photos,size=64]'",
    ),
]  # fmt: skip


@data.command()
def check(
    dataset: DatasetArgument,
    skip_bad: SkipOption = False,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Say what is in a data set, and name all that is wrong with it: exit status 1 where something is.

    Example: aezoo data check ./photos
    """
    from aezoo.errors import counted

    try:
        survey = _survey(dataset, skip_bad, data_dir, plugin, no_plugin)
    except DamagedDataError as error:
        for name, reason in error.problems:
            print(plain(f"{name}: {reason}"))
        bad = counted(len(error.problems), "file")
        say(f"warning: {bad} cannot be decoded; --skip-bad (skip_bad=true) leaves them out")
        raise typer.Exit(1) from error
    print(plain(survey.name))
    for line in survey.images.notes:
        print(plain(line))
    for part in survey.parts:
        mean, deviation = (", ".join(f"{value:.3f}" for value in each) for each in (part.mean, part.deviation))
        labels = f"; {len(part.labels)} labels" if part.labels else ""
        shape = "x".join(map(str, survey.images.shape))
        print(f"{part.name}: {part.count:,} images of {shape}, mean {mean}, deviation {deviation}{labels}")
    print(f"pixels: {survey.sha256}")
    _print_duplicates(survey)
    warnings = [*survey.warnings]
    if survey.across:
        warnings.append(f"{counted(len(survey.across), 'image')} on both sides of the split")
    for warning in warnings:
        say(f"warning: {warning}")
    if warnings:
        raise typer.Exit(1)


def _print_duplicates(survey: "Survey") -> None:
    """Name the images that are on both sides of the split, and count those that are there twice in a part."""
    from aezoo.errors import counted

    for group in survey.across[:LISTED]:
        print(plain(f"equal: {' = '.join(f'{part} {name}' for part, name in group)}"))
    if len(survey.across) > LISTED:
        print(f"and {len(survey.across) - LISTED} more")
    within = len(survey.duplicates) - len(survey.across)
    if within:
        print(f"{counted(within, 'image')} more than once in a part")


@data.command()
def prepare(
    dataset: DatasetArgument,
    skip_bad: SkipOption = False,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Decode a data set into the cache, so that a bench on it starts at once.

    Example: aezoo data prepare ./photos
    """
    from aezoo.contract.dataset import find_data_dir
    from aezoo.harness.prepare import prepared

    variant, source = _named(dataset, skip_bad, plugin, no_plugin)
    started = time.monotonic()
    with prepared(variant, find_data_dir(data_dir), source, tell=_tell) as ready:
        _tell(ready.lines)
        size = ready.shared.path.stat().st_size
        place = (
            f"in {ready.shared.path}" if ready.kept else "and is loaded anew each time: it keeps nothing in the cache"
        )
    took = duration(time.monotonic() - started)
    print(f"{variant.text}: {size / 1e6:,.1f} MB, pixels {ready.facts.sha256[:12]}, ready in {took}, {place}")


@data.command()
def show(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("data.html"),
    skip_bad: SkipOption = False,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Write a page about a data set: some of its images, statistics, labels, duplicates.

    Example: aezoo data show ./photos -o photos.html
    """
    from aezoo.page.data import write

    print(write(_survey(dataset, skip_bad, data_dir, plugin, no_plugin), out))


def _survey(
    dataset: str, skip_bad: bool, data_dir: Path | None, plugin: list[str] | None, no_plugin: list[str] | None
) -> "Survey":
    from aezoo.contract.dataset import find_data_dir
    from aezoo.harness.prepare import prepared
    from aezoo.run.survey import survey

    variant, source = _named(dataset, skip_bad, plugin, no_plugin)
    with (
        prepared(variant, find_data_dir(data_dir), source, tell=_tell) as ready,
        ready.shared.path.open("rb", buffering=0) as file,
    ):
        return survey(variant.text, ready.images(file), ready.facts.sha256, ready.facts.warnings)


def _named(
    dataset: str, skip_bad: bool, plugin: list[str] | None, no_plugin: list[str] | None
) -> "tuple[DatasetVariant, PluginSource]":
    """Return a data set, and the source of its plugin.

    Raises:
        AezooError: there is none, or it has no files to leave out.
    """
    registry = registry_of(plugin, no_plugin)
    variant = registry.dataset(dataset)
    return (variant.skipping() if skip_bad else variant), registry.dataset_plugin(dataset).source


def _tell(lines: "Sequence[str]") -> None:
    for line in lines:
        say(line)
