"""Hold two runs against each other, variant by variant. It needs no torch."""

import pandas as pd

from aezoo import tables
from aezoo.errors import ComparisonRefusedError
from aezoo.records import RunInfo
from aezoo.store import RunDirectory


def compare(a: RunDirectory, b: RunDirectory) -> pd.DataFrame:
    """Return a row for each variant of either run: losses, sizes and, where they may be compared, speeds side by side.

    Speeds may be where device, torch and threads are equal, and both or neither were compiled. `change_percent` is how
    much higher test_mse is in b than in a; a speed ratio is b over a.

    Raises:
        ComparisonRefusedError: something that changes a loss differs between the runs; it is named.
    """
    info_a, info_b = a.info(), b.info()
    if info_a.fingerprint != info_b.fingerprint:
        differing = ", ".join(_differences(info_a, info_b))
        raise ComparisonRefusedError(
            f"{a.path} and {b.path} cannot be compared: they differ in {differing}; bench both with one recipe"
        )
    columns = [
        "variant", "num_params", "test_mse", "train_images_per_s", "infer_images_per_s", "status", "threads",
        "compiled",
    ]  # fmt: skip
    left, right = (tables.summarise(run)[columns] for run in (a, b))
    both = left.merge(right, on="variant", how="outer", suffixes=("_a", "_b"), indicator="found")
    both["found"] = both["found"].astype(str).map({"both": "both", "left_only": "a only", "right_only": "b only"})
    both["change_percent"] = 100 * (both["test_mse_b"] / both["test_mse_a"] - 1)
    alike = (both["threads_a"] == both["threads_b"]) & (both["compiled_a"] == both["compiled_b"])
    if speed_differences(a, b):
        alike[:] = False
    for part in ("train", "infer"):
        ratio = both[f"{part}_images_per_s_b"] / both[f"{part}_images_per_s_a"]
        both[f"{part}_speed_ratio"] = ratio.where(alike.fillna(False))
    both = both.sort_values(["test_mse_a", "test_mse_b"], na_position="last", ignore_index=True)
    return both[
        [
            "variant", "found", "test_mse_a", "test_mse_b", "change_percent", "num_params_a", "num_params_b",
            "train_speed_ratio", "infer_speed_ratio", "status_a", "status_b",
        ]
    ]  # fmt: skip


def speed_differences(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Return what forbids to compare the speeds of two runs, a phrase each; none where they may be."""
    one, other = a.info().environment, b.info().environment
    return [
        f"{name} ({getattr(one, name)}, {getattr(other, name)})"
        for name in ("device", "device_name", "threads", "torch")
        if getattr(one, name) != getattr(other, name)
    ]


def _differences(a: RunInfo, b: RunInfo) -> list[str]:
    names = sorted(a.loss_settings.keys() | b.loss_settings.keys())
    return [
        f"{name} ({a.loss_settings.get(name)}, {b.loss_settings.get(name)})"
        for name in names
        if a.loss_settings.get(name) != b.loss_settings.get(name)
    ]
