"""The command line's application, and what its commands share. Nothing heavy is imported before a command needs it."""

import contextlib
import os
import re
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from aezoo.cli import complete
from aezoo.errors import AezooError, plain

if TYPE_CHECKING:
    from aezoo.contract.architecture import ImageShape
    from aezoo.registry.names import Registry

app = typer.Typer(
    name="aezoo",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A zoo of autoencoders, and the harness that benchmarks them under identical settings. "
    "Try `aezoo bench mlp --seeds 1`, which takes a minute, then `aezoo bench --all`.",
)


def in_small_letters(text: str | None) -> str | None:
    """Return what is given to an option whose values have no capitals, which do not matter then."""
    return None if text is None else text.lower()


SHAPE = (1, 28, 28)
"""The image shape of what depends on one, where none is given: MNIST's."""
PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE|MODULE", help="Also a plugin that is not installed; may be repeated."),
]
BlockOption = Annotated[
    list[str] | None,
    typer.Option("--no-plugin", metavar="NAME", help="Without this plugin or distribution; may be repeated."),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        callback=in_small_letters,
        help="rich, csv, json, or a format of tabulate: github, latex, html, simple, ...",
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...", autocompletion=complete.some_columns, help="The columns to show, after the variant, or all."
    ),
]
ImageShapeOption = Annotated[
    str | None, typer.Option("--image-shape", metavar="CxHxW", help="Channels, height, width, such as 3x64x64.")
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", autocompletion=complete.datasets, help="The image shape of a data set.")
]
DeviceOption = Annotated[str, typer.Option(callback=in_small_letters, help="auto, cpu, cuda or mps.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where data sets are kept.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and name them.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aezoo {version('aezoo')}")
        raise typer.Exit


def help_where_alone(context: typer.Context) -> None:
    """Print the help of a command that has others below it, where none of these is called."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.callback()
def _options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where an error would be one line.")] = False,
) -> None:
    """Options of every command."""
    help_where_alone(context)


@app.command("help", hidden=True)
def help_(words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND")] = None) -> None:
    """Show the help of a command, as -h behind it does."""
    app([*(words or []), "--help"], prog_name="aezoo", standalone_mode=False)


def listed(text: str | None) -> list[str] | None:
    """Return what an option lists with commas between; None where it is not given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line beside what was asked for, on standard error, or on another stream; wrapped on a terminal at words.

    What it prints has no control characters.
    """
    stream = stream or sys.stderr
    text = plain(text)
    with contextlib.suppress(OSError):
        # In the order in which they were printed; what is wrong with standard output shows when it is closed.
        sys.stdout.flush()
    if stream.isatty():
        with contextlib.suppress(OSError):
            width = os.get_terminal_size(stream.fileno()).columns or 80
            text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    print(text, file=stream)


def newest_run() -> Path:
    """Return the run in the folder of runs that a bench wrote to last, and say on standard error which it is.

    Raises:
        AezooError: there is none.
    """
    runs = {
        path.parent: max(each.stat().st_mtime for each in _kept_in(path)) for path in Path().glob("results/*/run.json")
    }
    if not runs:
        raise AezooError("no run in results/, where `aezoo bench` writes: give the folder of a run")
    run = max(runs, key=lambda path: runs[path])
    say(f"the newest run: {run}")
    return run


def _kept_in(info: Path) -> list[Path]:
    """Return what changes whenever a bench writes to the run of a run.json."""
    return [info, *filter(Path.is_dir, [info.with_name("trials"), info.with_name("timings")])]


def image_shape_of(
    image_shape: str | None, dataset: str | None, data_dir: Path | None, registry: "Registry"
) -> "ImageShape | None":
    """Return the image shape that the options give, (channels, height, width), or None where they give none.

    Raises:
        AezooError: they give two, or what is none.
    """
    if image_shape is not None and dataset is not None:
        raise AezooError("--image-shape and --dataset both give an image shape; give one of them")
    if dataset is not None:
        from aezoo.contract.dataset import find_data_dir

        return registry.dataset(dataset).checked(find_data_dir(data_dir)).shape
    return None if image_shape is None else parse_image_shape(image_shape)


def parse_image_shape(text: str) -> "ImageShape":
    """Return (channels, height, width) of a text such as ``3x64x64``.

    Raises:
        AezooError: it is none.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,5}(x[1-9][0-9]{0,5}){2}", text.lower()):
        raise AezooError(
            f"--image-shape takes channels, height and width with an x between, such as 3x64x64, but got {text!r}"
        )
    channels, height, width = map(int, text.lower().split("x"))
    return channels, height, width


def registry_of(plugins: list[str] | None, block: list[str] | None) -> "Registry":
    """Return what is installed and what is named, and say on standard error what is wrong with it."""
    from aezoo.registry.outside import load_registry

    registry = load_registry(plugins or [], block or [])
    for notice in registry.warnings:
        say(f"warning: {notice}")
    return registry
