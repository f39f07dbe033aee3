"""The commands that look closer: show and plugins at what there is; table and compare at runs, without torch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aezoo.cli import complete
from aezoo.cli.app import (
    SHAPE,
    BlockOption,
    DataDirOption,
    DatasetOption,
    FormatOption,
    ImageShapeOption,
    PluginOption,
    app,
    image_shape_of,
    registry_of,
)
from aezoo.errors import AezooError, reason_of

if TYPE_CHECKING:
    from aezoo.contract.architecture import Hyperparameter


@app.command()
def show(
    variant: Annotated[
        str, typer.Argument(autocompletion=complete.variants, help="such as mlp, or 'conv[latent_dim=16]'")
    ],
    image_shape: ImageShapeOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Show one variant: what it is, where it comes from, its hyperparameters, its network on images of a shape.

    Example: aezoo show 'conv[latent_dim=16]'
    """
    from aezoo.check.case import objective
    from aezoo.check.suite import sample_images
    from aezoo.contract.architecture import format_value
    from aezoo.contract.network import num_params
    from aezoo.registry.outside import extend
    from aezoo.train.build import build

    registry, texts = extend(registry_of(plugin, no_plugin), [variant])
    if len(texts) > 1:
        raise AezooError(f"{variant} contributes {', '.join(texts)}: give it with --plugin, and name one of them")
    chosen = registry.resolve(texts[0])
    architecture, owner = registry.architectures[chosen.label]
    shape = image_shape_of(image_shape, dataset, data_dir, registry) or SHAPE
    size = "x".join(map(str, shape))
    try:
        module = build(chosen, sample_images(shape, count=2), seed=0)
    except (Exception, SystemExit) as error:
        hint = "" if image_shape or dataset else "; give the shape that it takes with --image-shape"
        raise AezooError(f"{chosen.text} cannot be built for {size} images: {reason_of(error)}{hint}") from error
    typer.echo(f"{chosen.text}: {architecture.summary}")
    typer.echo(f"reference  {architecture.reference}")
    typer.echo(f"plugin     {owner.name} of {owner.distribution} {owner.version}")
    typer.echo(f"objective  {objective(module)}")
    typer.echo("hyperparameters")
    for hyperparameter in architecture.hyperparameters.values():
        value = format_value(chosen.hyperparameters[hyperparameter.name])
        typer.echo(
            f"  {hyperparameter.name} = {value}   ({hyperparameter.accepted}; default {_default(hyperparameter)})"
        )
    typer.echo("variants   " + "  ".join(variant.text for variant in registry.select([chosen.label])))
    typer.echo(f"on {size} images: {num_params(module):,} parameters")
    typer.echo(str(module))


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Show every plugin: where it comes from, what it contributes, and what is wrong with it.

    Exit status 1 where one was left out because it is broken. The variable AEZOO_NO_PLUGINS names plugins or
    distributions to be left out of every command.

    Example: aezoo plugins
    """
    from aezoo.cli.listing import print_rows
    from aezoo.contract.hooks import API_VERSION
    from aezoo.registry.outside import load_registry

    registry = load_registry(plugin or [], no_plugin or [])
    for notice in registry.notices:
        print(f"warning: {notice}", file=sys.stderr)
    entries: list[tuple[Any, str, list[str], str]] = [
        (
            plugin,
            "deprecated: " + "; ".join(plugin.warnings) if plugin.warnings else "ok",
            plugin.contributions,
            str(plugin.api or "-"),
        )
        for plugin in registry.plugins
    ]
    entries += [(plugin, plugin.reason, [], "-") for plugin in registry.blocked]
    entries += [(plugin, f"left out: {plugin.reason}", [], "-") for plugin in registry.broken]
    rows: list[dict[str, object]] = [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "place": plugin.place,
            "api": api,
            "contributes": contributions if as_json else ", ".join(contributions) or "nothing",
            "status": status,
        }
        for plugin, status, contributions, api in entries
    ]
    if rows:
        print_rows(rows, as_json=as_json)
    print(
        f"{len(registry.plugins)} plugins, {len(registry.blocked)} blocked, {len(registry.broken)} left out; "
        f"plugin API {API_VERSION}",
        file=sys.stderr,
    )
    if registry.broken:
        raise typer.Exit(1)


def _default(hyperparameter: "Hyperparameter") -> str:
    from aezoo.contract.architecture import format_value

    return "(required)" if hyperparameter.required else format_value(hyperparameter.default)


@app.command()
def table(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="a folder that `aezoo bench` wrote")
    ],
    fmt: FormatOption = "rich",
    sort: Annotated[str | None, typer.Option(autocompletion=complete.columns, help="A column to sort by.")] = None,
    view: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.views,
            help="group: by size of code; flat; rate: test_mse by latent_dim; tuning: lr tried.",
        ),
    ] = None,
) -> None:
    """Print the table of a run, derived anew from its records.

    Example: aezoo table results/my-run --format latex
    """
    from aezoo.cli.screen import print_run
    from aezoo.run.store import RunDirectory

    print_run(RunDirectory(run).load(), fmt, sort=sort, view=view)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...", autocompletion=complete.runs, help="the first is what the others are held to"
        ),
    ],
    fmt: FormatOption = "rich",
    fail_on: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, help="Exit status 3 where a loss is worse by more, by the evidence."),
    ] = None,
) -> None:
    """Hold runs against the first one; refuses runs that were made under different settings (exit status 3).

    Example: aezoo compare results/last-month results/today --fail-on 5
    """
    import pandas as pd

    from aezoo.cli.screen import print_table
    from aezoo.run.store import RunDirectory
    from aezoo.table import compare as comparison
    from aezoo.table.render import check_format

    check_format(fmt)
    if len(runs) < 2:
        raise AezooError("give two runs or more; the others are held to the first one")
    base, *others = (RunDirectory(path).load() for path in runs)
    compared = {other.path: comparison.compare(base, other) for other in others}
    whole = pd.concat(
        [compared_run.assign(run_b=str(path)) for path, compared_run in compared.items()], ignore_index=True
    )
    print_table(whole if len(others) > 1 else whole.drop(columns="run_b"), fmt)
    for other in others:
        for line in comparison.notes(base, other):
            print(line, file=sys.stderr)
    worse = (
        {}
        if fail_on is None
        else {p: comparison.regressions(compared_run, fail_on) for p, compared_run in compared.items()}
    )
    for path, variants in worse.items():
        for variant in variants:
            print(f"worse by more than {fail_on:g} %, or failed, in {path}: {variant}", file=sys.stderr)
    if any(worse.values()):
        raise typer.Exit(3)
