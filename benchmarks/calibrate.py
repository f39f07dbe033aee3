"""Calibrate a recipe on a data set: how far seeds spread, in each declared group of architectures.

    aezoo bench --all --seeds 11 --no-timing --out results/calibration
    python benchmarks/calibrate.py results/calibration aezoo/recipes/default.prior.toml --losses benchmarks/seeds.json

The first seeds are left out (--from-seed 3): they are those of tables, and a prior must not come from the table that it
judges. For a recipe of your own, write the file as prior.toml into the run's folder that is to use it.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import tomli_w

from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo.run.files import write_text
from aezoo.run.store import RunDirectory
from aezoo.table.priors import Calibration, Group
from aezoo.table.rows import records_by_variant
from aezoo.table.statistics import fit_prior

LEAST_SEEDS = 8
LEAST_VARIANTS = 2


def losses_of(run: RunDirectory, from_seed: int) -> dict[str, dict[str, list[float]]]:
    """Return test_mse of the seeds from a first one on, by the group that is declared today, and variant.

    Raises:
        AezooError: a variant has too few seeds, or seeds that all come to one loss.
    """
    groups: dict[str, dict[str, list[float]]] = {}
    registry = discover()
    for variant, records in records_by_variant(run).items():
        losses = [record.test_mse for record in records if record.seed >= from_seed and record.test_mse is not None]
        spread = registry.resolve(variant).architecture.seed_spread
        if spread is None or spread == "none":
            continue
        if len(losses) < LEAST_SEEDS:
            raise AezooError(
                f"{variant} has {len(losses)} seeds from {from_seed} on, and a calibration needs {LEAST_SEEDS}: "
                f"give aezoo bench --seeds {from_seed + LEAST_SEEDS} on {run.path}"
            )
        if len(set(losses)) < len(losses):
            raise AezooError(f"{variant} comes to one loss from several seeds: declare seed_spread='none'")
        groups.setdefault(spread, {})[variant] = losses
    return groups


def calibrate(run: RunDirectory, from_seed: int) -> Calibration:
    """Fit a prior to each declared group of a run that has enough variants.

    Raises:
        AezooError: no group has.
    """
    run = run.require().load()
    fitted = {}
    for name, losses in sorted(losses_of(run, from_seed).items()):
        if len(losses) >= LEAST_VARIANTS:
            logs = [np.log(each) for each in losses.values()]
            prior = fit_prior([each.var(ddof=1) for each in logs], [len(each) - 1 for each in logs])
            fitted[name] = Group(freedom=prior.freedom, sd=math.sqrt(prior.variance), variants=len(losses))
    if not fitted:
        raise AezooError(f"{run.path}: no declared group has {LEAST_VARIANTS} variants to calibrate with")
    records = [record for some in records_by_variant(run).values() for record in some]
    newest = max(records, key=lambda record: record.finished_at)
    return Calibration(
        fingerprint=run.info().fingerprint,
        recipe=run.info().recipe.name,
        dataset=run.info().recipe.dataset,
        seeds=f"{from_seed}-{max(record.seed for record in records)}",
        aezoo=newest.environment.aezoo,
        torch=newest.environment.torch,
        device_name=newest.environment.device_name,
        made=newest.finished_at[:10],
        groups=fitted,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path, help="the prior file")
    parser.add_argument("--from-seed", type=int, default=3, help="the first seed that counts")
    parser.add_argument("--losses", type=Path, help="also write the losses, for benchmarks/simulate.py")
    given = parser.parse_args()
    run = RunDirectory(given.run)
    calibration = calibrate(run, given.from_seed)
    head = "# Made by benchmarks/calibrate.py; not edited by hand.\n"
    write_text(given.target, head + tomli_w.dumps(calibration.model_dump()))
    if given.losses:
        write_text(given.losses, json.dumps(losses_of(run, given.from_seed), indent=1) + "\n")
    for name, group in calibration.groups.items():
        print(
            f"{name}: sd of the log {group.sd:.4f}, worth {group.freedom:.2f} degrees of freedom; "
            f"{group.variants} variants"
        )


if __name__ == "__main__":
    main()
