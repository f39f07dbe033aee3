"""A run on disk: which files it has, and what each holds. Nothing that they say leads out of its folder."""

import hashlib
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from aezoo.errors import AezooError, StorageError, reason_of
from aezoo.machine import Environment
from aezoo.run.claim import Claim, Claims, held, open_claims, waited
from aezoo.run.files import (
    DamagedFileError,
    content_of,
    digest,
    read,
    read_or_set_aside,
    remove,
    slug,
    write_bytes,
    write_json,
)
from aezoo.run.index import Index, M
from aezoo.run.means import Vector
from aezoo.run.records import Measurement, RunInfo, Timing, TrialPlan, TrialRecord
from aezoo.run.repetition import Repetition
from aezoo.run.samples import Samples, TestImages, pack_images, unpack_images, unpack_samples
from aezoo.run.trials import read_trials

if TYPE_CHECKING:
    from aezoo.run.snapshot import Snapshot

TEST_ERRORS = "test_errors.safetensors"
WEIGHTS = "weights.safetensors"
SAMPLES = "samples.safetensors"
ARTIFACTS = {TEST_ERRORS: "test_errors_sha256", WEIGHTS: "weights_sha256", SAMPLES: "samples_sha256"}
"""The files of a trial, and where in its record the hash of each stands."""
IMAGES = "images.safetensors"
INDEX = "index.sqlite"
REPORT = "report.html"
_NAME = re.compile(r"[a-z0-9_=][a-z0-9_=.-]{0,199}")


