"""Make one run of several, also of strangers: where settings agree, and the trials that they share came out alike.

It runs nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import tomli_w

from aezoo.errors import AezooError, ComparisonRefusedError, counted, plain, reason_of
from aezoo.page import page
from aezoo.run.again import again
from aezoo.run.files import DamagedFileError, new_files, write_text
from aezoo.run.records import RunInfo, TrialRecord, identity
from aezoo.run.repetition import Repetition, repeated
from aezoo.run.samples import TestImages
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import ARTIFACTS, TEST_ERRORS, RunDirectory
from aezoo.table import priors, render
from aezoo.table.compare import differing_settings, network_changes
from aezoo.table.notes import listed, merged_notes

_NAMED = 3
"""So many trials that did not come out alike are told of."""
_COMPUTED = ("ok", "diverged")
"""What came of a trial's numbers alone, on whatever machine."""


def merge(paths: Sequence[str | Path], out: str | Path) -> list[str]:
    """Make one run of several, whole or not at all, and return what there is to say of it, a line each.

    Nothing of them is changed, but that damaged files are set aside, as whenever a run is read.

    Trials of one identity stand for one another: one that ended well before one that did not, and of a variant that
    several runs have those of the run in which most ended well, of equals the first. How the trials that several have
    came out is written beside them, as anchors.

    Raises:
        ComparisonRefusedError: their settings differ, a variant is another network in one of them, a trial that two
            have, or that was repeated in one, did not come out alike, or they have no trained trial in common.
        AezooError: these are not two runs or more, or there is something at `out`.
        StorageError: the folder cannot be written.
    """
    target = Path(out)
    directories = [RunDirectory(path).require() for path in paths]
    folders = {directory.path.resolve() for directory in directories}
    if len(folders) < max(2, len(directories)):
        raise AezooError("give two runs or more, each once: they become one, in a folder of its own (-o)")
    if inside := folders & {target.resolve(), *target.resolve().parents}:
        raise AezooError(f"{target} lies in {inside.pop()}, which is merged, and stays as it is: give another folder")
    union = _Union(tuple(directory.load() for directory in directories))
    union.check()
    anchors = union.anchors()
    with new_files(target) as folder:
        lines = union.write(RunDirectory(folder), anchors)
    merged = RunDirectory(target).load()
    render.write(merged)
    lines += _page(merged)
    return [plain(line) for line in [*merged_notes(anchors), *lines]]


