"""The ways to look at the table of a run: in groups, flat, loss by latent size, learning rates. It needs no torch."""

import math
from collections.abc import Collection
from statistics import fmean
from typing import Any

import pandas as pd

from aezoo.contract.columns import GROUPED, TUNED, column, is_reserved
from aezoo.contract.hyperparameters import format_settings, parse_variant
from aezoo.errors import AezooError
from aezoo.run.store import RunDirectory
from aezoo.table import groups
from aezoo.table.rows import mean_test_mse, records_by_variant, summarise


def sort(table: pd.DataFrame, name: str, run: RunDirectory | None = None) -> pd.DataFrame:
    """Return the table sorted by a column, the best first; rows without a value last.

    Of a metric, the run says which end is the better one.
    """
    measured = run.measurements() if run else []
    best = any(each.metric == name and each.higher_is_better for each in measured) or column(name).higher_is_better
    return table.sort_values(name, ascending=not best, kind="stable", na_position="last", ignore_index=True)


def by_group(run: RunDirectory) -> pd.DataFrame:
    """Return the table of a run in groups of variants whose codes are of one size: what may be compared."""
    return grouped(summarise(run))


def grouped(table: pd.DataFrame, beside: Collection[str] = ()) -> pd.DataFrame:
    """Return the rows of a table group by group, the best of a group first.

    What has no latent, has not run yet, or failed, comes last. Its columns are those of GROUPED, the metrics, and those
    of the table that stand `beside`.
    """
    table = table.iloc[groups.order(table)].reset_index(drop=True)
    own = [column.name for column in GROUPED]
    return table[own + [name for name in table if name not in own and (not is_reserved(str(name)) or name in beside)]]


def rate_distortion(run: RunDirectory) -> pd.DataFrame:
    """Return test_mse by latent_dim: a row for what is otherwise one variant, a column for each size; best first.

    Only variants with the hyperparameter ``latent_dim`` are in it.

    Raises:
        AezooError: none of the run's variants has it.
    """
    losses_of: dict[tuple[str, int], list[tuple[str, Any, float]]] = {}
    for variant, records in records_by_variant(run).items():
        hyperparameters = records[0].hyperparameters if records else {}
        latent_dim = hyperparameters.get("latent_dim")
        if isinstance(latent_dim, int) and any(record.status == "ok" for record in records):
            text = records[0].variant
            apart = variant.removeprefix(text)
            # A width that was chosen for each size makes no other variant, unless one size has several.
            losses_of.setdefault((_without(text, "latent_dim", "width") + apart, latent_dim), []).append(
                (_without(text, "latent_dim") + apart, hyperparameters.get("width"), mean_test_mse(records))
            )
    ambiguous = {label for (label, _), several in losses_of.items() if len(several) > 1}
    widths: dict[str, list[Any]] = {}
    for (short, _), several in sorted(losses_of.items()):
        widths.setdefault(short, []).extend(width for _, width, _ in several)
    losses_by_label: dict[str, dict[int, float]] = {}
    for (short, latent_dim), several in losses_of.items():
        chosen = f" (width {', '.join(map(str, widths[short]))})" if len(set(widths[short])) > 1 else ""
        for label, _, mse in several:
            losses_by_label.setdefault(label if short in ambiguous else short + chosen, {})[latent_dim] = mse
    if not losses_by_label:
        raise AezooError(f"{run.path}: no variant with the hyperparameter latent_dim has a loss; nothing to sweep over")
    sizes = sorted({size for losses in losses_by_label.values() for size in losses})
    rows: list[dict[str, Any]] = [
        {"variant": label, **{f"mse_{size}": losses.get(size) for size in sizes}}
        for label, losses in losses_by_label.items()
    ]
    # By the sizes that it has, against the best there: whoever lacks one is not the better for it.
    best = {size: min(losses[size] for losses in losses_by_label.values() if size in losses) for size in sizes}

    def behind(row: dict[str, Any]) -> float:
        losses = losses_by_label[row["variant"]]
        return fmean(math.log(losses[size] / best[size]) if best[size] else 0.0 for size in losses)

    rows.sort(key=behind)
    return pd.DataFrame(rows).astype({f"mse_{size}": "Float64" for size in sizes})


def _without(variant: str, *names: str) -> str:
    """Return the text of a variant without some hyperparameters."""
    settings = {name: value for name, value in (parse_variant(variant).settings or {}).items() if name not in names}
    return variant.partition("[")[0] + (f"[{format_settings(settings)}]" if settings else "")


def is_swept(run: RunDirectory) -> bool:
    """Say whether something of a run, other than a baseline, has losses with several values of latent_dim."""
    seen: dict[str, set[Any]] = {}
    for records in records_by_variant(run).values():
        trained = any(record.status == "ok" for record in records) and records[0].baseline is None
        if trained and "latent_dim" in records[0].hyperparameters:
            seen.setdefault(records[0].architecture, set()).add(records[0].hyperparameters["latent_dim"])
    return any(len(sizes) > 1 for sizes in seen.values())


def tuning(run: RunDirectory) -> pd.DataFrame:
    """Return the learning rates that each variant tried: a row a try, in the order of the run, no test loss in it.

    Raises:
        AezooError: the run's recipe has one learning rate for all.
    """
    run = run.load()
    if not run.info().recipe.rates:
        raise AezooError(f"{run.path}: one learning rate for all, by its recipe; --recipe tuned tries several")
    # Of a variant whose plugin changed there may be two tries of one rate: the later counts.
    tries = sorted((each for each in run.records().values() if each.tuning), key=lambda each: each.finished_at)
    by_rate = {(each.variant, each.lr): each for each in tries}
    chosen = {name: records[0].lr for name, records in records_by_variant(run).items() if records}
    rows = [
        {
            "variant": variant, "lr": rate, "validation_mse": each.validation_mse,
            "chosen": "yes" if chosen.get(variant) == rate else None, "status": each.status,
        }
        for variant in run.info().requested
        for rate in run.info().recipe.rates
        if (each := by_rate.get((variant, rate)))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[column.name for column in TUNED]).astype({"validation_mse": "Float64"})


VIEWS = {"group": by_group, "flat": summarise, "rate": rate_distortion, "tuning": tuning}
"""The ways to look at a run, as ``aezoo table --view`` names them."""
