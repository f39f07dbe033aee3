"""Hold runs against each other, variant by variant. It needs no torch."""

import pandas as pd

from aezoo.errors import ComparisonRefusedError
from aezoo.run.records import TOLERANCE, RunInfo
from aezoo.run.store import RunDirectory
from aezoo.table import rows
from aezoo.table.statistics import CONFIDENCE, Estimate, holm


def compare(a: RunDirectory, b: RunDirectory) -> pd.DataFrame:
    """Return a row for each variant of either run: losses, ranks, sizes and speeds side by side, and a verdict.

    `change_percent` is how much higher test_mse is in b than in a, with its 95 % interval over seeds and test images.
    The verdict on b is `better` or `worse` where the evidence says so (Holm-corrected over the variants), else
    `no evidence`; `equal` where the losses are, but for rounding. A speed ratio is b over a; where something differs
    that a speed depends on, it is that of the speeds over the reference's, which was timed in the same rounds.

    Raises:
        ComparisonRefusedError: something that changes a loss differs between the runs; it is named.
    """
    info_a, info_b = a.info(), b.info()
    if info_a.fingerprint != info_b.fingerprint:
        differing = ", ".join(_differences(info_a, info_b))
        raise ComparisonRefusedError(
            f"{a.path} and {b.path} cannot be compared: they differ in {differing}; bench both with one recipe"
        )
    left, right = (rows.summarise(run) for run in (a, b))
    both = left.merge(right, on="variant", how="outer", suffixes=("_a", "_b"), indicator="found")
    both["found"] = both["found"].astype(str).map({"both": "both", "left_only": "a only", "right_only": "b only"})
    both = both.sort_values(["test_mse_a", "test_mse_b"], na_position="last", ignore_index=True)
    errors_a, errors_b = (rows.errors_by_variant(run) for run in (a, b))
    differences = [
        after.less(before) if (before := errors_a.get(name)) and (after := errors_b.get(name)) else None
        for name in both["variant"]
    ]
    percent = 100 / both["test_mse_a"]
    halves = pd.Series([one.half if one else None for one in differences], dtype="Float64")
    both["change_percent"] = (both["test_mse_b"] - both["test_mse_a"]) * percent
    both["change_percent_low"] = both["change_percent"] - halves * percent
    both["change_percent_high"] = both["change_percent"] + halves * percent
    tolerance = TOLERANCE if loss_differences(a, b) else 0.0
    corrected = iter(holm([one.p_value for one in differences if one]))
    both["verdict"] = [
        _verdict(one, next(corrected), tolerance * before) if one else None
        for one, before in zip(differences, both["test_mse_a"], strict=True)
    ]
    alike = both["threads_a"].eq(both["threads_b"]) & both["compiled_a"].eq(both["compiled_b"])
    alike = alike.fillna(False) & (not speed_differences(a, b))
    for part in ("train", "infer"):
        plain, relative = (
            both[f"{part}_{what}_b"] / both[f"{part}_{what}_a"] for what in ("images_per_s", "vs_reference")
        )
        both[f"{part}_speed_ratio"] = plain.where(alike, relative)
    return both[
        [
            "variant", "found", "verdict", "test_mse_a", "test_mse_b", "change_percent", "change_percent_low",
            "change_percent_high", "rank_a", "rank_b", "num_params_a", "num_params_b", "train_speed_ratio",
            "infer_speed_ratio", "status_a", "status_b",
        ]
    ]  # fmt: skip


def regressions(compared: pd.DataFrame, percent: float) -> list[str]:
    """Return the variants whose loss is worse by more than so many per cent, by the evidence, or that now fail."""
    worse = (compared["verdict"] == "worse") & (compared["change_percent"] > percent)
    fails = (compared["status_a"] == "ok") & (compared["found"] == "both") & (compared["status_b"] != "ok")
    return list(compared.loc[worse | fails, "variant"])


def notes(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Say, a line each, what the reader of a comparison must know."""
    lines = [
        f"a: {a.path}; b: {b.path}; verdict on b, at 5 %, corrected for the number of variants (Holm)",
        "change_percent: test_mse of b over a's, with its 95 % interval over seeds and test images",
    ]
    one, other = (rows.summarise(run) for run in (a, b))
    if (one["seeds"] == 1).any() or (other["seeds"] == 1).any():
        lines.append("with one seed a verdict says nothing of how another seed would do")
    losses, speeds = loss_differences(a, b), speed_differences(a, b)
    joined = one.merge(other, on="variant").dropna(subset=["compiled_x", "compiled_y"])
    speeds += [name for name in ("threads", "compiled") if (joined[f"{name}_x"] != joined[f"{name}_y"]).any()]
    if losses:
        lines.append(f"the runs differ in {', '.join(losses)}: changes of less than {TOLERANCE:.0%} are not judged")
    if speeds:
        told = ", ".join(dict.fromkeys(speeds))
        lines.append(f"the runs differ in {told}: there, speeds are compared relative to the reference's")
    return lines


def loss_differences(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Return what may lead training along another path in b than in a, a phrase each."""
    return _environment(a, b, ("aezoo", "torch", "platform", "device", "device_name", "threads", "cuda"))


def speed_differences(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Return what forbids to compare the speeds of two runs as they are, a phrase each; none where they may be."""
    return _environment(a, b, ("device", "device_name", "threads", "torch"))


def _verdict(difference: Estimate, p_value: float, tolerance: float) -> str:
    if difference.value == 0:
        return "equal"
    if p_value >= 1 - CONFIDENCE or abs(difference.value) <= tolerance:
        return "no evidence"
    return "better" if difference.value < 0 else "worse"


def _environment(a: RunDirectory, b: RunDirectory, names: tuple[str, ...]) -> list[str]:
    one, other = (max(x.records().values(), key=lambda record: record.finished_at).environment for x in (a, b))
    return [
        f"{name} ({getattr(one, name)}, {getattr(other, name)})"
        for name in names
        if getattr(one, name) != getattr(other, name)
    ]


def _differences(a: RunInfo, b: RunInfo) -> list[str]:
    names = sorted(a.loss_settings.keys() | b.loss_settings.keys())
    return [
        f"{name} ({a.loss_settings.get(name)}, {b.loss_settings.get(name)})"
        for name in names
        if a.loss_settings.get(name) != b.loss_settings.get(name)
    ]