@dataclass(frozen=True)
class _Union:
    """Runs that are to be one."""

    runs: tuple[Snapshot, ...]

    def check(self) -> None:
        """Refuse what does not compare.

        Raises:
            ComparisonRefusedError: it is named.
        """
        seen: dict[str, tuple[Snapshot, TrialRecord]] = {}
        for run in self.runs:
            if broken := next((each for each in run.anchors() if each.verdict == "not reproduced"), None):
                raise ComparisonRefusedError(f"{run.path} cannot be merged: {broken.line}")
            for record in run.records().values():
                if _terms(record) != _terms(run.info()):
                    raise ComparisonRefusedError(
                        f"{run.path} cannot be merged: its trial {record.trial_id} was made on other terms than the run"
                    )
                before, same = seen.setdefault(record.trial_id, (run, record))
                if identity(record, record.environment) != identity(same, same.environment):
                    raise ComparisonRefusedError(
                        f"{before.path} and {run.path} cannot be merged: {record.trial_id} is another trial in each"
                    )
        for first, run in combinations(self.runs, 2):
            if differing := _differing(first.info(), run.info()):
                raise ComparisonRefusedError(
                    f"{first.path} and {run.path} cannot be merged: they differ in {', '.join(differing)}; bench both "
                    "with one recipe, on one kind of device"
                )
            if changed := _other_networks(first, run):
                named = "; ".join(f"{what}: {listed(variants)}" for what, variants in changed.items())
                raise ComparisonRefusedError(
                    f"{first.path} and {run.path} cannot be merged: by one name they have other networks, {named}; "
                    "bench those anew in one of them, with the plugin of the other"
                )

    def leading(self, variant: str) -> list[Snapshot]:
        """Return the runs, first the one in which most trials of a variant ended well."""
        return sorted(self.runs, key=lambda run: -sum(record.status == "ok" for record in _of(run, variant)))

    @cached_property
    def requested(self) -> dict[str, list[str]]:
        """The ids of the trials of each variant: those of the run that leads, and more seeds of it from another one."""
        variants = dict.fromkeys(variant for run in self.runs for variant in run.info().requested)
        requested: dict[str, list[str]] = {}
        for variant in variants:
            lists = [ids for run in self.leading(variant) if (ids := run.info().requested.get(variant))]
            longest = lists[0]
            for ids in lists[1:]:
                longest = ids if ids[: len(longest)] == longest else longest
            requested[variant] = longest
        return requested

    @cached_property
    def standing(self) -> dict[str, tuple[Snapshot, TrialRecord]]:
        """The record of each trial that stands, and the run that it is from, by trial id."""
        several: dict[str, list[tuple[Snapshot, TrialRecord]]] = defaultdict(list)
        for run in self.runs:
            for trial_id, record in run.records().items():
                several[trial_id].append((run, record))
        order = {variant: self.leading(variant) for variant in {some[0][1].variant for some in several.values()}}

        def place(own: tuple[Snapshot, TrialRecord]) -> tuple[bool, bool, int]:
            run, record = own
            return record.status != "ok", record.status == "interrupted", order[record.variant].index(run)

        return {trial_id: min(some, key=place) for trial_id, some in several.items()}

    def anchors(self) -> list[Repetition]:
        """Hold the trials that several runs have against each other.

        Raises:
            ComparisonRefusedError: one did not come out alike, or no trained trial is in common.
        """
        shared: dict[tuple[object, ...], list[tuple[Snapshot, TrialRecord]]] = defaultdict(list)
        for variant in self.requested:
            for run in self.leading(variant):
                for record in _of(run, variant):
                    if record.status in _COMPUTED and record.deterministic is not False:
                        source = record.plugin.source_sha256
                        shared[variant, record.seed, source, record.lr].append((run, record))
        anchors, apart = [], []
        alike: dict[Path, set[Path]] = defaultdict(set)
        for (run, record), *others in shared.values():
            for other, repetition in ((other, repeated(record, after, str(other.path))) for other, after in others):
                anchors.append(repetition)
                if repetition.verdict == "not reproduced":
                    apart.append(f"in {run.path}, {repetition.line}")
                elif record.status == "ok" and (record.curve or not (_trained(run) and _trained(other))):
                    alike[run.path].add(other.path)
                    alike[other.path].add(run.path)
        if apart:
            more = f"; and {len(apart) - _NAMED} more" if len(apart) > _NAMED else ""
            raise ComparisonRefusedError(
                f"these runs cannot be merged: of {counted(len(anchors), 'trial')} that two of them have, {len(apart)} "
                f"did not come out alike: {'; '.join(apart[:_NAMED])}{more}; `aezoo reproduce RUN TRIAL` says which of "
                "two repeats here"
            )
        reached, new = {self.runs[0].path}, {self.runs[0].path}
        while new := {path for each in new for path in alike[each]} - reached:
            reached |= new
        if lonely := next((run for run in self.runs if run.path not in reached), None):
            raise ComparisonRefusedError(_no_anchor(self.runs[0], lonely))
        return anchors

    def write(self, merged: RunDirectory, anchors: Iterable[Repetition]) -> list[str]:
        """Write the one run, and say, a line each, what the reader must know."""
        lines = []
        merged.request(self._info(), self.requested)
        for run, record in self.standing.values():
            files = {}
            for name in _kept(run, record):
                try:
                    files[name] = run.read_artifact(record, name)[1]
                except DamagedFileError as error:
                    if name == TEST_ERRORS:
                        raise
                    lines.append(f"warning: {error}; it is left out")
            merged.write_trial(record, files)
        self._write_measurements(merged)
        self._write_timings(merged)
        repetitions = (each for run in self.runs for each in run.anchors() if each.trial_id in self.standing)
        # Of two of one trial on one kind of machine the last one stands.
        for repetition in [*sorted(repetitions, key=lambda each: each.repeated_at), *anchors]:
            merged.write_anchor(repetition)
        images = [kept for run in self.runs if (kept := run.read_images())]
        if images:
            alike = [kept for kept in images[::-1] if kept.choice == images[0].choice]
            pixels = {place: each for kept in alike for place, each in kept.pixels.items()}
            labels = {place: label for kept in alike for place, label in kept.labels.items()}
            merged.write_images(TestImages(choice=images[0].choice, pixels=pixels, labels=labels))
        return [*self._lines(), *self._write_calibration(merged), *lines]

    def _info(self) -> RunInfo:
        """Return the first run's settings, with what an aezoo of before left out of them."""
        infos = [run.info() for run in self.runs]
        return infos[0].model_copy(
            update={
                "preprocessing": next((info.preprocessing for info in infos if info.preprocessing), None),
                "label_names": next((info.label_names for info in infos if info.label_names), []),
                "requested": {},
            }
        )

    def _lines(self) -> list[str]:
        """Say whose trials stand where several runs have a variant."""
        leaders: dict[Path, list[str]] = defaultdict(list)
        beside: dict[Path, list[str]] = defaultdict(list)
        for variant, ids in self.requested.items():
            having = [run for run in self.leading(variant) if variant in run.info().requested]
            if len(having) > 1:
                leaders[having[0].path].append(variant)
            for run in having:
                own = run.info().requested[variant]
                if own != ids[: len(own)]:
                    beside[run.path].append(variant)
        lines = [f"of what several runs have, those of {path} stand: {listed(some)}" for path, some in leaders.items()]
        return lines + [
            f"made with another aezoo, torch, number of threads or learning rate in {path}, and kept, but not in the "
            f"table: {listed(some)}"
            for path, some in beside.items()
        ]

    def _write_measurements(self, merged: RunDirectory) -> None:
        """Write the metrics of the networks that stand; of one that several runs have, the first run's."""
        for run in self.runs[::-1]:
            for measurement in run.measurements():
                _, record = self.standing.get(measurement.trial_id, (None, None))
                if record is not None and record.weights_sha256 == measurement.weights_sha256:
                    merged.write_measurement(measurement)

    def _write_timings(self, merged: RunDirectory) -> None:
        """Write the timings; of one that several runs have, the first run's."""
        records = [record for _, record in self.standing.values()]
        plans = {(each.variant, each.plugin.source_sha256, each.compiled): each for each in records}.values()
        for run in self.runs[::-1]:
            timings = run.timings()
            for environment in {timing.environment: None for timing in timings.values()}:
                for plan in plans:
                    timing = timings.get(run.timing_path(plan, environment).name)
                    if timing is not None:
                        merged.write_timing(plan, timing)

    def _write_calibration(self, merged: RunDirectory) -> list[str]:
        """Write the first calibration that lies in one of the runs, and say where another one has another."""
        own = {run.path: priors.calibration_of(run) for run in self.runs if (run.path / priors.FILE).is_file()}
        if not own:
            return []
        (path, calibration), *others = own.items()
        assert calibration is not None
        write_text(merged.path / priors.FILE, tomli_w.dumps(calibration.model_dump()))
        return [
            f"{priors.FILE} is that of {path}; {other} has another" for other, each in others if each != calibration
        ]


