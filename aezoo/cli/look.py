"""The commands that read runs, table and compare; without torch."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from aezoo.cli import complete
from aezoo.cli.app import BlockOption, FormatOption, PluginOption, app, registry_of
from aezoo.errors import AezooError


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
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", autocompletion=complete.runs, help="folders that `aezoo bench` wrote"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="The page's file; RUN/report.html, or of several compared.html."
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each chart there too, as SVG and PNG.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Write the page of a run: one file that opens offline and shows what each variant does to images.

    Of several runs it is one page that compares them: each against the first one, and variants over data sets.

    Example: aezoo report results/my-run
    """
    from aezoo.harness.report import report as write_page
    from aezoo.run.store import RunDirectory

    if pictures is not None and len(runs) > 1:
        raise AezooError("--pictures are the charts of one run; give one")
    page, reason = write_page(runs, out, registry=lambda: registry_of(plugin, no_plugin), data_dir=data_dir)
    if reason:
        print(f"warning: {reason}", file=sys.stderr)
    print(page)
    if pictures is not None:
        from aezoo.page.pictures import write

        for path in write(RunDirectory(runs[0]), pictures):
            print(path)


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
    for path, compared_run in compared.items():
        print(f"{comparison.summary(compared_run)}; b: {path}", file=sys.stderr)
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
