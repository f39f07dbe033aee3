"""Hold runs against each other, variant by variant. It needs no torch."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from aezoo.contract.columns import COMPARED
from aezoo.errors import ComparisonRefusedError, shortened
from aezoo.run.records import TOLERANCE, RunInfo, TrialRecord
from aezoo.run.store import RunDirectory
from aezoo.table import rows
from aezoo.table.statistics import CONFIDENCE, Errors, Estimate, holm

_ORDER = ("worse", "better", "not decided", "equal")
"""The verdicts, what changed first."""
_MOVES_A_LOSS = ("aezoo", "torch", "platform", "device", "device_name", "threads", "cuda")
"""What of an environment may lead training along another path."""


def compare(a: RunDirectory, b: RunDirectory) -> pd.DataFrame:
    """Return a row for each variant of either run, what changed first: losses, ranks, sizes, speeds, and a verdict.

    `change_percent` is how much higher test_mse is in b than in a, with its 95 % interval over seeds and test images.
    The verdict on b is `better` or `worse` where the evidence says so (Holm-corrected over the variants), else
    `not decided`; `equal` where the losses are, but for rounding. `network` says what makes a variant of one name
    another network in b. A speed ratio is b over a; where something differs that a speed depends on, it is that of the
    speeds over the reference's, which was timed in the same rounds.

    Raises:
        ComparisonRefusedError: something that changes a loss differs between the runs; it is named.
    """
    a, b = a.load(), b.load()
    info_a, info_b = a.info(), b.info()
    if info_a.fingerprint != info_b.fingerprint:
        differing = ", ".join(differing_settings(info_a, info_b))
        raise ComparisonRefusedError(
            f"{a.path} and {b.path} cannot be compared: they differ in {differing}; bench both with one recipe"
        )
    left, right = (rows.summarise(run) for run in (a, b))
    both = left.merge(right, on="variant", how="outer", suffixes=("_a", "_b"), indicator="found")
    both["found"] = both["found"].astype(str).map({"both": "both", "left_only": "a only", "right_only": "b only"})
    both = both.sort_values(["test_mse_a", "test_mse_b"], na_position="last", ignore_index=True)
    errors_a, errors_b = (rows.ErrorsByVariant(run) for run in (a, b))
    records_a, records_b = (rows.records_by_variant(run) for run in (a, b))
    pairs = [(records_a.get(name, []), records_b.get(name, [])) for name in both["variant"]]
    differences = [
        _difference(before, after, pair) if (before := errors_a.get(name)) and (after := errors_b.get(name)) else None
        for name, pair in zip(both["variant"], pairs, strict=True)
    ]
    ratios = [estimate.ratios() if estimate else None for estimate in differences]
    both["change_percent"] = (both["test_mse_b"] / both["test_mse_a"] - 1) * 100
    for end, name in enumerate(("low", "high")):
        both[f"change_percent_{name}"] = pd.Series(
            [100 * (ends[end] - 1) if ends else None for ends in ratios], dtype="Float64"
        )
    tolerances = [TOLERANCE if _environments(*pair) else 0.0 for pair in pairs]
    corrected = iter(holm([estimate.p_value for estimate in differences if estimate]))
    both["verdict"] = [
        _verdict(estimate, next(corrected), tolerance) if estimate else None
        for estimate, tolerance in zip(differences, tolerances, strict=True)
    ]
    both["network"] = [_network(*pair) or None for pair in pairs]
    alike = both["threads_a"].eq(both["threads_b"]) & both["compiled_a"].eq(both["compiled_b"])
    # A closed form takes no steps.
    alike &= both["steps_by_a"].fillna("").eq(both["steps_by_b"].fillna(""))
    alike = alike.fillna(False) & (not speed_differences(a, b))
    for part in ("train", "infer"):
        plain, relative = (
            both[f"{part}_{what}_b"] / both[f"{part}_{what}_a"] for what in ("images_per_s", "vs_reference")
        )
        both[f"{part}_speed_ratio"] = plain.where(alike, relative)
    urgency = [_urgency(row) for row in both.to_dict(orient="records")]
    both = both.iloc[sorted(range(len(both)), key=lambda place: (urgency[place], place))]
    return both[[column.name for column in COMPARED if column.name != "run_b"]].reset_index(drop=True)


def summary(compared: pd.DataFrame) -> str:
    """Say in a line how many variants changed, and how."""
    counts = compared["verdict"].value_counts()
    parts = [f"{counts[verdict]} {verdict}" for verdict in _ORDER if verdict in counts]
    failed = int((compared["status_a"].eq("ok") & compared["found"].eq("both") & compared["status_b"].ne("ok")).sum())
    parts += [f"{failed} ok no more"] if failed else []
    for side in ("a", "b"):
        alone = int((compared["found"] == f"{side} only").sum())
        parts += [f"{alone} in {side} only"] if alone else []
    return f"b against a: {', '.join(parts) or 'nothing to compare'}"


def _urgency(row: Mapping[Hashable, Any]) -> int:
    """Return where a row stands: what fails now, then what is worse, then better, then what is another network."""
    if row["found"] == "both" and row["status_a"] == "ok" and row["status_b"] != "ok":
        return 0
    if row["verdict"] in ("worse", "better"):
        return 1 + _ORDER.index(row["verdict"])
    if row["network"] is not None:
        return 3
    return 4 if row["found"] != "both" else 5 if row["verdict"] == "not decided" else 6


def regressions(compared: pd.DataFrame, percent: float) -> list[str]:
    """Return the variants whose loss is worse by more than so many per cent, by the evidence, or that now fail."""
    worse = (compared["verdict"] == "worse") & (compared["change_percent"] > percent)
    fails = (compared["status_a"] == "ok") & (compared["found"] == "both") & (compared["status_b"] != "ok")
    return list(compared.loc[worse | fails, "variant"])


def notes(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Say, a line each, what the reader of a comparison must know."""
    a, b = a.load(), b.load()
    lines = [
        f"a: {a.path}; b: {b.path}; verdict on b, at 5 %, corrected for the number of variants (Holm)",
        "change %: test_mse of b over a's, with its 95 % interval over seeds and test images",
    ]
    left, right = (rows.summarise(run) for run in (a, b))
    if (left["seeds"] == 1).any() or (right["seeds"] == 1).any():
        lines.append("with one seed a verdict says nothing of how another seed would do")
    records_a, records_b = (rows.records_by_variant(run) for run in (a, b))
    common = [name for name in records_a if name in records_b]
    lines += [
        f"{name} is another network in b: {what}"
        for name in common
        if (what := _network(records_a[name], records_b[name]))
    ]
    others = {name: phrases for name in common if (phrases := _environments(records_a[name], records_b[name]))}
    if others:
        where = "" if len(others) == len(common) else f" for {len(others)} of {len(common)} variants"
        losses = ", ".join(dict.fromkeys(phrase for phrases in others.values() for phrase in phrases))
        lines.append(f"the runs differ in {losses}{where}: changes of less than {TOLERANCE:.0%} are not judged there")
    speeds = speed_differences(a, b)
    joined = left.merge(right, on="variant").dropna(subset=["compiled_x", "compiled_y"])
    for name in ("threads", "compiled", "steps_by"):
        one, other = (joined[f"{name}_{side}"].astype(object).fillna("") for side in "xy")
        speeds += [name] if (one != other).any() else []
    if speeds:
        lines.append(f"the runs differ in {', '.join(speeds)}: there, speeds are compared relative to the reference's")
    return lines


