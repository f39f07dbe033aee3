"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import contextlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aezoo.errors import AezooError, reason_of

if TYPE_CHECKING:
    from aezoo.architecture import Hyperparameter
    from aezoo.registry import Registry

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


def main() -> None:
    """Run the command line; a user's mistake becomes one line and an exit status."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    warnings.showwarning = _show_warning
    try:
        app()
    except AezooError as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wanted; Python must not complain while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _show_warning(message: object, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def _stop_at_signals() -> Iterator[None]:
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


@app.command("list")
def list_(
    patterns: Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...", help="such as 'conv*'")] = None,
    datasets: Annotated[bool, typer.Option("--datasets", help="List data sets, not architectures.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="List metrics.")] = False,
    executors: Annotated[bool, typer.Option("--executors", help="List executors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """List the architectures that are installed, or the data sets, metrics or executors.

    Example: aezoo list 'conv*'
    """
    import fnmatch

    from aezoo.execution import LOCAL
    from aezoo.printing import print_rows

    if datasets + metrics + executors > 1:
        raise AezooError("--datasets, --metrics and --executors are three lists; give one of them")
    registry = _registry(plugin, no_plugin)
    rows: list[dict[str, object]]
    if datasets:
        rows = [
            {"dataset": one.name, "summary": one.summary, "reference": one.reference, "origin": owner.distribution}
            for one, owner in registry.contributed("aezoo_datasets")
        ]
    elif metrics:
        rows = [
            {
                "metric": one.name,
                "better": "higher" if one.higher_is_better else "lower",
                "summary": one.summary,
                "reference": one.reference,
                "origin": owner.distribution,
            }
            for one, owner in registry.contributed("aezoo_metrics")
        ]
    elif executors:
        own = [{"executor": LOCAL.name, "summary": LOCAL.summary, "origin": "aezoo"}]
        rows = own + [
            {"executor": one.name, "summary": one.summary, "origin": owner.distribution}
            for one, owner in registry.contributed("aezoo_executors")
        ]
    else:
        rows = [
            {
                "architecture": label,
                "hyperparameters": ", ".join(f"{one.name}={_default(one)}" for one in found.hyperparameters.values()),
                "variants": len(found.variants),
                "summary": found.summary,
                "reference": found.reference,
                "origin": f"{owner.distribution} {owner.version}",
            }
            for label, (found, owner) in registry.architectures.items()
        ]
    rows = [
        row for row in rows if not patterns or any(fnmatch.fnmatch(str(next(iter(row.values()))), p) for p in patterns)
    ]
    if not rows:
        raise AezooError(f"nothing matches {' '.join(patterns or [])!r}; `aezoo list` shows what there is")
    print_rows(rows, as_json=as_json)


@app.command()
def show(
    variant: Annotated[str, typer.Argument(help="such as mlp, or 'conv[latent_dim=16]'")],
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Show one variant: what it is, where it comes from, its hyperparameters and its network.

    Example: aezoo show 'conv[latent_dim=16]'
    """
    from aezoo.architecture import format_value
    from aezoo.modules import num_params
    from aezoo.quick import extend

    registry, (text, *_) = extend(_registry(plugin, no_plugin), [variant])
    found = registry.resolve(text)
    architecture, owner = registry.architectures[found.label]
    try:
        module = found.build((1, 28, 28))
    except Exception as error:
        raise AezooError(f"{found.text} cannot be built for 1x28x28 images: {reason_of(error)}") from error
    typer.echo(f"{found.text}: {architecture.summary}")
    typer.echo(f"reference  {architecture.reference}")
    typer.echo(f"plugin     {owner.name} of {owner.distribution} {owner.version}")
    typer.echo(f"objective  {getattr(module, 'objective', 'mse')}")
    typer.echo("hyperparameters")
    for one in architecture.hyperparameters.values():
        value = format_value(found.hyperparameters[one.name])
        typer.echo(f"  {one.name} = {value}   ({one.accepted}; default {_default(one)})")
    typer.echo("variants   " + "  ".join(one.text for one in registry.select([found.label])))
    typer.echo(f"on 1x28x28 images: {num_params(module):,} parameters")
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
    from aezoo.hookspecs import API_VERSION
    from aezoo.printing import print_rows
    from aezoo.quick import load_registry

    registry = load_registry(plugin or [], no_plugin or [])
    for told in registry.told:
        print(f"warning: {told}", file=sys.stderr)
    found: list[tuple[Any, str, list[str], str]] = [
        (
            one,
            "deprecated: " + "; ".join(one.warnings) if one.warnings else "ok",
            one.contributions,
            str(one.api or "-"),
        )
        for one in registry.plugins
    ]
    found += [(one, one.reason, [], "-") for one in registry.blocked]
    found += [(one, f"left out: {one.reason}", [], "-") for one in registry.broken]
    rows: list[dict[str, object]] = [
        {
            "plugin": one.name,
            "distribution": one.distribution,
            "version": one.version,
            "place": one.place,
            "api": api,
            "contributes": contributions if as_json else ", ".join(contributions) or "nothing",
            "status": status,
        }
        for one, status, contributions, api in found
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


@app.command()
def bench(
    variants: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VARIANT|PATTERN|FILE.py|MODULE:NAME]...",
            help="mlp, 'conv*', 'conv[latent_dim=16]', ./my_model.py, my_package.models:build",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All declared variants of all architectures.")] = False,
    recipe: Annotated[str, typer.Option(help="default, quick, or a TOML file.")] = "default",
    quick: Annotated[bool, typer.Option("--quick", help="The same as --recipe quick.")] = False,
    dataset: Annotated[str | None, typer.Option(help="A data set; `aezoo list --datasets` shows them.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    latent_dim: Annotated[str | None, typer.Option(help="Bottlenecks in place of the declared ones: 2,8,32")] = None,
    match_params: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Choose each width for so many parameters: 200k, 1.5M.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1 of every variant.")] = None,
    steps: Annotated[int | None, typer.Option(help="The budget in steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="The learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, tf32 or bfloat16.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Columns beside the score: psnr,ssim; `aezoo list --metrics` shows them.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Trials side by side; a loss does not depend on it.")] = None,
    executor: Annotated[
        str, typer.Option(help="How trials are run; `aezoo list --executors` shows the ways.")
    ] = "local",
    threads: Annotated[int, typer.Option(help="Threads of a trial on a CPU; recorded, as it can move a loss.")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Run steps through torch.compile; recorded.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a trial is killed.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Measure no throughput at the end.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A plugin that is broken or deprecated is an error.")
    ] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try each variant, say what would run, stop.")] = False,
    fmt: FormatOption = "rich",
) -> None:
    """Train, score and time variants under identical settings, and print the table.

    The same command on the same folder goes on where it stopped, and trains nothing twice.

    Example: aezoo bench mlp 'conv[latent_dim=16]' --quick
    """
    from aezoo.benchmark import bench as run_bench
    from aezoo.benchmark import preview
    from aezoo.printing import console_on, print_run, print_table
    from aezoo.progress import LiveObserver, PlainObserver
    from aezoo.recipe import read_recipe
    from aezoo.rendering import check_format
    from aezoo.store import RunDirectory
    from aezoo.tables import is_swept, rate_distortion
    from aezoo.text import duration

    check_format(fmt)
    if quick and recipe not in ("default", "quick"):
        raise AezooError(f"--quick is --recipe quick, but --recipe {recipe} was given too; give one of them")
    chosen = read_recipe("quick" if quick else recipe).change(
        dataset=dataset,
        seeds=seeds,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        precision=precision,
        metrics=None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()],
    )
    dims = _integers(latent_dim)
    console = console_on(stderr=True)
    observer = LiveObserver(console) if console.is_terminal else PlainObserver(console)
    interrupted = False
    settings: dict[str, Any] = {
        "every": every, "plugins": plugin or [], "block": no_plugin or [], "recipe": chosen, "latent_dims": dims,
        "match_params": _count(match_params), "out": out, "data_dir": data_dir, "device": device, "jobs": jobs,
        "executor": executor, "threads": threads, "compiled": compiled, "timeout": timeout, "timing": not no_timing,
        "retry_failed": retry_failed, "strict": strict, "observer": observer,
    }  # fmt: skip
    expected = None
    try:
        with _stop_at_signals():
            if dry_run:
                expected = preview(variants or [], **settings)
            else:
                path = run_bench(variants or [], **settings).path
    except KeyboardInterrupt:
        if observer.run is None:
            raise
        path, interrupted = observer.run, True
    finally:
        if isinstance(observer, LiveObserver):
            observer.stop()
    if expected is not None:
        print_table(expected.table(), fmt)
        print(f"{expected.trials} trials, about {duration(expected.seconds)}; nothing was run", file=sys.stderr)
        if expected.refused:
            raise typer.Exit(1)
        return
    found = print_run(RunDirectory(path), fmt)
    if dims and is_swept(RunDirectory(path)) and fmt not in ("csv", "json"):
        # A program that reads one table does not expect another one behind it.
        print()
        print_table(rate_distortion(RunDirectory(path)), fmt)
    mine = found[found["variant"].isin(observer.variants)]
    if interrupted or (mine["status"] != "ok").any():
        raise typer.Exit(1)


@app.command()
def table(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a folder that `aezoo bench` wrote")],
    fmt: FormatOption = "rich",
    sort: Annotated[str | None, typer.Option(help="A column to sort by.")] = None,
    view: Annotated[
        str, typer.Option(help="rank; code: in groups of codes of one size; rate: test_mse by latent_dim.")
    ] = "rank",
) -> None:
    """Print the table of a run, derived anew from its records.

    Example: aezoo table results/my-run --format latex
    """
    from aezoo.printing import print_run
    from aezoo.store import RunDirectory

    print_run(RunDirectory(run), fmt, sort=sort, view=view)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a folder that `aezoo bench` wrote")],
    fmt: FormatOption = "rich",
    every: Annotated[bool, typer.Option("--all", help="Also the trials that are simply done.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Say which trials of a run are done, missing or stale, and why.

    Example: aezoo status results/my-run
    """
    from aezoo.printing import print_table
    from aezoo.rendering import check_format
    from aezoo.status import status as status_of
    from aezoo.store import RunDirectory

    check_format(fmt)
    found = status_of(RunDirectory(run), _registry(plugin, no_plugin))
    shown = found if every else found[found["state"] != "done"]
    if len(shown) or every or fmt in ("csv", "json"):
        print_table(shown, fmt)
    counts = found["state"].value_counts()
    print(f"{len(found)} trials: {', '.join(f'{count} {state}' for state, count in counts.items())}", file=sys.stderr)
    if set(counts.index) & {"missing", "stale", "interrupted"}:
        print("the same `aezoo bench` command runs what is missing, stale or interrupted", file=sys.stderr)


@app.command()
def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a folder that `aezoo bench` wrote")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="a trial's id, or enough of its beginning")],
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are kept.")] = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Run a trial again from its record; exit status 1 where it does not come out as it did.

    Example: aezoo reproduce results/my-run mlp-s0
    """
    from aezoo.printing import console_on
    from aezoo.progress import PlainObserver
    from aezoo.reproduce import reproduce as run_again

    observer = PlainObserver(console_on(stderr=True))
    found = run_again(run, trial, plugins=plugin or [], block=no_plugin or [], data_dir=data_dir, observer=observer)
    typer.echo(f"recorded  {found.recorded}")
    typer.echo(f"now       {found.repeated}")
    typer.echo(f"{found.trial_id}: {found.verdict}")
    typer.echo(f"circumstances: {'; '.join(found.differences) or 'the same'}")
    if found.verdict == "not reproduced":
        raise typer.Exit(1)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="the first is what the others are held to")],
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

    from aezoo import compare as comparison
    from aezoo.printing import print_table
    from aezoo.rendering import check_format
    from aezoo.store import RunDirectory

    check_format(fmt)
    if len(runs) < 2:
        raise AezooError("give two runs or more; the others are held to the first one")
    base, *others = (RunDirectory(path) for path in runs)
    compared = {other.path: comparison.compare(base, other) for other in others}
    whole = pd.concat([found.assign(run_b=str(path)) for path, found in compared.items()], ignore_index=True)
    print_table(whole if len(others) > 1 else whole.drop(columns="run_b"), fmt)
    for other in others:
        for line in comparison.notes(base, other):
            print(line, file=sys.stderr)
    worse = {} if fail_on is None else {p: comparison.regressions(found, fail_on) for p, found in compared.items()}
    for path, variants in worse.items():
        for variant in variants:
            print(f"worse by more than {fail_on:g} %, or failed, in {path}: {variant}", file=sys.stderr)
    if any(worse.values()):
        raise typer.Exit(3)


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
    from aezoo.check import check as check_all
    from aezoo.quick import extend
    from aezoo.text import plain

    registry, texts = extend(_registry(plugin, no_plugin), names)
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
    from aezoo.scaffold import new_plugin as write

    path = write(name, folder, _registry(None, None))
    typer.echo(f"wrote {path}: change build in {path / f'aezoo_{name}.py'}")
    typer.echo(f"next: pip install -e '{path}[test]' && aezoo check {name} && aezoo bench {name} mlp conv")


@app.command()
def doctor() -> None:
    """Check this installation: torch, torchvision, the device, plugins, processes; exit status 1 if something fails.

    Example: aezoo doctor
    """
    from aezoo.doctor import examine

    failed = False
    for finding in examine():
        failed |= not finding.ok
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:12}  {finding.told}")
    if failed:
        raise typer.Exit(1)


def _registry(plugins: list[str] | None, block: list[str] | None) -> "Registry":
    """Return what is installed and what is named, and say on standard error what is wrong with it."""
    from aezoo.quick import load_registry

    registry = load_registry(plugins or [], block or [])
    for told in registry.warnings:
        print(f"warning: {told}", file=sys.stderr)
    return registry


def _default(hyperparameter: "Hyperparameter") -> str:
    from aezoo.architecture import format_value

    return "(required)" if hyperparameter.required else format_value(hyperparameter.default)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    number, scale = (
        (text[:-1], {"k": 1e3, "m": 1e6}[text[-1].lower()]) if text[-1:].lower() in ("k", "m") else (text, 1)
    )
    try:
        found = round(float(number) * scale)
    except (ValueError, OverflowError):
        found = 0
    if found < 1:
        raise AezooError(f"--match-params takes a number of parameters, such as 200k or 1.5M, but got {text!r}")
    return found


def _integers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        raise AezooError(
            f"--latent-dim takes whole numbers with commas between, such as 2,8,32, but got {text!r}"
        ) from None
