"""What `device.py` holds a device to: the bounds, each with its reason, and a function for each check.

They measure nothing. A check is a row: what was expected, what came, and the verdict. Each has a fault in
`tests/test_device.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aezoo.run.records import Timing, TrialRecord
from aezoo.run.repetition import Repetition
from aezoo.table.statistics import spread

LOSSES = {"closed forms": 1e-3, "trained": 0.01, "trained with noise": 0.05, "discrete codes": 0.2}
"""How far a loss may lie from the CPU's, over it, by kind. A device takes its sums in another order, and training
takes that further: weights moved by a part in ten million moved a loss of 100 steps by 0.0011 at the most, by less
than 1e-6 in 52 of the zoo's 63 variants that train, and by 0.0065 where a code may jump. Noise that a network draws
while it trains is another one on another device, as from another seed: that moved a loss by 0.010 at the most, and by
0.043 where codes that are not used are drawn anew. Closed forms are found in float64, and differ by their rounding to
float32."""
EXACT = 1e-6
"""The relative error of a product in float32; of one whose factors are rounded to TF32's 10 bits it is 2e-4 here."""
BFLOAT16 = 0.1
"""How far a loss of bfloat16 may lie from float32's: its products have 8 bits, its sums more."""
CLOCK = 2.0
"""A factor within which two clocks agree on a machine that is not quiet; one that does not wait is off by more."""
AGREE = 0.1
"""How far two measures of one network may lie apart where their rounds spread by less."""
FASTER = 5.0
"""How many times as fast a CUDA graph takes a step of the `mlp`, 128 images each."""

