"""The commands that show what there is: list (a second time from what was kept, without torch), show and plugins."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aezoo.cli import complete
from aezoo.cli.app import (
    SHAPE,
    BlockOption,
    DataDirOption,
    DatasetOption,
    ImageShapeOption,
    PluginOption,
    app,
    image_shape_of,
    registry_of,
    say,
)
from aezoo.errors import AezooError, plain, reason_of
from aezoo.registry import catalogue

if TYPE_CHECKING:
    from aezoo.contract.architecture import ImageShape, Variant
    from aezoo.contract.hyperparameters import Hyperparameter
    from aezoo.registry.names import Registry

Rows = list[dict[str, Any]]
_LEAST = 12
"""In so many columns something can be said."""


@app.command("list")
def list_(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN|FILE.py", autocompletion=complete.variants, help="such as 'conv*', ./my_model.py"
        ),
    ] = None,
    variants: Annotated[bool, typer.Option("--variants", help="List each variant that `bench --all` runs.")] = False,
    datasets: Annotated[bool, typer.Option("--datasets", help="List data sets, not architectures.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="List metrics.")] = False,
    executors: Annotated[bool, typer.Option("--executors", help="List executors.")] = False,
    image_shape: ImageShapeOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """List the architectures that are installed, or their variants, or the data sets, metrics or executors.

    What depends on the image shape is that on 1x28x28 images, unless another one is given.

    Example: aezoo list 'conv*'
    """
    chosen = [
        name
        for name, is_chosen in (
            ("variants", variants), ("datasets", datasets), ("metrics", metrics), ("executors", executors),
        )
        if is_chosen
    ]  # fmt: skip
    if len(chosen) > 1:
        raise AezooError("--variants, --datasets, --metrics and --executors are four lists; give one of them")
    kind = chosen[0] if chosen else "architectures"
    patterns = patterns or []
    if not (plugin or dataset or image_shape) and all(map(_is_installed, patterns)) and not (patterns and variants):
        # What only a built network tells is not asked for where nobody sees it.
        block = no_plugin or []
        if kind == "variants":
            _say_undeclared(
                row["architecture"] for row in installed("architectures", block=block) if not row["variants"]
            )
        print_rows(_matching(installed(kind, built=as_json, block=block), patterns, kind), as_json=as_json)
        return
    from aezoo.registry.outside import extend

    registry, patterns = extend(registry_of(plugin, no_plugin), patterns)
    shape = image_shape_of(image_shape, dataset, data_dir, registry) or SHAPE
    if kind == "variants":
        rows = [_variant_row(variant, shape) for variant in registry.select(patterns or ["*"])]
        _say_undeclared(registry.undeclared(patterns or ["*"]))
    else:
        rows = _matching(_rows(registry, kind, shape, built=as_json), patterns, kind)
    print_rows(rows, as_json=as_json, columns=("variant", "objective", "latent", "num_params", "reference"))


def _say_undeclared(labels: Iterable[str]) -> None:
    labels = list(labels)
    if labels:
        declare = f"{', '.join(labels)} declare{'s' if len(labels) == 1 else ''}"
        say(f"{declare} no variants: name one, {labels[0]}[] or {labels[0]}[...]")


def installed(kind: str, *, built: bool = False, block: Sequence[str] = ()) -> Rows:
    """Return a row for each thing of a kind that is installed: those that were kept, or else made and kept."""
    key = catalogue.key_of((kind, built), block)
    rows = catalogue.read(key)
    if rows is None:
        registry = registry_of(None, list(block))
        rows = _rows(registry, kind, SHAPE, built=built)
        # What is wrong with a plugin is to be said every time.
        if not registry.warnings:
            catalogue.keep(key, rows)
    return rows


def _is_installed(pattern: str) -> bool:
    """Say whether a pattern stands for what is installed: it is no file, no module, and no variant."""
    return re.fullmatch(r"[\w.*?-]+", pattern) is not None and not (pattern.endswith(".py") or Path(pattern).exists())


def _matching(rows: Rows, patterns: Sequence[str], kind: str) -> Rows:
    """Return the rows whose names match a pattern; all of them where there is none.

    Raises:
        AezooError: nothing matches.
    """
    if not patterns:
        return rows
    names = [str(next(iter(row.values()))).partition("[")[0] for row in rows]
    matching = [
        row
        for row, name in zip(rows, names, strict=True)
        if any(catalogue.matching([name], pattern) for pattern in patterns)
    ]
    if not matching:
        option = "" if kind == "architectures" else f" --{kind}"
        raise AezooError(f"nothing matches {' '.join(patterns)!r}; `aezoo list{option}` shows what there is")
    return matching


def _rows(registry: "Registry", kind: str, image_shape: "ImageShape", *, built: bool) -> Rows:
    """Return a row for each thing of a kind that there is; what is `built` also says what a network tells."""
    from aezoo.harness.local import LOCAL

    if kind == "variants":
        return [_variant_row(variant, image_shape) for variant in registry.select(["*"])]
    if kind == "datasets":
        return [
            {
                "dataset": each.name,
                "summary": each.summary,
                "hyperparameters": _hyperparameters(each.hyperparameters.values()),
                "reference": each.reference,
                "origin": owner.distribution,
            }
            for each, owner in registry.contributed("aezoo_datasets")
        ]
    if kind == "metrics":
        return [
            {
                "metric": each.name, "better": "higher" if each.higher_is_better else "lower", "summary": each.summary,
                "reference": each.reference, "origin": owner.distribution,
            }
            for each, owner in registry.contributed("aezoo_metrics")
        ]  # fmt: skip
    if kind == "executors":
        return [
            {"executor": LOCAL.name, "summary": LOCAL.summary, "origin": "aezoo"},
            *(
                {"executor": each.name, "summary": each.summary, "origin": owner.distribution}
                for each, owner in registry.contributed("aezoo_executors")
            ),
        ]
    return [
        {
            "architecture": label,
            "summary": architecture.summary,
            **({"objective": _objective(registry, label, image_shape)} if built else {}),
            "hyperparameters": _hyperparameters(architecture.hyperparameters.values()),
            "accepts": {each.name: each.accepted for each in architecture.hyperparameters.values()},
            "variants": len(architecture.variants),
            "reference": architecture.reference,
            "origin": f"{owner.distribution} {owner.version}",
        }
        for label, (architecture, owner) in registry.architectures.items()
    ]


def _hyperparameters(declared: "Iterable[Hyperparameter]") -> str:
    return ", ".join(f"{hyperparameter.name}={_default(hyperparameter)}" for hyperparameter in declared)


@app.command()
def show(
    variant: Annotated[
        list[str],
        typer.Argument(
            metavar="VARIANT | RUN VARIANT",
            autocompletion=complete.variants,
            help="such as mlp, or 'conv[latent_dim=16]'; or a run, and a variant of it",
        ),
    ],
    image_shape: ImageShapeOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Show one variant: what it is, where it comes from, its hyperparameters, its network on images of a shape.

    Of a run: a card with its figures, and with its reconstructions where the terminal has colours.

    Example: aezoo show 'conv[latent_dim=16]'
    """
    if len(variant) > 2:
        raise AezooError(f"give a variant, or a run and a variant, but got {len(variant)} arguments")
    if len(variant) == 2:
        from aezoo.cli.card import print_card
        from aezoo.cli.screen import console_on

        print_card(console_on(stderr=False), Path(variant[0]), variant[1])
        return
    from aezoo.check.case import objective
    from aezoo.check.suite import sample_images
    from aezoo.contract.hyperparameters import format_value
    from aezoo.contract.network import num_params
    from aezoo.registry.outside import extend
    from aezoo.train.build import build

    registry, texts = extend(registry_of(plugin, no_plugin), variant)
    if len(texts) > 1:
        raise AezooError(f"{variant[0]} contributes {', '.join(texts)}: give it with --plugin, and name one of them")
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
    declared = [chosen.label if architecture.variants else chosen.text]
    typer.echo("variants   " + "  ".join(variant.text for variant in registry.select(declared)))
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
    from aezoo.contract.hooks import API_VERSION
    from aezoo.registry.outside import load_registry

    registry = load_registry(plugin or [], no_plugin or [])
    for notice in registry.notices:
        say(f"warning: {notice}")
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
    rows: Rows = [
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
    say(
        f"{len(registry.plugins)} plugins, {len(registry.blocked)} blocked, {len(registry.broken)} left out; "
        f"plugin API {API_VERSION}"
    )
    if registry.broken:
        raise typer.Exit(1)


def print_rows(rows: Rows, *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print rows of the same columns, as text or as JSON; where there are none, the names of `columns` alone.

    On a terminal that is too narrow for them: a line each, with the name whole, and cut what it is.
    """
    import tabulate

    if as_json:
        print(json.dumps(rows, indent=1))
        return
    # What has parts of its own is for programs.
    rows = [{name: value for name, value in row.items() if not isinstance(value, dict)} for row in rows]
    names = list(rows[0]) if rows else list(columns)
    texts = [[f"{value:,}" if isinstance(value, int) else plain(str(value)) for value in row.values()] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    aligned = ["right" if any(isinstance(row[name], int) for row in rows) else "left" for name in names]
    whole = tabulate.tabulate(
        texts, names, tablefmt="simple", disable_numparse=True, colalign=aligned if rows else None
    )
    if width is None or all(len(line) <= width for line in whole.splitlines()):
        print(whole)
        return
    by_name = "variants" in names and any(row["variants"] == 0 for row in rows)
    labels = [f"{row[0]} *" if by_name and row[names.index("variants")] == "0" else row[0] for row in texts]
    # Few names are long: the others leave them no room of theirs.
    first = min(max(map(len, labels)), width // 2)
    for label, row in zip(labels, rows, strict=True):
        room = width - max(first, len(label)) - 2
        what = textwrap.shorten(plain(_in_short(row)), room, placeholder=" …") if room >= _LEAST else ""
        print(f"{label:<{first}}  {what}".rstrip())
    if by_name:
        say("* is not in `bench --all`: it is slow, or needs a package; bench it by name")
    say(f"{names[0]}s and what they are, cut; a wider terminal, a pipe or --json has all")


def _in_short(row: dict[str, Any]) -> str:
    """Return what a row says beside its name where there is one line for it."""
    if "summary" in row:
        return str(row["summary"])
    if "num_params" in row:
        params = f"{row['num_params']:,}" if isinstance(row["num_params"], int) else row["num_params"]
        return f"{params} parameters, latent {row['latent']}; {row['objective']}"
    return str(row["contributes"] if row["status"] == "ok" else row["status"])


def _default(hyperparameter: "Hyperparameter") -> str:
    from aezoo.contract.hyperparameters import format_value

    return "(required)" if hyperparameter.required else format_value(hyperparameter.default)


def _objective(registry: "Registry", label: str, image_shape: "ImageShape") -> str:
    """Return the objective of an architecture with its defaults, which says what it is only once it is built."""
    from aezoo.check.case import objective
    from aezoo.train.build import on_meta

    try:
        variant = registry.resolve(f"{label}[]")
        return objective(on_meta(lambda: variant.build(image_shape)) or variant.build(image_shape))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return f"unknown: {reason_of(error)}"


def _variant_row(variant: "Variant", image_shape: "ImageShape") -> dict[str, Any]:
    """Return what a variant is on images of a shape."""
    from aezoo.check.case import latent_bits, latent_shape, objective
    from aezoo.check.suite import sample_images
    from aezoo.contract.network import num_params, to_float
    from aezoo.train.build import build

    row: dict[str, Any] = {"variant": variant.text, "objective": "unknown", "latent": "unknown", "num_params": "-"}
    try:
        images_NCHW = sample_images(image_shape, count=2)
        module = build(variant, images_NCHW, seed=0).eval()
        row |= {"objective": objective(module), "num_params": num_params(module)}
        x_BCHW = to_float(images_NCHW)
        shape, bits = latent_shape(module, x_BCHW), latent_bits(module, x_BCHW)
        row["latent"] = "-" if shape is None else "x".join(map(str, shape))
        if bits is not None:
            row["latent"] = f"{row['latent']}, {bits:.1f} bits"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        what = "objective" if row["objective"] == "unknown" else "latent"
        row[what] = f"unknown: {reason_of(error)}"
    return {**row, "reference": variant.architecture.reference}
