"""What a shell completes: architectures and their hyperparameters, data sets, runs, columns, recipes, views."""

from collections.abc import Iterator
from pathlib import Path

import typer

OF_ONE = ("group", "flat", "rate", "tuning")
OF_SEVERAL = ("mse", "ratio", "vs_pca")
"""The views of a run, and of several."""


def variants(incomplete: str) -> list[str]:
    """Complete the name of an architecture, or, after its bracket, a hyperparameter."""
    return _variants(_installed("architectures"), "architecture", incomplete)


def datasets(incomplete: str) -> list[str]:
    """Complete a path, where it begins as one, or the name of a data set, or, after its bracket, a hyperparameter."""
    folder, slash, begun = incomplete.rpartition("/")
    if not slash or "[" in incomplete:
        return _variants(_installed("datasets"), "dataset", incomplete)
    inside = Path(folder + slash)
    names = [each.name for each in inside.iterdir()] if inside.is_dir() else []
    return sorted(f"{folder}{slash}{name}" for name in names if name.startswith(begun) and not name.startswith("."))


def metrics(incomplete: str) -> list[str]:
    """Complete the last of some metrics."""
    return _last(incomplete, [str(row["metric"]) for row in _installed("metrics")])


def executors(incomplete: str) -> list[str]:
    """Complete the name of an executor."""
    return [row["executor"] for row in _installed("executors") if str(row["executor"]).startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Complete the folder of a run, or one that leads to some."""
    found = {str(path) for path in _folders(incomplete) if _leads_to_a_run(path)}
    if not incomplete:
        found |= {str(path.parent) for path in Path().glob("results/*/run.json")}
    return sorted(found)


def columns(incomplete: str) -> list[str]:
    """Complete a column of the table."""
    from aezoo.contract.columns import COLUMNS

    return [column.name for column in COLUMNS if column.name.startswith(incomplete)]


def some_columns(incomplete: str) -> list[str]:
    """Complete the last of some columns."""
    return _last(incomplete, columns(""))


def recipes(incomplete: str) -> list[str]:
    """Complete a built-in recipe, or a TOML file."""
    from aezoo.contract.recipe import BUILT_IN

    files = [str(path) for path in Path().glob(f"{incomplete}*.toml")] if "*" not in incomplete else []
    return [name for name in BUILT_IN if name.startswith(incomplete)] + sorted(files)


def views(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a view of a run, or of several, where several are given before it."""
    several = len(context.args) > 1
    return [name for name in (OF_SEVERAL if several else OF_ONE) if name.startswith(incomplete)]


def _last(incomplete: str, names: list[str]) -> list[str]:
    """Complete the last of some names with commas between."""
    *before, last = incomplete.split(",")
    head = "".join(f"{part}," for part in before)
    return [f"{head}{name}" for name in names if name.startswith(last)]


def _folders(incomplete: str) -> Iterator[Path]:
    path = Path(incomplete)
    folder, begun = (path, "") if incomplete.endswith("/") else (path.parent, path.name)
    if folder.is_dir():
        yield from (each for each in folder.iterdir() if each.is_dir() and each.name.startswith(begun))


def _leads_to_a_run(path: Path) -> bool:
    return (path / "run.json").is_file() or next(path.glob("*/run.json"), None) is not None


def _variants(rows: list[dict[str, str]], kind: str, incomplete: str) -> list[str]:
    """Complete the name of one of the rows, or, after its bracket, one of its hyperparameters."""
    name, bracket, given = incomplete.partition("[")
    if not bracket:
        return [row[kind] for row in rows if str(row[kind]).startswith(name)]
    known = next((str(row["hyperparameters"]) for row in rows if row[kind] == name), "")
    *before, last = given.split(",")
    head = f"{name}[{''.join(f'{part},' for part in before)}"
    settings = [part.split("=")[0].strip() for part in known.split(", ") if "=" in part]
    return [f"{head}{setting}=" for setting in settings if setting.startswith(last)]


def _installed(kind: str) -> list[dict[str, str]]:
    """Return the rows that `aezoo list` would print; none where a plugin is in the way."""
    from aezoo.cli.listing import installed

    try:
        return installed(kind)
    except Exception:  # noqa: BLE001 - a shell that asks is told nothing, not a traceback
        return []
