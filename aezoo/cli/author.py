"""The commands for authors of plugins: check and new-plugin."""

import json
from pathlib import Path
from typing import Annotated

import typer

from aezoo.cli.app import BlockOption, PluginOption, app, registry_of


@app.command()
def check(
    names: Annotated[
        list[str],
        typer.Argument(metavar="ARCHITECTURE|DISTRIBUTION|FILE.py...", help="mlp, 'conv*', aezoo, ./my_model.py"),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Hold architectures to the contract, on images of several shapes; exit status 1 where a check fails.

    Example: aezoo check mlp
    """
    from aezoo.check.card import check as check_all
    from aezoo.registry.outside import extend
    from aezoo.text import plain

    registry, texts = extend(registry_of(plugin, no_plugin), names)
    cards = check_all(texts, registry)
    if as_json:
        print(json.dumps([card.to_json() for card in cards], indent=1))
    else:
        print("\n\n".join("\n".join(map(plain, card.lines())) for card in cards))
    if any(card.failures for card in cards):
        raise typer.Exit(1)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The architecture's name; the distribution is called aezoo-NAME.")],
    folder: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where the distribution's folder goes.")] = Path(),
) -> None:
    """Write a plugin that works as it stands: a distribution with an architecture, tests, a README and CI.

    Example: aezoo new-plugin tiny
    """
    from aezoo.cli.scaffold import new_plugin as write

    path = write(name, folder, registry_of(None, None))
    typer.echo(f"wrote {path}: change build in {path / f'aezoo_{name}.py'}")
    typer.echo(f"next: pip install -e '{path}[test]' && aezoo check {name} && aezoo bench {name} mlp conv")