def differing_settings(a: RunInfo, b: RunInfo) -> list[str]:
    """Return what changes a loss and differs between two runs, field by field, with the value of either."""
    names = sorted(a.loss_settings.keys() | b.loss_settings.keys())
    return [
        f"{name} ({shortened(a.loss_settings.get(name))}, {shortened(b.loss_settings.get(name))})"
        for name in names
        if a.loss_settings.get(name) != b.loss_settings.get(name)
    ]


def network_changes(before: TrialRecord, after: TrialRecord) -> list[str]:
    """Return what makes a variant of one name another network in the second of two trials, a phrase each."""
    phrases = [
        f"{name} {before.hyperparameters.get(name)} → {after.hyperparameters.get(name)}"
        for name in sorted(before.hyperparameters.keys() | after.hyperparameters.keys())
        if before.hyperparameters.get(name) != after.hyperparameters.get(name)
    ]
    if before.plugin.distribution != after.plugin.distribution:
        phrases.append(f"from {before.plugin.distribution} → {after.plugin.distribution}")
    elif before.plugin.source_sha256 != after.plugin.source_sha256:
        phrases.append("plugin source changed")
    return phrases


def speed_differences(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Return what forbids to compare the speeds of two runs as they are, a phrase each; none where they may be."""
    machines = [next(iter(rows.timings_by_machine(run)), None) for run in (a, b)]
    if None in machines:
        return []
    names = ("device", "device_name", "torch")
    return [
        f"{name} ({before}, {after})"
        for name, before, after in zip(names, *(machine or () for machine in machines), strict=True)
        if before != after
    ]


def _difference(before: Errors, after: Errors, pair: Iterable[Sequence[TrialRecord]]) -> Estimate:
    """Return the log of the ratio of two losses, with nothing known of chance where the seeds of one tell none."""
    ratio = after.over(before)
    return Estimate(ratio.value, None) if any(map(rows.starts_the_same, pair)) else ratio


def _verdict(difference: Estimate, p_value: float, tolerance: float) -> str:
    if difference.value == 0:
        return "equal"
    if p_value >= 1 - CONFIDENCE or abs(difference.value) <= tolerance:
        return "not decided"
    return "better" if difference.value < 0 else "worse"


def _environments(a: Sequence[TrialRecord], b: Sequence[TrialRecord]) -> list[str]:
    """Return what differs between the environments of a variant's trials, a phrase each."""
    phrases = []
    for name in _MOVES_A_LOSS if a and b else ():
        before, after = ({getattr(record.environment, name) for record in records} for records in (a, b))
        if before != after:
            phrases.append(f"{name} ({_listed(before)}, {_listed(after)})")
    return phrases


def _network(a: Sequence[TrialRecord], b: Sequence[TrialRecord]) -> str:
    """Return what makes a variant another network in b than in a; nothing where it is the same, or in one alone."""
    if not a or not b:
        return ""
    phrases = network_changes(a[0], b[0])
    sizes = [
        next((record.latent_size for record in records if record.latent_size is not None), None) for records in (a, b)
    ]
    if None not in sizes and sizes[0] != sizes[1]:
        phrases.append(f"latent_size {sizes[0]} → {sizes[1]}")
    return "; ".join(phrases)


def _listed(values: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, values)))
