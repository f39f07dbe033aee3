"""What the reader of a table must know, a line each: settings, intervals, verdicts, failures, clocks. No torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from aezoo.contract.hyperparameters import without_folders
from aezoo.contract.recipe import Recipe
from aezoo.errors import plain
from aezoo.run.records import DatasetInfo
from aezoo.run.repetition import Repetition
from aezoo.run.store import RunDirectory
from aezoo.table import groups
from aezoo.table.pairs import MOST
from aezoo.table.priors import calibration_of
from aezoo.table.rows import (
    RANKED,
    UNSTEADY,
    ErrorsByVariant,
    pca_losses,
    records_by_variant,
    starts_the_same,
    timings_by_machine,
)
from aezoo.table.statistics import spread

LISTED = 200
"""Lines of one kind, about variants or trials, at the most."""


def verdicts(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say in a sentence for each code group what the evidence supports; `table` is the run's, in any order."""
    return [plain(line) for line in groups.verdicts(table.iloc[groups.order(table)], ErrorsByVariant(run))]


def headline(run: RunDirectory, table: pd.DataFrame) -> tuple[str, str]:
    """Say in two sentences what the evidence supports; `table` is the run's, in any order."""
    first, second = groups.headline(table.iloc[groups.order(table)], ErrorsByVariant(run))
    return plain(first), plain(second)


def notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say, a line each, what the reader of the table must know: settings, intervals, failures, unsteady clocks."""
    run = run.load()
    info = run.info()
    recipe = info.recipe
    lines = [
        f"recipe {recipe.name} ({info.fingerprint}): {without_folders(recipe.dataset)} ({counts(info.dataset)}), "
        f"{info.loss_settings['steps']} steps of {recipe.batch_size}, {recipe.updates} {_rates(recipe)}, "
        f"{recipe.loss}, {recipe.precision}",
        *(f"data: {note}" for note in info.dataset.notes),
        *_environment_notes(run),
        "rank: within its group, from the best to the worst that the evidence allows, Holm-corrected at 5 % over the "
        "group's pairs; --view flat has one rank over all, which is secondary",
        "test_mse: mean squared error a pixel over the test set, pixels in [0, 1], with its 95 % interval over seeds "
        "and test images; vs_pca: over PCA's at the same latent size",
    ]
    ranked = table[table["test_mse"].notna() & table["status"].isin(RANKED)]
    companies = [("all groups", len(ranked)), *ranked["group"].value_counts().items()]
    lines += [
        f"no interval of a rank in {name}: {size:,} variants are more than the {MOST:,} whose pairs are all judged"
        for name, size in companies
        if size > MOST
    ]
    if table[["bits", "active_units"]].notna().any(axis=None):
        lines.append("codes of numbers, of active units and of bits are different things, and not compared")
    lines += _seed_notes(run, table)
    exact = sorted(pca_losses(run)[1])
    if exact:
        sizes = ", ".join(map(str, exact))
        lines.append(f"no vs_pca at latent size {sizes}: PCA is exact there but for rounding")
    lines += _smoke_notes(run, table)
    lines += _speed_notes(run)
    lines += [f"no throughput: {reason}" for reason in dict.fromkeys(table["no_speed"].dropna())]
    lines += _anchor_notes(run)
    lines += _few([
        f"not deterministic: {variant}: one seed came to two networks in the preflight; its figures will not repeat"
        for variant in table.loc[table["deterministic"] == "no", "variant"]
    ])  # fmt: skip
    lines += _few(_plugin_notes(run))
    rates = info.recipe.rates
    if rates and table["lr"].isin([rates[0], rates[-1]]).any():
        lines.append("* the best learning rate of the list is at its edge: one beyond it may be better still")
    unsteady = table[(table["train_spread"] > UNSTEADY) | (table["infer_spread"] > UNSTEADY)]
    if len(unsteady):
        lines.append(f"~ the rounds of this speed spread over more than {UNSTEADY:.0%} of it: do not lean on it")
    records = run.records()
    requested = [trial_id for trial_ids in info.rows.values() for trial_id in trial_ids]
    ended = [records[trial_id] for trial_id in requested if trial_id in records]
    lines += _few([
        f"{record.status}: {record.label}: {record.reason}"
        for record in ended
        if record.status not in ("ok", "interrupted")
    ])  # fmt: skip
    left = sum(trial_id not in records or records[trial_id].status == "interrupted" for trial_id in requested)
    if running := len(run.running()):
        lines.append(f"running: {running} trials; {left - running} more have not ended")
    elif left:
        lines.append(f"interrupted: {left} trials have not ended; the same command goes on with them")
    return [plain(line) for line in lines]


def counts(data: DatasetInfo) -> str:
    """Say how many images of which shape a data set has."""
    shape = "x".join(map(str, data.image_shape))
    return f"{data.num_train:,} images of {shape} to train on, {data.num_test:,} that test"


def _smoke_notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say that so few steps compare nothing: of the quick recipe, and where half is no better than the mean image."""
    trained = [variant for variant, records in records_by_variant(run).items() if any(each.curve for each in records)]
    floor = table.loc[table["baseline"] == "mean", "test_mse"].min()
    losses = table.loc[table["variant"].isin(trained), "test_mse"].dropna()
    behind = int((losses >= floor).sum())
    steps = run.info().loss_settings["steps"]
    if not behind or 2 * behind < len(losses):
        is_quick = run.info().recipe.name == "quick" and len(losses)
        line = f"a smoke test: {steps:,} steps show that all runs, and compare nothing; the default recipe has 1,000"
        return [line] if is_quick else []
    return [
        f"a smoke test: {behind} of {len(losses)} trained variants are no better than the mean image, {steps:,} steps "
        "show that they run, and no more; the default recipe has 1,000"
    ]


