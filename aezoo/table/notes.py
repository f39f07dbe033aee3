"""What the reader of a run's table must know, a line each. It runs nothing, and needs no torch."""

import pandas as pd

from aezoo.run.store import RunDirectory
from aezoo.table.rows import UNSTEADY, records_by_variant, timing_of
from aezoo.table.statistics import spread
from aezoo.text import plain


def notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say, a line each, what the reader of the table must know: settings, intervals, failures, unsteady clocks."""
    info = run.info()
    recipe, env = info.recipe, info.environment
    lines = [
        f"recipe {recipe.name} ({info.fingerprint}): {recipe.dataset}, {info.loss_settings['steps']} steps of "
        f"{recipe.batch_size}, {recipe.optimizer} {recipe.lr:g}, {recipe.loss}, {recipe.precision}; "
        f"aezoo {env.aezoo}, torch {env.torch}, {env.device_name}, {_count(env.threads, 'thread')} a trial",
        "rank: by test_mse; in brackets from the best to the worst that the evidence allows, Holm-corrected over all "
        "pairs at 5 %; few seeds separate little",
        "test_mse: mean squared error a pixel over the test set, pixels in [0, 1]; low, high: its 95 % interval over "
        "seeds and test images",
        "vs_pca: test_mse over PCA's at the same latent size; below 1 is better than PCA",
    ]
    if table[["bits", "active_units"]].notna().any(axis=None):
        lines.append(
            "bits, active_units: what an image's code takes where it is discrete, codes times log2 K, and how many of "
            "its numbers are not 0 where it is sparse; such latents are not comparable by their size, nor with PCA"
        )
    single = int((table["seeds"] == 1).sum())
    if single:
        lines.append(
            f"{_count(single, 'variant')} with one seed: interval and ranks say nothing of how another seed would do"
        )
    lines += _speed_notes(run)
    lines += _anchor_notes(run)
    lines += [
        f"not deterministic: {variant}: one seed came to two networks in the preflight; its figures will not repeat"
        for variant in table.loc[table["deterministic"] == "no", "variant"]
    ]
    lines += _plugin_notes(run)
    unsteady = table[(table["train_spread"] > UNSTEADY) | (table["infer_spread"] > UNSTEADY)]
    if len(unsteady):
        lines.append(f"~ the rounds of this speed spread over more than {UNSTEADY:.0%} of it: do not lean on it")
    records = run.records()
    for trial_ids in info.requested.values():
        for trial_id in trial_ids:
            record = records.get(trial_id)
            if record and record.status not in ("ok", "interrupted"):
                lines.append(f"{record.status}: {record.variant} seed {record.seed}: {record.reason}")
    asked = [trial_id for trial_ids in info.requested.values() for trial_id in trial_ids]
    left = sum(trial_id not in records or records[trial_id].status == "interrupted" for trial_id in asked)
    if left:
        lines.append(f"interrupted: {left} trials have not ended; the same command goes on with them")
    return [plain(line) for line in lines]


def _speed_notes(run: RunDirectory) -> list[str]:
    """Say under which circumstances the speeds were measured, and what they are relative to."""
    records = run.records()
    asked = [records[trial_id] for ids in run.info().requested.values() for trial_id in ids if trial_id in records]
    timings = [timing for record in asked if (timing := timing_of(run, [record]))]
    if not timings:
        return []
    one = timings[0]
    env = one.environment
    told = (
        f"images_per_s: batches of {one.batch_size}, {_count(env.threads, 'thread')}, {one.precision}, "
        f"{'compiled' if one.compiled else 'not compiled'}, {env.device}: {env.device_name}"
    )
    rate = [rate for timing in timings for rate in timing.matmul_flops_per_s]
    if rate:
        told += f"; a product of two matrices ran at {spread(rate).median / 1e9:,.0f} GFLOP/s"
    references = sorted({timing.reference for timing in timings if timing.reference})
    return [told] + [f"vs_reference: the speed over that of {name}, timed in the same rounds" for name in references]


def _anchor_notes(run: RunDirectory) -> list[str]:
    """Say how recorded trials came out again, which were repeated before variants were added to the run."""
    anchors = run.anchors()
    same = sum(one.verdict == "bit-equal" for one in anchors)
    lines = [f"before variants were added, {_count(same, 'recorded trial')} came out bit-equal again"] if same else []
    return lines + [f"warning: {one.told}" for one in anchors if one.verdict != "bit-equal"]


def _plugin_notes(run: RunDirectory) -> list[str]:
    """Give the reasons of the exceptions that authors declared, and why a metric is missing."""
    lines: list[str] = []
    for variant, records in records_by_variant(run).items():
        for record in records:
            lines += [
                f"exception: {variant}: {name!r} is not met, by its author's declaration: {reason}"
                for name, reason in record.exceptions.items()
            ]
            lines += [f"no {name} of {variant}: {reason}" for name, reason in record.metric_errors.items()]
    return list(dict.fromkeys(lines))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