class RunDirectory:
    """One results directory.

    run.json holds what was asked for; trials/ a record a trial; metrics/ what was computed from its weights; timings/
    the throughput of each variant; anchors/ how recorded trials came out again; artifacts/ what is too big for a
    record; claims/ who runs which trial, for processes that share the run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._claims: Claims | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a run here."""
        return (self.path / "run.json").is_file()

    def require(self) -> "RunDirectory":
        """Return itself.

        Raises:
            AezooError: there is no run here.
        """
        if not self.exists:
            what = "has no run.json" if self.path.is_dir() else "does not exist"
            raise AezooError(f"no run at {self.path}: the folder {what}; give a folder that `aezoo bench` wrote")
        return self

    def info(self) -> RunInfo:
        """Read run.json.

        Raises:
            AezooError: it is missing or damaged, or of a newer aezoo.
        """
        self.require()
        try:
            return read(self._inside("run.json"), RunInfo)
        except DamagedFileError as error:
            raise StorageError(f"{error}; restore it, or bench into another folder with --out") from error

    def request(
        self, info: RunInfo, requested: Mapping[str, list[str]], earlier: Mapping[str, list[str]] | None = None
    ) -> None:
        """Write run.json with what a call asks for, beside what others asked for, also while it runs.

        Args:
            info: The run's settings.
            requested: The ids of each variant's trials, in the order of their seeds.
            earlier: Rows of earlier calls that stay beside, though their variants have other trials now, by what they
                are called.

        Raises:
            StorageError: the folder cannot be written.
        """
        written = False
        while not written:
            with waited(lambda: self.claim("run.json")) as claim:
                before = self.info() if self.exists else info
                # An earlier call may have asked for more seeds; one of another plugin source is another trial.
                known = [*before.rows.values()]
                asked = {
                    variant: max((row for row in known if row[: len(ids)] == ids), key=len, default=ids)
                    for variant, ids in requested.items()
                }
                merged = {**before.requested, **asked}
                beside = {
                    name: ids
                    for name, ids in {**before.earlier, **(earlier or {})}.items()
                    if all(row[: len(ids)] != ids for row in merged.values())
                }
                if written := claim.holds():
                    both = {"requested": merged, "earlier": beside}
                    write_json(self._inside("run.json"), info.model_copy(update=both))

    def load(self) -> "Snapshot":
        """Read the run, as it is now.

        Raises:
            AezooError: there is no run, or its run.json is damaged.
        """
        from aezoo.run.snapshot import Snapshot

        return Snapshot(self.path)

    def trial_path(self, trial_id: str) -> Path:
        """Return where the record of a trial lies."""
        return self._inside("trials", f"{trial_id}.json")

    def artifacts(self, trial_id: str) -> Path:
        """Return the folder of what is too big for a record."""
        return self._inside("artifacts", trial_id)

    def read_test_errors(self, record: TrialRecord) -> Vector:
        """Read the mean squared error of each test image.

        Raises:
            DamagedFileError: the file is missing, or not the one that the trial wrote.
        """
        path, content = self.read_artifact(record, TEST_ERRORS)
        try:
            errors = safetensors.numpy.load(content)["test_errors"]
        except Exception as error:
            raise DamagedFileError(f"{path} is damaged: {reason_of(error)}") from error
        if errors.dtype != np.float64 or errors.shape != (record.dataset.num_test,):
            raise DamagedFileError(f"{path} is damaged: it has {errors.dtype} of shape {errors.shape}")
        if not math.isclose(errors.mean(), record.test_mse or 0.0, rel_tol=1e-9, abs_tol=1e-300):
            raise DamagedFileError(f"{path} is damaged: its mean is not the test_mse of its record")
        return errors

    def write_trial(self, record: TrialRecord, files: Mapping[str, bytes] | None = None) -> TrialRecord:
        """Write what became of a trial, its files first, and return the record that stands.

        That of a trial that ended well stands against one that did not, whoever wrote it. Whoever calls this has the
        trial's claim.
        """
        if record.status != "ok":
            standing = self.read_record(record.trial_id)
            if standing is not None and standing.status == "ok":
                return standing
        for name, content in (files or {}).items():
            write_bytes(self.artifact(record.trial_id, name), content)
        write_json(self.trial_path(record.trial_id), record)
        return record

    def read_weights(self, record: TrialRecord) -> bytes:
        """Read the weights that a trial kept, the content of a safetensors file.

        Raises:
            DamagedFileError: the file is missing, or not the one that the trial wrote.
        """
        return self.read_artifact(record, WEIGHTS)[1]

    def keeps_weights(self, record: TrialRecord) -> bool:
        """Say whether the weights of a trial are there."""
        return self.weights_path(record.trial_id).is_file()

    def drop_weights(self, trial_id: str) -> None:
        """Remove the weights of a trial.

        Raises:
            StorageError: they cannot be removed.
        """
        remove(self.weights_path(trial_id))

    def weights_path(self, trial_id: str) -> Path:
        """Return where the weights of a trial lie."""
        return self.artifact(trial_id, WEIGHTS)

    def artifact(self, trial_id: str, name: str) -> Path:
        """Return where a file of a trial lies."""
        return self._inside("artifacts", trial_id, name)

    def read_samples(self, record: TrialRecord) -> Samples:
        """Read what a trial kept to be looked at.

        Raises:
            DamagedFileError: the file is missing, or not the one that the trial wrote.
        """
        path, content = self.read_artifact(record, SAMPLES)
        try:
            samples = unpack_samples(content)
        except DamagedFileError as error:
            raise DamagedFileError(f"{path} is damaged: {error}") from error
        if samples.reconstructions.shape[1:] != record.dataset.image_shape:
            raise DamagedFileError(f"{path} is damaged: its images are not those of the run's data set")
        return samples

    def read_images(self) -> TestImages | None:
        """Read the test images that the run keeps; None where it keeps none that can be read, with a warning."""
        path = self._inside(IMAGES)
        if not path.is_file():
            return None
        data = self.info().dataset
        try:
            images = unpack_images(content_of(path))
            places = {*images.pixels, *images.labels, *images.choice.latents}
            if not all(0 <= place < data.num_test for place in places):
                raise DamagedFileError("it names images that the test set has not")
            if any(pixels.shape != data.image_shape for pixels in images.pixels.values()):
                raise DamagedFileError("its images are not of the shape of the data set's")
        except DamagedFileError as error:
            warnings.warn(f"{path} is damaged: {error}; the run's test images are not shown", stacklevel=2)
            return None
        return images

    @property
    def has_images(self) -> bool:
        """Whether there is a file of test images, readable or not."""
        return self._inside(IMAGES).is_file()

    def write_images(self, images: TestImages) -> None:
        """Write the test images that the run keeps, in the place of what was there."""
        write_bytes(self._inside(IMAGES), pack_images(images))

    def measurements(self) -> list[Measurement]:
        """Read the metrics of all trials."""
        return list(self._contents_of("metrics", Measurement).values())

    def write_measurement(self, measurement: Measurement) -> None:
        """Write a metric of a trial, in the place of what was there."""
        name = f"{measurement.trial_id}--{slug(measurement.metric)}.json"
        write_json(self._inside("metrics", name), measurement)

    def records(self) -> dict[str, TrialRecord]:
        """Read all records, by trial id.

        One that is damaged, or whose test errors are, is set aside, with a warning, as if its trial had not run.
        """
        with self._indexed() as index:
            return read_trials(
                index,
                self._inside("trials"),
                self.info().rows if self.exists else {},
                beside=lambda name: f"{self.path}/artifacts/{name.removesuffix('.json')}/{TEST_ERRORS}",
                read=self._read_trial,
            )

    def _read_trial(self, path: Path) -> tuple[TrialRecord, Vector | None] | None:
        """Read a record, and its trial's test errors."""
        errors: list[Vector] = []

        def check(record: TrialRecord) -> None:
            if f"{record.trial_id}.json" != path.name:
                raise DamagedFileError(f"{path} is the record of another trial, {record.trial_id}")
            if record.test_errors_sha256 is not None:
                errors.append(self.read_test_errors(record))

        record = read_or_set_aside(self._unlinked(path), TrialRecord, check)
        return None if record is None else (record, next(iter(errors), None))

    def _contents_of(self, name: str, model: type[M]) -> dict[str, M]:
        """Read the JSON files of a folder, by their names; one that is damaged is set aside, with a warning."""
        folder = self._inside(name)
        with self._indexed() as index:
            contents, changed = index.unchanged(folder, model)
            for found in changed:
                content = read_or_set_aside(self._unlinked(folder / found.name), model)
                if content is not None:
                    contents[found.name] = index.keep(folder, found, content)
        return dict(sorted(contents.items()))

    @contextmanager
    def _indexed(self) -> Iterator[Index]:
        """Yield the run's index, and save what was read."""
        index = Index(self._inside(INDEX))
        yield index
        index.save()

    def claim(self, name: str) -> Claim | None:
        """Claim a trial, or other work, for this process, or return None where another one, on any machine, has it.

        Raises:
            AezooError: the run is claimed by locks, which do not hold here.
            StorageError: the folder cannot be written.
        """
        return self.claims.claim(self._inside("claims", f"{name}{self.claims.suffix}"))

    def running(self) -> set[str]:
        """Return the ids of trials without a record that living processes are at, on any machine."""
        if not self.exists:
            return set()
        ids = {trial_id for trial_ids in self.info().requested.values() for trial_id in trial_ids}
        left = ids - self.records().keys()
        return held(self._inside("claims"), left) if left else set()

    @property
    def claims(self) -> Claims:
        """How work is claimed in the run: it is tried, and chosen, when it is first asked for."""
        if self._claims is None:
            self._claims = open_claims(self._inside("claims"))
        return self._claims

    def read_record(self, trial_id: str) -> TrialRecord | None:
        """Read the record of one trial, or return None where there is none, as `records` does."""
        path = self.trial_path(trial_id)
        trial = self._read_trial(path) if path.is_file() else None
        return None if trial is None else trial[0]

    def timing_path(self, plan: TrialPlan, environment: Environment) -> Path:
        """Return where the timing of a variant lies."""
        return self._inside("timings", timing_name(plan, environment))

    def read_timing(self, plan: TrialPlan, environment: Environment) -> Timing | None:
        """Read the timing of a variant as it was measured in this environment, or None."""
        path = self.timing_path(plan, environment)
        return read_or_set_aside(path, Timing) if path.is_file() else None

    def timings(self) -> dict[str, Timing]:
        """Read the timings of all variants on all machines, by the names of their files."""
        return self._contents_of("timings", Timing)

    def write_timing(self, plan: TrialPlan, timing: Timing) -> None:
        """Write the timing of a variant."""
        write_json(self.timing_path(plan, timing.environment), timing)

    def anchors(self) -> list[Repetition]:
        """Read how recorded trials came out when they were repeated."""
        return list(self._contents_of("anchors", Repetition).values())

    def write_anchor(self, anchor: Repetition) -> None:
        """Write how a recorded trial came out: the last time on such a machine, or in a run that was merged."""
        key = digest(anchor.environment.model_dump(exclude={"git_commit"}), *([anchor.run] if anchor.run else []))
        write_json(self._inside("anchors", f"{anchor.trial_id}-{key}.json"), anchor)

    def read_artifact(self, record: TrialRecord, name: str) -> tuple[Path, bytes]:
        """Return where one of the ARTIFACTS of a trial lies, and its content.

        Raises:
            DamagedFileError: it is missing, or not the one whose hash stands in the record.
        """
        path = self.artifact(record.trial_id, name)
        content = content_of(path)
        if hashlib.sha256(content).hexdigest() != getattr(record, ARTIFACTS[name]):
            raise DamagedFileError(f"{path} is damaged: its checksum does not fit")
        return path, content

    def _inside(self, *parts: str) -> Path:
        """Return a path in the run.

        Raises:
            StorageError: a part of it is not a name of this project's, or a link leads out of the run.
        """
        path = self.path.joinpath(*parts)
        if not all(_NAME.fullmatch(part) for part in parts):
            raise StorageError(f"{str(path)!r} is no name of a file in a run: those are of a-z, 0-9, _ = . and -")
        return self._unlinked(path)

    def _unlinked(self, path: Path) -> Path:
        """Return a path in the run that no link leads out of it."""
        place, root = os.fspath(path), os.fspath(self.path)
        while len(place) > len(root) and not os.path.islink(place):  # noqa: PTH114
            place = os.path.dirname(place)  # noqa: PTH120 - a path's parents take ten times as long
        if place == root:
            return path
        try:
            inside = path.resolve().is_relative_to(self.path.resolve())
        except (OSError, RuntimeError, ValueError):  # a loop of links, or a name with NUL
            inside = False
        if not inside:
            raise StorageError(f"{path} leads out of the run: it is neither read nor written; remove it")
        return path


def timing_name(plan: TrialPlan, environment: Environment) -> str:
    """Return how the file of a variant's timing is called: one a machine, torch, threads, and way to take steps."""
    env = environment
    ways = [name for name, holds in (("compiled", plan.compiled), ("no graphs", not plan.graphs)) if holds]
    machine = (env.device, env.device_name, env.threads, env.torch, *ways)
    return f"{slug(plan.variant)}-{digest(plan.variant, plan.plugin.source_sha256, *machine)}.json"


def pack_test_errors(errors: Vector) -> bytes:
    """Return the mean squared error of each test image, (N,), float64, as the content of a safetensors file."""
    return safetensors.numpy.save({"test_errors": errors})
