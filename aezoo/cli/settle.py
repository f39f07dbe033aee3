"""The command that settles: seeds are added until the evidence decides."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aezoo.cli import complete
from aezoo.cli.app import BlockOption, DeviceOption, PluginOption, app, say
from aezoo.cli.bench import stop_at_signals
from aezoo.errors import AezooError


@app.command()
def settle(
    claims: Annotated[
        list[str],
        typer.Argument(metavar="CLAIM|RUN", help="'resnet < vit'; 'conv < mlp @16'; or a run, with --group"),
    ],
    group: Annotated[
        str | None, typer.Option(help="Settle what is undecided in this code group of RUN, such as 16.")
    ] = None,
    max_seeds: Annotated[int, typer.Option("--max-seeds", min=1, help="Seeds of each variant, at most.")] = 20,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin nothing that would end after so many.")] = None,
    margin: Annotated[float, typer.Option(metavar="PERCENT", help="Losses so close are the same.")] = 1.0,
    recipe: Annotated[
        str, typer.Option(autocompletion=complete.recipes, help="default, quick, large, or a TOML file.")
    ] = "default",
    dataset: Annotated[
        str | None,
        typer.Option(autocompletion=complete.datasets, help="A data set; `aezoo list --datasets` shows them."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    steps: Annotated[int | None, typer.Option(help="The budget in steps.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds to begin with.")] = None,
    device: DeviceOption = "auto",
    jobs: Annotated[int | None, typer.Option(help="Trials side by side.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Add seeds to a run until the evidence decides each claim, or a budget ends, and write a card.

    A claim comes out as better, worse, the same within the margin, or not decided. Looking often does not make it
    wrong: the error is spent over the looks.

    Example: aezoo settle 'residual_mlp < mlp @16' --minutes 5
    """
    from aezoo.cli.screen import console_on, observer_on
    from aezoo.contract.recipe import read_recipe
    from aezoo.harness import settle as settling

    if group is not None:
        if len(claims) != 1 or out is not None:
            raise AezooError("with --group give one run: aezoo settle RUN --group 16")
        given: dict[str, Any] = {"out": Path(claims[0]), "group": group}
        claims = []
    else:
        chosen = read_recipe(recipe).change(dataset=dataset, steps=steps, seeds=seeds)
        given = {"out": out, "recipe": chosen, "device": device}
    with observer_on(console_on(stderr=True)) as observer, stop_at_signals():
        card, run = settling.settle(
            claims,
            max_seeds=max_seeds,
            minutes=minutes,
            margin=margin,
            again=shlex.join(["aezoo", *sys.argv[1:]]),
            observer=observer,
            data_dir=data_dir,
            jobs=jobs,
            plugins=plugin or [],
            block=no_plugin or [],
            **given,
        )
    print(settling.text_of(card))
    say(f"run: {run}")
