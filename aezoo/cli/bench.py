"""The commands that train: bench, status of what was trained, and reproduce."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aezoo.cli import complete
from aezoo.cli.app import (
    BlockOption,
    ColumnsOption,
    DeviceOption,
    FormatOption,
    PluginOption,
    SkipOption,
    app,
    in_small_letters,
    listed,
    newest_run,
    registry_of,
    say,
)
from aezoo.cli.checks import check_names, check_request
from aezoo.errors import AezooError, counted, spelled

if TYPE_CHECKING:
    from aezoo.contract.recipe import Recipe


@app.command()
def bench(
    variants: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VARIANT|PATTERN|FILE.py|MODULE:NAME",
            autocompletion=complete.variants,
            help="mlp, 'conv*', 'conv[latent_dim=16]', ./my_model.py, my_package.models:build",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All declared variants of all architectures.")] = False,
    recipe: Annotated[
        str | None, typer.Option(autocompletion=complete.recipes, help="default, quick, tuned, large, or a TOML file.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test of 100 steps: --recipe quick.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(autocompletion=complete.datasets, help="A data set; `aezoo list --datasets` shows them."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    device: DeviceOption = "auto",
    latent_dim: Annotated[str | None, typer.Option(help="Bottlenecks in place of the declared ones: 2,8,32")] = None,
    match_params: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Choose each width for so many parameters: 200k, 1.5M.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1 of every variant.")] = None,
    steps: Annotated[int | None, typer.Option(help="The budget in steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[
        str | None, typer.Option(metavar="RATE,...", help="The learning rate; of several, each variant's own best.")
    ] = None,
    precision: Annotated[str | None, typer.Option(callback=in_small_letters, help="float32, tf32 or bfloat16.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.metrics,
            help="Columns beside the score: psnr,ssim; `aezoo list --metrics` shows them.",
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Trials side by side; a loss does not depend on it.")] = None,
    executor: Annotated[
        str,
        typer.Option(
            autocompletion=complete.executors, help="How trials are run; `aezoo list --executors` shows the ways."
        ),
    ] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="auto|HOST:PORT", help="The cluster of --executor ray; or RAY_ADDRESS.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of a trial on a CPU; recorded, as it can move a loss.")] = 1,
    processes_per_trial: Annotated[
        int, typer.Option(metavar="N", help="Processes of a trial, each with its part of every batch; recorded.")
    ] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Run steps through torch.compile; recorded.")] = False,
    seeds_together: Annotated[
        int,
        typer.Option(
            metavar="N", help="Seeds of a variant that train at the same time, on an NVIDIA device, where they can."
        ),
    ] = 1,
    no_graphs: Annotated[
        bool, typer.Option("--no-graphs", help="On an NVIDIA device, take each step on its own, in no CUDA graph.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a trial's process is killed.")] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="How often a trial keeps what it goes on from when it is killed."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    weights: Annotated[
        str,
        typer.Option(
            callback=in_small_letters,
            help="Whose weights are kept: all, the best seed's of each variant (best), or none.",
        ),
    ] = "all",
    skip_bad: SkipOption = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the row of an edited model beside its new one.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Measure no throughput at the end.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A plugin that is broken or deprecated is an error.")
    ] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try each variant, say what would run, stop.")] = False,
    fmt: FormatOption = "rich",
    columns: ColumnsOption = None,
) -> None:
    """Train, score and time variants under identical settings, and print the table.

    The same command on the same folder goes on where it stopped, and trains nothing twice.

    Example: aezoo bench mlp 'conv[latent_dim=16]' --seeds 1
    """
    check_names([] if plugin else variants or [])
    from aezoo.contract.recipe import BUILT_IN, read_recipe
    from aezoo.harness.request import Request

    if quick and spelled(recipe or "quick", BUILT_IN) != "quick":
        raise AezooError(f"--quick is --recipe quick, but --recipe {recipe} was given too; give one of them")
    read = read_recipe("quick" if quick else recipe or "default")
    chosen = read.change(
        dataset=dataset,
        seeds=seeds,
        steps=steps,
        batch_size=batch_size,
        **_rates(lr, read),
        precision=precision,
        metrics=listed(metrics),
    )
    request = Request.of({
        "variants": variants or [], "every": every, "plugins": plugin or [], "block": no_plugin or [], "recipe": chosen,
        "latent_dims": _integers(latent_dim), "match_params": _count(match_params), "out": out, "data_dir": data_dir,
        "device": device, "jobs": jobs, "executor": spelled(executor, ["local"]), "address": address,
        "threads": threads, "processes": processes_per_trial, "seeds_together": seeds_together, "graphs": not no_graphs,
        "compiled": compiled, "timeout": timeout, "checkpoint_minutes": checkpoint_minutes, "weights": weights,
        "skip_bad": skip_bad, "timing": not no_timing, "report": not no_report, "keep_old": keep_old,
        "retry_failed": retry_failed, "strict": strict,
    })  # fmt: skip
    check_request(request, fmt, listed(columns))
    say(f"aezoo {version('aezoo')}: recipe {chosen.name}, {request.dataset or chosen.dataset}")
    from aezoo.cli.listing import installed
    from aezoo.cli.screen import Look, console_on, observer_on, print_run, print_table
    from aezoo.errors import duration
    from aezoo.harness import call
    from aezoo.run.store import RunDirectory
    from aezoo.table.views import is_swept, rate_distortion

    interrupted = False
    # Nothing is drawn before all options are read.
    with observer_on(console_on(stderr=True)) as observer, stop_at_signals():
        if dry_run:
            expected = call.preview(request, observer=observer)
        else:
            try:
                snapshot = call.bench(request, observer=observer).snapshot
            except KeyboardInterrupt:
                if observer.run is None:
                    raise
                snapshot, interrupted = RunDirectory(observer.run).load(), True
    if dry_run:
        print_table(expected.table(), Look(fmt=fmt))
        say(f"{counted(expected.trials, 'trial')}, about {duration(expected.seconds)}; nothing was run")
        if expected.refused:
            raise typer.Exit(1)
        return
    assert snapshot is not None
    table = print_run(snapshot, Look(fmt=fmt, columns=listed(columns)))
    if request.latent_dims and is_swept(snapshot) and fmt not in ("csv", "json"):
        # A program that reads one table does not expect another one behind it.
        print()
        print_table(rate_distortion(snapshot), Look(fmt=fmt))
    # The next call checks its hyperparameters against it before it imports anything.
    installed("architectures")
    mine = table[table["variant"].isin(observer.variants)]
    if interrupted or (mine["status"] != "ok").any():
        raise typer.Exit(1)


@contextlib.contextmanager
def stop_at_signals() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM stop a bench well, and the second one at once."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        if stopped:
            # Every trial's process ends with this one.
            os.write(2, b"\x1b[?25h" if sys.stderr.isatty() else b"")
            os._exit(130)
        stopped = True
        os.write(2, b"\nstopping; once more stops at once, without a table\n")
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        # A shell lets what it starts in the background ignore Ctrl-C.
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rates(text: str | None, recipe: "Recipe") -> dict[str, object]:
    """Return the settings of a recipe that --lr gives: one rate, or several and what they are chosen by."""
    from aezoo.contract.recipe import VALIDATION

    if text is None:
        return {}
    try:
        rates = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise AezooError(
            f"--lr takes a learning rate, or several with commas between, such as 3e-4,1e-3, but got {text!r}"
        ) from None
    return {"lr": rates[0]} if len(rates) == 1 else {"lr": rates, "validation": recipe.validation or VALIDATION}


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    number, scale = (
        (text[:-1], {"k": 1e3, "m": 1e6}[text[-1].lower()]) if text[-1:].lower() in ("k", "m") else (text, 1)
    )
    try:
        count = round(float(number) * scale)
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise AezooError(f"--match-params takes a number of parameters, such as 200k or 1.5M, but got {text!r}")
    return count


def _integers(text: str | None) -> list[int]:
    if text is not None and not re.fullmatch(r"\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*)*", text):
        raise AezooError(
            f"--latent-dim takes whole numbers from 1 on with commas between, such as 2,8,32, but got {text!r}"
        )
    return [] if text is None else [int(part) for part in text.split(",")]


@app.command()
def status(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.runs,
            help="a folder that `aezoo bench` wrote; by default the newest in results/",
        ),
    ] = None,
    fmt: FormatOption = "rich",
    every: Annotated[bool, typer.Option("--all", help="Also the trials that are simply done.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Say which trials of a run are done, running, missing or stale, and why.

    Example: aezoo status results/my-run
    """
    from aezoo.cli.screen import Look, print_table
    from aezoo.harness.state import status as status_of
    from aezoo.run.store import RunDirectory
    from aezoo.table.formats import check_format

    check_format(fmt)
    states = status_of(RunDirectory(run or newest_run()), registry_of(plugin, no_plugin))
    shown = states if every else states[states["state"] != "done"]
    if len(shown) or every or fmt in ("csv", "json"):
        print_table(shown, Look(fmt=fmt))
    counts = states["state"].value_counts()
    say(f"{counted(len(states), 'trial')}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if set(counts.index) & {"missing", "stale", "interrupted"}:
        say("the same `aezoo bench` command runs what is missing, stale or interrupted")


@app.command()
def reproduce(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="a folder that `aezoo bench` wrote")
    ],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="a trial's id, or enough of its beginning")],
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Run a trial again from its record; exit status 1 where it does not come out as it did.

    Example: aezoo reproduce results/my-run mlp-s0
    """
    from aezoo.cli.screen import PlainObserver, console_on
    from aezoo.harness.call import reproduce as run_again

    observer = PlainObserver(console_on(stderr=True))
    repetition = run_again(
        run, trial, plugins=plugin or [], block=no_plugin or [], data_dir=data_dir, observer=observer
    )
    typer.echo(f"recorded  {repetition.recorded}")
    typer.echo(f"now       {repetition.repeated}")
    typer.echo(f"{repetition.trial_id}: {repetition.verdict}")
    typer.echo(f"circumstances: {'; '.join(repetition.differences) or 'the same'}")
    if repetition.verdict == "not reproduced":
        raise typer.Exit(1)
