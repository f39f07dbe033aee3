"""What is written down: the plan, the record and the timing of trials, as frozen models. No file is touched here.

aezoo/schemas/ holds what pydantic says of these models as JSON Schema, one file for each version.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from aezoo.contract.architecture import SeedSpread
from aezoo.contract.executor import Status
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.recipe import Layout, Recipe
from aezoo.machine import Count, Environment, FrozenModel

SCHEMA: Final = 1
"""The version of the files. Whoever changes a model raises it, teaches `upgrade` to read what was, and writes the
schemas again (tests/test_schema.py)."""
SchemaVersion = Literal[1]
TOLERANCE = 0.01
"""Training follows another path on another device or torch: two losses this close, of the first, are one finding."""
TrialId = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9_=][a-z0-9_=.-]{0,99}$")]
"""The name of files, so nothing that leads anywhere else is accepted."""
Amount = Annotated[float, pydantic.Field(ge=0)]
LatentKind = Literal["continuous", "sparse", "discrete"]
"""What the size of a latent is read in: its numbers, those that are not 0, or the bits that its codes take."""
Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class PluginSource(FrozenModel):
    """Where an architecture came from. `source_sha256` covers the plugin's file and what it imports beside itself.

    `place` is, of what is not installed, where it was: ``/home/me/mine.py:Net``, ``package.module:build`` or, of a
    function or class of a program that was running, that one's name, ``notebook.Net``.
    """

    name: str
    distribution: str
    version: str
    source_sha256: str
    place: str | None = None


class DatasetInfo(FrozenModel):
    """The data set of a run. `image_shape` is (channels, height, width); `notes` say what was done to its images."""

    name: str
    sha256: str
    image_shape: tuple[Count, Count, Count]
    num_train: Count
    num_test: Count
    notes: list[str] = []


class TrialPlan(FrozenModel):
    """One variant × one recipe × one seed, before it runs.

    `lr` is its own learning rate, of a recipe that has several. A trial that is `tuning` tries one, on a seed that is
    not scored, and has a loss on the validation images alone. Over several `processes` each has so many `threads`, and
    takes its part of every batch.
    """

    trial_id: TrialId
    architecture: str
    variant: str
    hyperparameters: dict[str, Any]
    baseline: Literal["mean", "pca"] | None = None
    seed_spread: SeedSpread | None = None
    plugin: PluginSource
    recipe: Recipe
    fingerprint: str
    dataset: DatasetInfo
    seed: Count
    lr: Annotated[float, pydantic.Field(gt=0)] | None = None
    tuning: bool = False
    device: str
    threads: Count
    processes: Annotated[int, pydantic.Field(ge=1)] = 1
    compiled: bool = False
    graphs: bool = True
    executor: str = "local"

    @property
    def settings(self) -> Recipe:
        """The recipe at the trial's own learning rate."""
        return self.recipe if self.lr is None else self.recipe.change(lr=self.lr)

    @property
    def label(self) -> str:
        """What a person calls the trial."""
        return f"{self.variant} at lr {self.lr:g}" if self.tuning else f"{self.variant} seed {self.seed}"


def identity(plan: TrialPlan, environment: Environment) -> dict[str, Any]:
    """Return whatever can change a trial's result, by name: with another value it is another trial."""
    facts = {
        "variant": plan.variant,
        "fingerprint": plan.fingerprint,
        "seed": plan.seed,
        "plugin source": plan.plugin.source_sha256,
        "aezoo": environment.aezoo,
        "torch": environment.torch,
        "device": plan.device,
        "threads": plan.threads,
    }
    if plan.compiled:
        facts["compiled"] = "compiled"
    if plan.processes > 1:
        facts["processes"] = plan.processes
    if plan.recipe.rates:
        facts["lr"] = plan.lr
        facts["tuning"] = plan.tuning
    return facts


