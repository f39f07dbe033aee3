"""Simulate what the table's statistics promise: errors under no difference, coverage, wrong signs.

    python benchmarks/simulate.py > statistics.txt

Seeds' variances are drawn as the model has them (inverse chi-squared), as a lognormal and as two points of the same
mean and variance of the log; their noise is normal, or Student's t with 5 degrees of freedom at the same variance. Last
come real seeds, of benchmarks/seeds.json: some make the table, the others are unseen; the prior of each variant is
fitted without it, so that groups of a few variants are left out. benchmarks/statistics.md has the figures, and what
follows.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import digamma, polygamma, stdtrit

import aezoo
from aezoo.table.pairs import Pairs
from aezoo.table.priors import read_calibration
from aezoo.table.statistics import CONFIDENCE, Errors, Prior, fit_prior

ALPHA = 1 - CONFIDENCE
EFFECT = 0.1
"""Standard deviation of the true differences of logs, where signs are counted: a tenth of a loss."""
LEAST = 5
"""Variants of a group of real seeds: fewer tell nothing of one that is left out."""
VARIANCES = ("inverse chi-squared", "lognormal", "two-point")
NOISES = ("normal", "t, 5 d.f.")


def draw_variances(kind: str, prior: Prior, count: int, random: np.random.Generator) -> np.ndarray:
    """Return variances (count,), whose logs have the prior's mean and variance."""
    if kind == "inverse chi-squared":
        return np.asarray(prior.variance * prior.freedom / random.chisquare(prior.freedom, count))
    mean = np.log(prior.variance * prior.freedom / 2) - digamma(prior.freedom / 2)
    deviation = np.sqrt(polygamma(1, prior.freedom / 2))
    draw = random.normal(size=count) if kind == "lognormal" else random.choice([-1.0, 1.0], size=count)
    return np.asarray(np.exp(mean + deviation * draw))


def draw_noise(kind: str, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return noise of variance 1."""
    return random.normal(size=shape) if kind == "normal" else random.standard_t(5, size=shape) * np.sqrt(3 / 5)


def tables(
    kind: str, noise: str, variants: int, seeds: int, rounds: int, priors: list[Prior], effect: float
) -> Iterator[tuple[np.ndarray, list[Errors]]]:
    """Yield the true logs and the errors of tables whose variants are of the groups in turn; images add no chance."""
    random = np.random.default_rng([variants, seeds, VARIANCES.index(kind), NOISES.index(noise)])
    for _ in range(rounds):
        own = [priors[place % len(priors)] for place in range(variants)]
        deviations = np.sqrt([draw_variances(kind, prior, 1, random)[0] for prior in own])
        truth = effect * random.normal(size=variants)
        logs = truth[:, None] + deviations[:, None] * draw_noise(noise, (variants, seeds), random)
        yield truth, [Errors(np.exp(row)[:, None].repeat(2, 1), [prior]) for row, prior in zip(logs, own, strict=True)]


def decided_pairs(errors: list[Errors]) -> list[tuple[int, int]]:
    """Return the pairs of variants that are told apart, Holm-corrected over all pairs."""
    told = Pairs(errors).told_apart(range(len(errors)))
    return [pair for better, worse in told for pair in zip(better.tolist(), worse.tolist(), strict=True)]


def promises(kind: str, noise: str, variants: int, seeds: int, rounds: int, priors: list[Prior]) -> tuple[float, ...]:
    """Return the share of tables with a false difference, that of intervals that hold, and that of wrong signs."""
    false = held = 0
    for truth, errors in tables(kind, noise, variants, seeds, rounds, priors, effect=0.0):
        pairs = Pairs(errors)
        false += any(interval != (1, variants) for interval in pairs.ranks(range(variants)))
        held += sum(
            abs(each.log - true) <= (each.estimate().half or 0) for each, true in zip(errors, truth, strict=True)
        )
    wrong = 0
    for truth, errors in tables(kind, noise, variants, seeds, rounds, priors, effect=EFFECT):
        logs = [each.log for each in errors]
        wrong += any((logs[a] < logs[b]) != (truth[a] < truth[b]) for a, b in decided_pairs(errors))
    return false / rounds, held / (rounds * variants), wrong / rounds


def real(losses: dict[str, dict[str, list[float]]], seeds: int, rounds: int) -> tuple[float, float]:
    """Return how often the mean of unseen real seeds lies where `seeds` others and the prior say, and the share of
    tables that tell a pair apart whose unseen means are the other way round.
    """
    random = np.random.default_rng(seeds)
    held = total = wrong = 0
    priors = {
        (group, name): _prior_of([np.log(each) for other, each in some.items() if other != name])
        for group, some in losses.items()
        if len(some) >= LEAST
        for name in some
    }
    for _ in range(rounds):
        errors, unseen = [], []
        for (group, name), prior in priors.items():
            logs = random.permutation(np.log(losses[group][name]))
            mine, rest = logs[:seeds], logs[seeds:]
            freedom = prior.freedom + seeds - 1
            own = mine.var(ddof=1) if seeds > 1 else 0.0
            moderated = (prior.freedom * prior.variance + (seeds - 1) * own) / freedom
            half = -stdtrit(freedom, ALPHA / 2) * np.sqrt(moderated * (1 / len(mine) + 1 / len(rest)))
            held += abs(mine.mean() - rest.mean()) <= half
            total += 1
            errors.append(Errors(np.exp(mine)[:, None].repeat(2, 1), [prior]))
            unseen.append(rest.mean())
        wrong += any((errors[a].log < errors[b].log) != (unseen[a] < unseen[b]) for a, b in decided_pairs(errors))
    return held / total, wrong / rounds


def _prior_of(logs: list[np.ndarray]) -> Prior:
    return fit_prior([each.var(ddof=1) for each in logs], [len(each) - 1 for each in logs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--variants", type=int, nargs="+", default=[5, 20, 77])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--losses", type=Path, default=Path(__file__).parent / "seeds.json")
    parser.add_argument("--prior", type=Path, default=Path(aezoo.__file__).parent / "recipes" / "default.prior.toml")
    given = parser.parse_args()
    priors = list(read_calibration(given.prior).priors.values())
    print("| variances | noise | variants | seeds | a false difference | intervals that hold | a wrong sign |")
    print("|---|---|---|---|---|---|---|")
    for kind in VARIANCES:
        for noise in NOISES:
            for variants in given.variants:
                for seeds in given.seeds:
                    shares = promises(kind, noise, variants, seeds, given.rounds, priors)
                    cells = [kind, noise, str(variants), str(seeds), *(f"{share:.3f}" for share in shares)]
                    print(f"| {' | '.join(cells)} |", flush=True)
    losses = json.loads(given.losses.read_text(encoding="utf-8"))
    print(
        "\n| real seeds | intervals that hold the unseen seeds' mean | tables of which they turn a decided pair round |"
    )
    print("|---|---|---|")
    for seeds in given.seeds:
        held, wrong = real(losses, seeds, given.rounds)
        print(f"| {seeds} | {held:.3f} | {wrong:.3f} |", flush=True)


if __name__ == "__main__":
    main()