def _of(run: Snapshot, variant: str) -> list[TrialRecord]:
    """Return the records of a variant that was asked for in a run."""
    records = run.records()
    return [records[trial_id] for trial_id in run.info().requested.get(variant, ()) if trial_id in records]


def _terms(of: RunInfo | TrialRecord) -> dict[str, object]:
    """Return what the trials of a run have in common beside the settings of its recipe, by name."""
    names = ("sha256", "image_shape", "num_train", "num_test")
    facts = {name: getattr(of.dataset, name) for name in names}
    return {"fingerprint": of.fingerprint, "device": of.device, **facts}


def _differing(a: RunInfo, b: RunInfo) -> list[str]:
    """Return what two runs must have in common, and have not, field by field."""
    settings = differing_settings(a, b)
    before, after = _terms(a), _terms(b)
    # What a fingerprint stands for is named by the settings.
    named = {"fingerprint", "sha256"} if settings else set()
    others = (name for name in before if before[name] != after[name] and name not in named)
    return settings + [f"{name} ({before[name]}, {after[name]})" for name in others]


def _other_networks(a: Snapshot, b: Snapshot) -> dict[str, list[str]]:
    """Return the variants of two runs that are another network in each, by what makes them so."""
    changed: dict[str, list[str]] = defaultdict(list)
    for variant in a.info().requested:
        for before, after in zip(_of(a, variant)[:1], _of(b, variant)[:1], strict=False):
            if changes := network_changes(before, after):
                changed["; ".join(changes)].append(variant)
    return changed


def _trained(run: Snapshot) -> bool:
    """Say whether any trial of a run was trained step by step."""
    return any(record.curve for record in run.records().values())


def _no_anchor(first: Snapshot, lonely: Snapshot) -> str:
    """Say that nothing tells whether two runs compare, and what would."""
    trained = [record for record in first.records().values() if record.status == "ok" and record.curve]
    fastest = min(trained, key=lambda record: (record.seed, record.train_seconds or 0.0), default=None)
    hint = "bench a variant of one of them in the other"
    if fastest is not None:
        line = again(fastest.variant, lonely.info().recipe.change(seeds=1), fastest, str(lonely.path))
        where = " (recipe.toml holds the settings of the run)" if line.recipe_file else ""
        hint = f"run one of the first in the other, such as by `{line.line}`{where}, and merge then"
    return (
        f"{first.path} and {lonely.path} cannot be merged: they have no trained trial in common, so that nothing says "
        f"that their losses compare; {hint}"
    )


def _kept(run: Snapshot, record: TrialRecord) -> list[str]:
    """Return the files of a trial that there are; its weights may have been dropped."""
    hashes = {name: getattr(record, field) for name, field in ARTIFACTS.items()}
    folder = run.artifacts(record.trial_id)
    return [name for name, sha256 in hashes.items() if sha256 and (name == TEST_ERRORS or (folder / name).is_file())]


def _page(run: Snapshot) -> list[str]:
    """Write the page, and say what it lacks; where it cannot be, the run is as good without it."""
    lacking: list[int] = []

    def keep(places: set[int]) -> None:
        kept = run.read_images()
        lacking.extend(places - kept.pixels.keys() if kept else ())

    try:
        page.write(run, keep=keep)
    except Exception as error:  # noqa: BLE001 - whatever it is, the runs are merged
        return [f"warning: no page of the run: {reason_of(error)}; `aezoo report {run.path}` tries again"]
    shown = counted(len(lacking), "test image")
    return [f"the page lacks {shown} that no run keeps: `aezoo report {run.path}` reads them"] if lacking else []