Verdict = Literal["pass", "FAIL", "not here"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A check: what was expected, what came, and the verdict."""

    check: str
    expected: str
    got: str
    verdict: Verdict


def row(check: str, expected: str, got: str, passed: bool | None) -> Row:
    """Return a check's row; `passed` is None where the device has nothing to check."""
    verdict: Verdict = "not here" if passed is None else "pass" if passed else "FAIL"
    return Row(check=check, expected=expected, got=got, verdict=verdict)


def ok(records: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    """Return the records of trials that have a loss, by variant."""
    return {record.variant: record for record in records if record.status == "ok"}


def over(records: Iterable[TrialRecord], others: Iterable[TrialRecord]) -> dict[str, float]:
    """Return the losses of records over those of others, by variant."""
    here, there = ok(records), ok(others)
    return {
        variant: (here[variant].test_mse or 0.0) / (there[variant].test_mse or 0.0)
        for variant in here
        if variant in there
    }


def listed(failures: Iterable[str], otherwise: str) -> str:
    """Return what failed, or what is said where nothing did."""
    return "; ".join(failures) or otherwise


def judge_trials(records: Sequence[TrialRecord]) -> Row:
    """Every trial came to a loss."""
    failures = [f"{record.variant}: {record.status}: {record.reason}" for record in records if record.status != "ok"]
    return row("trials", f"{len(records)} ok", listed(failures, f"{len(records)} ok"), not failures)


def judge_losses(
    records: Sequence[TrialRecord], reference: Sequence[TrialRecord], noisy: Callable[[TrialRecord], bool]
) -> Iterator[Row]:
    """Losses are the CPU's, within the bound of their kind."""
    here = ok(records)
    ratios: dict[str, dict[str, float]] = {kind: {} for kind in LOSSES}
    for variant, ratio in over(records, reference).items():
        ratios[_kind(here[variant], noisy)][variant] = ratio
    for kind, bound in LOSSES.items():
        some = ratios[kind]
        failures = [f"{name} {ratio:.6f}" for name, ratio in sorted(some.items()) if not abs(ratio - 1) <= bound]
        farthest = max(some, key=lambda name: abs(some[name] - 1), default="")
        got = listed(failures, f"{len(some)}; farthest {farthest} {some[farthest]:.6f}" if some else "none")
        yield row(f"losses: {kind}", f"over the CPU's 1 within {bound:g}", got, not failures if some else None)


def _kind(record: TrialRecord, noisy: Callable[[TrialRecord], bool]) -> str:
    if record.latent_kind == "discrete":
        return "discrete codes"
    if not record.curve:
        return "closed forms"
    return "trained with noise" if noisy(record) else "trained"


def judge_repetitions(repetitions: Sequence[Repetition]) -> Row:
    """Each trial, repeated, is the same to the bit."""
    failures = [f"{each.variant}: {each.verdict}" for each in repetitions if each.verdict != "bit-equal"]
    got = listed(failures, f"{len(repetitions)} bit-equal")
    return row("repeated trials", f"{len(repetitions)} bit-equal", got, not failures if repetitions else None)


def judge_graphs(records: Sequence[TrialRecord], single: Sequence[TrialRecord]) -> Iterator[Row]:
    """What a CUDA graph trained is the same to the bit as what steps on their own did, and the others say why not."""
    trained = {variant: record for variant, record in ok(records).items() if record.curve}
    graphed = {variant: record for variant, record in trained.items() if record.graph_steps is not None}
    others = ok(single)
    failures = [
        variant
        for variant, record in graphed.items()
        if variant not in others or record.test_errors_sha256 != others[variant].test_errors_sha256
    ]
    expected = "what they train is bit-equal to steps on their own"
    yield row(
        "CUDA graphs", expected, listed(failures, f"{len(graphed)}, of {len(trained)} that train: bit-equal"),
        not failures if graphed else None,
    )  # fmt: skip
    without = [variant for variant, record in trained.items() if record.graph_steps is None]
    reasons = [f"{variant}: {trained[variant].graph_missing}" for variant in without]
    passed = all(trained[variant].graph_missing for variant in without) if graphed else None
    yield row("no CUDA graph", "each says why", listed(reasons, "none"), passed)


def judge_company(together: Sequence[TrialRecord], alone: Sequence[TrialRecord], seeds: int) -> Row:
    """A trial's errors do not depend on which trials its process trains with it."""
    expected = {record.trial_id: record.test_errors_sha256 for record in alone}
    failures = [record.label for record in together if record.test_errors_sha256 != expected.get(record.trial_id)]
    beside = {record.side_by_side for record in together if record.curve}
    if beside != {seeds}:
        failures.append(f"side by side: {sorted(beside)}")
    got = listed(failures, f"{len(together)} bit-equal, {seeds} at the same time")
    return row("seeds together", "as if each ran alone", got, not failures)


def judge_steps(seconds: Mapping[str, float]) -> Row:
    """A CUDA graph takes the steps of a small network at least so many times as fast; `seconds` are those of a step."""
    got = ", ".join(f"{name} {1e6 * each:,.0f} us" for name, each in seconds.items())
    ratio = seconds["on its own"] / seconds["by a graph"]
    expected = f"at least {FASTER:g} times as fast by a graph"
    return row("a step of the mlp", expected, f"{got}; {ratio:.1f}", ratio >= FASTER)


def judge_determinism(records: Sequence[TrialRecord]) -> Row:
    """No variant's own steps came to two networks from one seed."""
    failures = [variant for variant, record in ok(records).items() if not record.deterministic]
    return row("steps from one seed", "the same twice", listed(failures, "the same twice"), not failures)


def judge_memory(records: Sequence[TrialRecord], field: str) -> Row:
    """A trial's peak holds its parameters."""
    peaks = {variant: (getattr(record, field), 4 * (record.num_params or 0)) for variant, record in ok(records).items()}
    counted = {variant: pair for variant, pair in peaks.items() if pair[0] is not None}
    failures = [f"{variant}: {peak:,} B" for variant, (peak, least) in counted.items() if peak < least]
    largest = max((peak for peak, _ in counted.values()), default=0)
    got = listed(failures, f"{len(counted)}; {largest / 1e6:,.0f} MB at most")
    return row("peak memory", "at least the parameters", got, not failures if counted else None)


def judge_growth(small: int | None, large: int | None) -> Row:
    """A larger batch takes more memory."""
    if small is None or large is None:
        return row("memory of a batch", "torch counts it", "it does not", None)
    got = f"{small / 1e6:,.1f} MB, {large / 1e6:,.1f} MB"
    return row("memory of a batch", "of 1,024 more than of 128", got, large > small)


def judge_out_of_memory(records: Sequence[TrialRecord], batch_size: int) -> Row:
    """Out of memory is told from a crash, the batch is not touched, and the run goes on."""
    found = {record.architecture: record for record in records}
    starved, other = found["starved"], found["mlp"]
    passed = (starved.status, other.status) == ("out_of_memory", "ok") and starved.recipe.batch_size == batch_size
    got = f"{starved.status}, batch {starved.recipe.batch_size}; the next: {other.status}"
    reason = "" if passed else f" ({starved.reason})"
    return row("out of memory", f"out_of_memory, batch {batch_size}; the next: ok", got + reason, passed)


def judge_clock(ratio: float) -> Row:
    """The clock waits for what it was given: it says the same as one that reads each result."""
    expected = f"its speed over that of results read 1/{CLOCK:g} to {CLOCK:g}"
    return row("clock, a product", expected, f"{ratio:.2f}", 1 / CLOCK < ratio < CLOCK)


def judge_work(ratio: float) -> Row:
    """Work is not counted as done when it is queued: eight times as much takes eight times as long."""
    return row("clock, 8 times the FLOPs", "4 to 16 times as long", f"{ratio:.1f}", 4 < ratio < 16)


def judge_twice(timing: Timing | None) -> Row:
    """Two measures of one network in the same rounds agree within what the rounds say of their noise."""
    if timing is None:
        return row("clock, one network twice", "two measures", "none: it could not be timed", False)
    parts = []
    passed = True
    for name in ("train", "infer"):
        own, other = (spread(getattr(timing, f"{of}{name}_images_per_s")) for of in ("", "reference_"))
        ratio, noise = own.median / other.median, max(AGREE, own.iqr + other.iqr)
        parts.append(f"{name} {ratio:.2f} (noise {noise:.2f})")
        passed &= abs(ratio - 1) <= noise
    return row("clock, one network twice", "1 within the rounds' spread, or 0.1", ", ".join(parts), passed)


def judge_products(errors: Mapping[str, float]) -> Row:
    """A float32 that is true."""
    got = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    return row("float32", f"relative error at most {EXACT:g}", got, max(errors.values()) <= EXACT)


def judge_tf32(refused: bool, error: float, has_it: bool) -> Row:
    """TF32 where there is one; elsewhere it is refused."""
    expected = "rounded to 10 bits, or refused by an old one" if has_it else "refused"
    got = "refused" if refused else f"relative error {error:.1e}"
    return row("tf32", expected, got, refused or (has_it and 1e-5 < error < 1e-3))


def judge_bfloat16(records: Sequence[TrialRecord], float32: Sequence[TrialRecord]) -> Row:
    """bfloat16 runs, and its losses are float32's but for its rounding."""
    ratios = over(records, float32)
    failures = [f"{record.variant}: {record.status}: {record.reason}" for record in records if record.status != "ok"]
    failures += [f"{name} {ratio:.4f}" for name, ratio in ratios.items() if not abs(ratio - 1) <= BFLOAT16]
    got = listed(failures, ", ".join(f"{name} {ratio:.4f}" for name, ratio in sorted(ratios.items())))
    return row("bfloat16", f"loss over float32's 1 within {BFLOAT16:g}", got, not failures)