def _few(lines: Sequence[str]) -> list[str]:
    """Return lines of one kind, and of very many the first ones and how many there are."""
    if len(lines) <= LISTED:
        return list(lines)
    return [
        *lines[:LISTED],
        f"... and {len(lines) - LISTED:,} more such lines, of {len(lines):,}: the records hold them",
    ]


def _rates(recipe: Recipe) -> str:
    """Say which question a recipe asks: one learning rate for all, or each variant's own best."""
    if not recipe.rates:
        return "(out of the box: one learning rate for all)"
    return f"(tuned on {recipe.validation:.0%} of the training images, held out)"


def _environment_notes(run: RunDirectory) -> list[str]:
    """Say with what, and on which machines, the trials ran."""
    records = [record for some in records_by_variant(run).values() for record in some]
    variants: dict[str, list[str]] = defaultdict(list)
    for record in records:
        env = record.environment
        shares = f" in each of its {record.processes} processes" if record.processes > 1 else ""
        variants[
            f"aezoo {env.aezoo}, torch {env.torch}, {env.device_name}, {_count(env.threads, 'thread')} a trial{shares}"
        ].append(record.variant)
    if len(variants) < 2:
        return list(variants)
    most_first = sorted(variants.items(), key=lambda each: len(each[1]), reverse=True)
    return [f"{_count(len(some), 'trial')}, of {listed(some)}: {circumstances}" for circumstances, some in most_first]


def _seed_notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say what the intervals lean on beside the table's own seeds, and what more seeds would bring."""
    calibration = calibration_of(run)
    trained = table[table["seeds"] > 0]
    if run.info().dataset.num_test == 1:
        return ["no intervals: a single image tests, and tells nothing of another one"]
    if calibration is not None:
        used = ", ".join(f"{name} {group.sd:.2g}" for name, group in calibration.groups.items())
        return [
            f"seeds: their spread is moderated by a calibration of seeds {calibration.seeds} (sd of the log: {used}; "
            f"aezoo {calibration.aezoo}, torch {calibration.torch}, {calibration.device_name})"
        ]
    if not len(trained):
        return []
    few = int(trained["seeds"].min())
    said = "no calibration for this recipe and data set: "
    if few == 1:
        single = int((trained["seeds"] == 1).sum())
        return [
            f"{said}one seed, as of {_count(single, 'variant')}, tells nothing of another one: such intervals are over "
            "the test images alone, and not ranked; give --seeds 3"
        ]
    from scipy.special import stdtrit

    widths = [float(-stdtrit(count - 1, 0.025)) / count**0.5 for count in (few, few + 3)]
    return [
        f"{said}with {few} seeds each counts for itself (Student's t); three more would make their part of an interval "
        f"{widths[0] / widths[1]:.1f} times as narrow"
    ]


