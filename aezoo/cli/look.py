"""The commands that read runs, and make tables, pages and one run of them; without torch."""

from pathlib import Path
from typing import Annotated

import typer

from aezoo.cli import complete
from aezoo.cli.app import (
    BlockOption,
    ColumnsOption,
    FormatOption,
    PluginOption,
    app,
    in_small_letters,
    listed,
    newest_run,
    registry_of,
    say,
)
from aezoo.errors import AezooError, counted

NAMED = 3
"""So many files that are no runs are named."""
RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN", autocompletion=complete.runs, help="folders that `aezoo bench` wrote"),
]
SomeRuns = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RUN", autocompletion=complete.runs,
        help="folders that `aezoo bench` wrote; by default the newest in results/",
    ),
]  # fmt: skip


@app.command()
def table(
    runs: SomeRuns = None,
    fmt: FormatOption = "rich",
    sort: Annotated[
        str | None, typer.Option(autocompletion=complete.columns, help="A column to sort by, the best first.")
    ] = None,
    columns: ColumnsOption = None,
    view: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.views,
            callback=in_small_letters,
            help="group: by size of code; flat; rate: test_mse by latent_dim; tuning: lr tried. Of several runs: mse; "
            "ratio: to the least of a group; vs_pca.",
        ),
    ] = None,
) -> None:
    """Print the table of a run, derived anew from its records.

    Of several runs it is a leaderboard over their data sets: the first run of each stands for it.

    Example: aezoo table results/my-run --format latex
    """
    from aezoo.cli.screen import Look, print_leaderboard, print_run
    from aezoo.run.store import RunDirectory

    directories = [RunDirectory(path) for path in _runs_among(runs or [newest_run()])]
    look = Look(fmt=fmt, view=view, sort=sort, columns=listed(columns))
    if len(directories) > 1:
        print_leaderboard(directories, look)
    else:
        print_run(directories[0].load(), look)


@app.command()
def report(
    runs: SomeRuns = None,
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

    Of several runs it is one page that compares them: a leaderboard over data sets, and each run against the first one
    of its data set.

    Example: aezoo report results/my-run
    """
    from aezoo.harness.report import report as write_page
    from aezoo.run.store import RunDirectory

    paths = _runs_among(runs or [newest_run()])
    if pictures is not None and len(paths) > 1:
        raise AezooError("--pictures are the charts of one run; give one")
    page, reason = write_page(paths, out, registry=lambda: registry_of(plugin, no_plugin), data_dir=data_dir)
    if reason:
        say(f"warning: {reason}")
    print(page)
    if pictures is not None:
        from aezoo.page.pictures import write

        for path in write(RunDirectory(paths[0]), pictures):
            print(path)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="that `aezoo bench` wrote")],
    target: Annotated[str, typer.Argument(metavar="NAME", help="of the files: docs/mine; docs/ is a folder for them")],
    beside: Annotated[
        Path | None,
        typer.Option(metavar="NAME", help="Of a tuned run: a published table at one learning rate, to be held beside."),
    ] = None,
) -> None:
    """Write what you publish of a run: NAME.md with its table in groups, its page, csv, and a picture.

    Example: aezoo publish results/my-run docs/mine
    """
    from aezoo.page.published import publish as write
    from aezoo.run.store import RunDirectory

    base = Path(target) / run.resolve().name if target.endswith("/") else Path(target)
    for path in write(RunDirectory(run), base, beside):
        print(path)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", autocompletion=complete.runs, help="the first is what the others are held to"),
    ],
    fmt: FormatOption = "rich",
    columns: ColumnsOption = None,
    fail_on: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, help="Exit status 3 where a loss is worse by more, by the evidence."),
    ] = None,
) -> None:
    """Hold runs against the first one; refuses runs that were made under different settings (exit status 3).

    Example: aezoo compare results/last-month results/today --fail-on 5
    """
    import pandas as pd

    from aezoo.cli.screen import Look, print_table
    from aezoo.run.store import RunDirectory
    from aezoo.table import compare as comparison
    from aezoo.table.formats import check_format

    check_format(fmt)
    if len(runs) < 2:
        raise AezooError("give two runs or more; the others are held to the first one")
    base, *others = (RunDirectory(path).load() for path in runs)
    compared = {other.path: comparison.compare(base, other) for other in others}
    whole = pd.concat(
        [compared_run.assign(run_b=str(path)) for path, compared_run in compared.items()], ignore_index=True
    )
    for path, compared_run in compared.items():
        say(f"{comparison.summary(compared_run)}; b: {path}")
    print_table(whole if len(others) > 1 else whole.drop(columns="run_b"), Look(fmt=fmt, columns=listed(columns)))
    for other in others:
        for line in comparison.notes(base, other):
            say(line)
    worse = (
        {}
        if fail_on is None
        else {p: comparison.regressions(compared_run, fail_on) for p, compared_run in compared.items()}
    )
    for path, variants in worse.items():
        for variant in variants:
            say(f"worse by more than {fail_on:g} %, or failed, in {path}: {variant}")
    if any(worse.values()):
        raise typer.Exit(3)


@app.command()
def merge(
    runs: RunsArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="The folder of the new run.")],
) -> None:
    """Make one run of several, whose settings agree and whose common trials came out alike; else exit status 3.

    Nothing of the runs is changed. At least one trained trial must be in both of two runs.

    Example: aezoo merge results/mine results/theirs -o results/ours
    """
    from aezoo.harness.merge import merge as merge_runs

    for line in merge_runs(runs, out):
        say(line)
    print(out)


@app.command()
def export_table(
    runs: RunsArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="A file that ends in .parquet, .csv or .json.")
    ],
    trials: Annotated[
        bool, typer.Option("--trials", help="A row for each trial, in the place of one a variant.")
    ] = False,
) -> None:
    """Write the tables of runs into one file for other programs: every digit and column, a row a variant and run.

    Example: aezoo export-table results/* -o all.parquet
    """
    from aezoo.run.store import RunDirectory
    from aezoo.table.export import export

    table = export([RunDirectory(path) for path in _runs_among(runs)], out, trials=trials)
    print(f"{counted(len(table), 'row')} of {len(table.columns)} columns in {out}")


def _runs_among(paths: list[Path]) -> list[Path]:
    """Return the runs among what a pattern such as results/* names, each once, and say what is none.

    Raises:
        AezooError: nothing is there, or none of it is a run.
    """
    from aezoo.run.store import RunDirectory

    if len(paths) == 1:
        return [RunDirectory(paths[0]).require().path]
    for path in paths:
        if not path.exists():
            raise AezooError(f"no run at {path}: nothing is there")
    runs = list({path.resolve(): path for path in reversed(paths) if RunDirectory(path).exists}.values())[::-1]
    others = [str(path) for path in paths if not RunDirectory(path).exists]
    if not runs:
        raise AezooError(
            f"no run among these {len(paths)} files and folders: none has a run.json; give folders that "
            "`aezoo bench` wrote"
        )
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        say(f"left out, since it has no run.json: {', '.join(others[:NAMED])}{more}")
    return runs
