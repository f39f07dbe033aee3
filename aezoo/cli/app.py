"""The command line's application, and what its commands share. Nothing heavy is imported before a command needs it."""

import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aezoo.cli import complete
from aezoo.errors import AezooError

if TYPE_CHECKING:
    from aezoo.contract.architecture import ImageShape
    from aezoo.registry.names import Registry

app = typer.Typer(
    name="aezoo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A zoo of autoencoders, and the harness that benchmarks them under identical settings. "
    "Try `aezoo bench --quick mlp conv`, then `aezoo bench --all`.",
)

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
    str, typer.Option("--format", help="rich, csv, json, or a format of tabulate: github, latex, html, simple, ...")
]

ImageShapeOption = Annotated[
    str | None, typer.Option("--image-shape", metavar="CxHxW", help="Channels, height, width, such as 3x64x64.")
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", autocompletion=complete.datasets, help="The image shape of a data set.")
]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where data sets are kept.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and name them.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aezoo {version('aezoo')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where an error would be one line.")] = False,
) -> None:
    """Options of every command."""


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
        print(f"warning: {notice}", file=sys.stderr)
    return registry