def _speed_notes(run: RunDirectory) -> list[str]:
    """Say on which machine the speeds were measured, and how, what they are relative to, and what others measured."""
    machines = timings_by_machine(run)
    if not machines:
        return []
    ((device, name, version), timings), *others = machines.items()
    some = list(timings.values())
    threads = sorted({timing.environment.threads for timing in some})
    compiled = sorted({"compiled" if timing.compiled else "not compiled" for timing in some}, reverse=True)
    speeds = (
        f"images_per_s: batches of {some[0].batch_size}, {' or '.join(map(str, threads))} "
        f"{'thread' if threads == [1] else 'threads'}, {some[0].precision}, {' or '.join(compiled)}, "
        f"{device}: {name}, torch {version}"
    )
    if any(record.processes > 1 for records in records_by_variant(run).values() for record in records):
        speeds += "; of one process, however many a trial has"
    rate = [rate for timing in some for rate in timing.matmul_flops_per_s]
    if rate:
        speeds += f"; a product of two matrices ran at {spread(rate).median / 1e9:,.0f} GFLOP/s"
    references = sorted({timing.reference for timing in some if timing.reference})
    lines = [speeds, *(f"vs_reference: the speed over that of {name}, timed in the same rounds" for name in references)]
    return lines + [
        f"timed elsewhere, and not in these columns: {_count(len(timings), 'variant')} on {device}: {name}, "
        f"torch {version}"
        for (device, name, version), timings in others
    ]


def _anchor_notes(run: RunDirectory) -> list[str]:
    """Say how recorded trials came out again, which were repeated before variants were added to the run."""
    anchors = [anchor for anchor in run.anchors() if anchor.run is None]
    same = sum(anchor.verdict == "bit-equal" for anchor in anchors)
    lines = [f"before variants were added, {_count(same, 'recorded trial')} came out bit-equal again"] if same else []
    lines += [f"warning: {anchor.line}" for anchor in anchors if anchor.verdict != "bit-equal"]
    return lines + merged_notes(run.anchors())


def merged_notes(anchors: Iterable[Repetition]) -> list[str]:
    """Say of each run that was merged into another how the trials came out that both had."""
    by_run: dict[str, list[Repetition]] = defaultdict(list)
    for anchor in anchors:
        if anchor.run is not None:
            by_run[anchor.run].append(anchor)
    lines = []
    for name, some in by_run.items():
        verdicts = Counter(anchor.verdict for anchor in some)
        parts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        differences = dict.fromkeys(each for anchor in some for each in anchor.differences)
        circumstances = "; ".join(differences) or "in the same circumstances"
        lines.append(
            f"merged with {name}, which had {_count(len(some), 'trial')} of these too: {parts}; {circumstances}"
        )
    return lines


def listed(variants: Iterable[str], most: int = 5) -> str:
    """Return variants in a line, each once: the first of them by name, and how many more there are."""
    names = list(dict.fromkeys(variants))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _plugin_notes(run: RunDirectory) -> list[str]:
    """Give the reasons of the exceptions that authors declared, and why a metric is missing."""
    lines: list[str] = []
    missing: dict[str, list[tuple[str, str]]] = {}
    for measurement in run.measurements():
        if measurement.reason is not None:
            missing.setdefault(measurement.trial_id, []).append((measurement.metric, measurement.reason))
    for variant, records in records_by_variant(run).items():
        for record in records:
            lines += [
                f"exception: {variant}: {name!r} is not met, by its author's declaration: {reason}"
                for name, reason in record.exceptions.items()
            ]
            lines += [f"adapted: {variant}: {what}" for what in record.adaptations]
            lines += [f"note: {variant}: {note}" for note in record.notes]
            if starts_the_same(records):
                lines.append(f"note: {variant}: every seed starts from the same weights, so that its interval is none")
            lines += [f"no {name} of {variant}: {reason}" for name, reason in missing.get(record.trial_id, [])]
    return list(dict.fromkeys(lines))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