class TrialRecord(TrialPlan):
    """What became of a trial. MSE are means over N·C·H·W, pixels in [0, 1]; a number that does not exist is null.

    `curve` holds (step, mean training MSE since the point before). `test_errors_sha256` is that of the file that
    holds the test images' own errors, and `weights_sha256` that of the trained weights; `weights_missing` says why
    they are not kept; `samples_sha256` is that of what was kept to be looked at, and `samples_missing` why nothing was.
    `deterministic` says whether the preflight, which takes the same steps twice, came to the
    same network twice. `layout` is how its weights lay in memory.
    `exceptions` holds the checks of the contract that the plugin's author declared as not met, each with the reason;
    `adaptations` what is done to images for a network of somebody else's. `latent_parts` are the shapes of what a
    latent of several parts consists of, by name; `adversary_params` are those of a network's adversary, which no image
    goes through; `progress` says whether it was told, before each step, the share of the budget that is done.
    `latent_bits`, of a discrete latent, are the bits that an image's codes take, and `coded_bits` those of a test
    image, on average, in an ideal code for the training images' codes; `active_units`, of a sparse one, how many of a
    test image's numbers are not 0, on average, and `support_bits` what tells which. `peak_memory_bytes` is what the
    trial added to its process's resident memory at its peak; `peak_device_memory_bytes` is what it held on an
    accelerator; those of `infer` are for building the network and reconstructing one batch. FLOPs count a
    multiplication and an addition as two, those of training with the backward pass. `compile_seconds` are apart from
    `train_seconds`. `resumed_at` holds the steps from whose checkpoint it went on after an interruption; its seconds
    are then those of all parts, and `peak_memory_bytes` that of the first one before its first checkpoint.
    `graph_steps` is how many steps one CUDA graph took, and null where each was taken on its own, on an NVIDIA device
    for the reason `graph_missing`. `side_by_side` counts the trials, this one among them, that trained at the same time
    in one process; `train_seconds` are those of all, and how much memory each took is not known.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    status: Status
    reason: str | None = None
    traceback: str | None = None
    objective: str | None = None
    test_mse: Amount | None = None
    validation_mse: Amount | None = None
    test_errors_sha256: Sha256 | None = None
    weights_sha256: Sha256 | None = None
    weights_missing: str | None = None
    samples_sha256: Sha256 | None = None
    samples_missing: str | None = None
    train_mse: Amount | None = None
    curve: list[tuple[Count, Amount]] = []
    num_params: Count | None = None
    adversary_params: Count | None = None
    progress: bool = False
    latent_shape: tuple[Count, ...] | None = None
    latent_size: Count | None = None
    latent_kind: LatentKind | None = None
    latent_bits: Amount | None = None
    latent_parts: dict[str, tuple[Count, ...]] = {}
    coded_bits: Amount | None = None
    active_units: Amount | None = None
    support_bits: Amount | None = None
    deterministic: bool | None = None
    same_start: bool = False
    layout: Layout | None = None
    exceptions: dict[str, str] = {}
    adaptations: list[str] = []
    notes: list[str] = []
    flops_per_image: Count | None = None
    train_flops_per_image: Count | None = None
    train_seconds: Amount | None = None
    compile_seconds: Amount | None = None
    resumed_at: list[Count] = []
    graph_steps: Count | None = None
    graph_missing: str | None = None
    side_by_side: Annotated[int, pydantic.Field(ge=1)] = 1
    peak_memory_bytes: Count | None = None
    peak_device_memory_bytes: Count | None = None
    infer_peak_memory_bytes: Count | None = None
    infer_peak_device_memory_bytes: Count | None = None
    environment: Environment
    started_at: str
    finished_at: str

    @pydantic.model_validator(mode="after")
    def _a_loss_where_it_is_ok(self) -> Self:
        expected = {"test_mse": not self.tuning, "test_errors_sha256": not self.tuning, "validation_mse": self.tuning}
        for name, is_expected in expected.items():
            if (getattr(self, name) is not None) != (self.status == "ok" and is_expected):
                raise ValueError(f"{name} stands where a trial is ok and {'tried' if self.tuning else 'scored'}")
        return self


class Preflight(FrozenModel):
    """What building a variant, without training it, tells about it.

    `step_seconds` is the fastest of a few real steps, `fit_seconds` what the fit of a closed form took, or, in a bench,
    would take by its fit to a batch; `resumable` says whether it goes on from a checkpoint as if it had not stopped,
    None where that was not tried; `room` how many trainings by CUDA graphs the device holds side by side, one where
    they draw random numbers; `peak_memory_bytes` is what they added to the process's resident memory,
    `peak_device_memory_bytes` what they held on an accelerator; what stands in a record is described there.
    """

    objective: str
    num_params: Count
    adversary_params: Count | None = None
    progress: bool = False
    latent_shape: tuple[Count, ...] | None
    latent_size: Count | None
    latent_kind: LatentKind | None = None
    latent_bits: Amount | None = None
    latent_parts: dict[str, tuple[Count, ...]] = {}
    deterministic: bool
    same_start: bool = False
    layout: Layout = "contiguous"
    exceptions: dict[str, str] = {}
    adaptations: list[str] = []
    notes: list[str] = []
    flops_per_image: Count
    train_flops_per_image: Count | None = None
    closed_form: bool
    resumable: bool | None = None
    graph_steps: Count | None = None
    graph_missing: str | None = None
    room: Count = 1
    step_seconds: Amount
    fit_seconds: Amount | None = None
    compile_seconds: Amount | None = None
    peak_memory_bytes: Count | None = None
    peak_device_memory_bytes: Count | None = None
    infer_peak_memory_bytes: Count | None = None
    infer_peak_device_memory_bytes: Count | None = None


Rates = list[Annotated[float, pydantic.Field(gt=0)]]


class Timing(FrozenModel):
    """Throughput of a variant on a device that did nothing else: images/s, one figure a round.

    `graph_steps` is how many steps one CUDA graph took, null where each was taken on its own. In the same rounds the
    variant `reference` was timed, its steps on their own, and the product of two matrices, in FLOPs a second. `reason`
    says why there is no figure where no such device was to be had.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    variant: str
    environment: Environment
    batch_size: Count
    precision: str
    compiled: bool = False
    graph_steps: Count | None = None
    train_images_per_s: Rates
    infer_images_per_s: Rates
    reference: str | None = None
    reference_train_images_per_s: Rates = []
    reference_infer_images_per_s: Rates = []
    matmul_flops_per_s: Rates = []
    reason: str | None = None
    measured_at: str

    @pydantic.model_validator(mode="after")
    def _figures_or_a_reason(self) -> Self:
        if bool(self.infer_images_per_s) == (self.reason is not None):
            raise ValueError("a timing has figures, or a reason why it has none")
        return self


