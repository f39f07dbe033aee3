"""The command line's application, and what its commands share. Nothing heavy is imported before a command needs it."""

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aezoo.registry.names import Registry

app = typer.Typer(
    name="aezoo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A zoo of autoencoders, and the harness that benchmarks them under identical settings. "
    "Try `aezoo bench --quick mlp conv`, then `aezoo bench --all`.",
)

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


def _version(asked: bool) -> None:
    if asked:
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


def registry_of(plugins: list[str] | None, block: list[str] | None) -> "Registry":
    """Return what is installed and what is named, and say on standard error what is wrong with it."""
    from aezoo.registry.outside import load_registry

    registry = load_registry(plugins or [], block or [])
    for told in registry.warnings:
        print(f"warning: {told}", file=sys.stderr)
    return registry
