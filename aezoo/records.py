"""What is written down: the plan, the record and the timing of trials, as frozen models. No file is touched here."""

from typing import Any, Literal

import pydantic

from aezoo.recipe import Recipe

Status = Literal["ok", "diverged", "out_of_memory", "timeout", "error", "invalid", "interrupted"]
SCHEMA = 1


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


class PluginSource(_Model):
    """Where an architecture came from. `source_sha256` covers the plugin's file and what it imports beside itself."""

    name: str
    distribution: str
    version: str
    source_sha256: str


class DatasetInfo(_Model):
    """The data set of a run. `image_shape` is (channels, height, width)."""

    name: str
    sha256: str
    image_shape: tuple[int, int, int]
    num_train: int
    num_test: int


class Environment(_Model):
    """The software and the machine. `device_name` is the processor's or the accelerator's own name."""

    aezoo: str
    git_commit: str | None = None
    python: str
    torch: str
    platform: str
    device: str
    device_name: str
    threads: int
    cuda: str | None = None
    driver: str | None = None


class TrialPlan(_Model):
    """One variant × one recipe × one seed, before it runs."""

    trial_id: str
    architecture: str
    variant: str
    hyperparameters: dict[str, Any]
    baseline: Literal["mean", "pca"] | None = None
    plugin: PluginSource
    recipe: Recipe
    fingerprint: str
    dataset: DatasetInfo
    seed: int
    device: str
    threads: int
    compiled: bool = False


def identity(plan: TrialPlan, environment: Environment) -> dict[str, Any]:
    """Return whatever can change a trial's result, by name: with another value it is another trial."""
    found = {
        "variant": plan.variant,
        "fingerprint": plan.fingerprint,
        "seed": plan.seed,
        "plugin source": plan.plugin.source_sha256,
        "aezoo": environment.aezoo,
        "torch": environment.torch,
        "device": plan.device,
        "threads": plan.threads,
    }
    return {**found, "compiled": "compiled"} if plan.compiled else found


class TrialRecord(TrialPlan):
    """What became of a trial. MSE are means over N·C·H·W, pixels in [0, 1]; a number that does not exist is null.

    `curve` holds (step, mean training MSE since the point before). `test_errors_sha256` is that of the file that holds
    the test images' own errors. `peak_memory_bytes` is what the trial added to its process's resident memory at its
    peak; `peak_device_memory_bytes` is what it held on an accelerator; those of `infer` are for building the network
    and reconstructing one batch. FLOPs count a multiplication and an addition as two, those of training with the
    backward pass. `compile_seconds` are apart from `train_seconds`.
    """

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    status: Status
    reason: str | None = None
    traceback: str | None = None
    objective: str | None = None
    test_mse: float | None = None
    test_errors_sha256: str | None = None
    train_mse: float | None = None
    curve: list[tuple[int, float]] = []
    num_params: int | None = None
    latent_shape: tuple[int, ...] | None = None
    latent_size: int | None = None
    flops_per_image: int | None = None
    train_flops_per_image: int | None = None
    train_seconds: float | None = None
    compile_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    infer_peak_memory_bytes: int | None = None
    infer_peak_device_memory_bytes: int | None = None
    environment: Environment
    started_at: str
    finished_at: str


class Preflight(_Model):
    """What building a variant, without training it, tells about it.

    `step_seconds` is the fastest of a few real steps; `peak_memory_bytes` is what they added to the process's resident
    memory, `peak_device_memory_bytes` what they held on an accelerator; what stands in a record is described there.
    """

    objective: str
    num_params: int
    latent_shape: tuple[int, ...] | None
    latent_size: int | None
    flops_per_image: int
    train_flops_per_image: int | None = None
    closed_form: bool
    step_seconds: float
    compile_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    infer_peak_memory_bytes: int | None = None
    infer_peak_device_memory_bytes: int | None = None


class Timing(_Model):
    """Throughput of a variant on a device that did nothing else: images/s, one figure a round.

    In the same rounds the variant `reference` was timed, and the product of two matrices, in FLOPs a second.
    """

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    variant: str
    environment: Environment
    batch_size: int
    precision: str
    compiled: bool = False
    train_images_per_s: list[float]
    infer_images_per_s: list[float]
    reference: str | None = None
    reference_train_images_per_s: list[float] = []
    reference_infer_images_per_s: list[float] = []
    matmul_flops_per_s: list[float] = []
    measured_at: str


class RunInfo(_Model):
    """A run: its settings, and the variants and seeds that were asked for, by every call that shared it.

    `requested` holds, for each variant, the ids of its trials in the order of their seeds.
    """

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    recipe: Recipe
    fingerprint: str
    loss_settings: dict[str, Any]
    dataset: DatasetInfo
    device: str
    requested: dict[str, list[str]] = {}
    environment: Environment
    created_at: str