class Measurement(FrozenModel):
    """A metric of a trained network, computed from the weights that its trial kept: its value, or why there is none."""

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    trial_id: TrialId
    metric: str
    plugin: PluginSource
    weights_sha256: Sha256 | None
    value: float | None = None
    reason: str | None = None
    higher_is_better: bool = False
    measured_at: str

    @pydantic.model_validator(mode="after")
    def _a_value_or_a_reason(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a measurement has a value, or a reason why it has none")
        return self


class RunInfo(FrozenModel):
    """A run: its settings, and the variants and seeds that were asked for, by every call that shared it.

    `requested` holds, for each variant, the ids of its trials in the order of their seeds; `earlier` those of rows
    whose variants have other trials now, by what tells them apart: ``mlp (2 threads)``. `preprocessing` makes pixels,
    as its networks see them, of other images; `label_names` holds what each label is called, where its number does not
    say it.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    recipe: Recipe
    fingerprint: str
    loss_settings: dict[str, Any]
    dataset: DatasetInfo
    device: str
    preprocessing: Preprocessing | None = None
    label_names: list[str] = []
    requested: dict[str, list[TrialId]] = {}
    earlier: dict[str, list[TrialId]] = {}
    created_at: str

    @property
    def rows(self) -> dict[str, list[TrialId]]:
        """The ids of the trials of each row of its table, by what the row is called."""
        return {**self.requested, **self.earlier}


def upgrade(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring what an older aezoo wrote, of any of these models, to the schema of today.

    Raises:
        ValueError: it is of a newer schema, or of none.
    """
    upgraded = dict(content)
    while (version := upgraded.get("schema")) != SCHEMA:
        if type(version) is not int or version not in _STEPS:
            readable = sorted({SCHEMA, *_STEPS})
            raise ValueError(f"it is of schema {version!r}; this aezoo reads {', '.join(map(str, readable))}")
        upgraded = _STEPS[version](upgraded)
    return upgraded


def _from_0_1(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what 0.1 wrote and nobody reads: a run's environment, and metrics, which have files of their own."""
    gone = ["metrics", "metric_plugins", "metric_errors"]
    if "requested" in content:
        gone = ["environment"]
    return {**{name: value for name, value in content.items() if name not in gone}, "schema": 1}


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {4: _from_0_1}
"""What brings a file of a schema to the next one. 0.1, which was never released, called what it wrote 4."""


_OF_A_FEW_STEPS = {
    "closed_form", "resumable", "room", "step_seconds", "fit_seconds", "compile_seconds", "peak_memory_bytes",
    "peak_device_memory_bytes",
}  # fmt: skip


def record_of(
    plan: TrialPlan, preflight: Preflight | None, env: Environment, started_at: str, **facts: Any
) -> TrialRecord:
    """Return the record of a trial that ended: its plan, what the preflight learnt, and the facts of the trial."""
    learnt = {} if preflight is None else preflight.model_dump(exclude=_OF_A_FEW_STEPS)
    return TrialRecord(
        **{**plan.model_dump(), **learnt, **facts},
        environment=env,
        started_at=started_at,
        finished_at=now(),
    )


def now() -> str:
    """Return the time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
