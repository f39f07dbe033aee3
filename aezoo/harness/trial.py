"""What happens inside a process of its own: train and score a variant, or compute metrics of it.

Each work loads the one plugin that it needs, so that nothing but names and numbers travels to the process.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from aezoo import machine
from aezoo.contract.executor import Progress, Report, status_of
from aezoo.contract.halves import halves
from aezoo.contract.metric import Part
from aezoo.contract.network import bits_of, discrete, is_closed_form, is_sparse, num_params, to_float
from aezoo.contract.recipe import Layout
from aezoo.contract.shared import resident
from aezoo.errors import AezooError, ContractError, UnfitError, reason_of, traceback_of
from aezoo.harness.checkpoints import Checkpoints
from aezoo.harness.images import ImagesWork
from aezoo.machine import Environment, PeakMemory
from aezoo.registry.discovery import find, find_metric
from aezoo.registry.plugin import Origin
from aezoo.run.records import TOLERANCE, PluginSource, Preflight, TrialPlan, TrialRecord, now, record_of
from aezoo.run.samples import Choice, Samples, pack_samples
from aezoo.run.store import SAMPLES, TEST_ERRORS, WEIGHTS, pack_test_errors
from aezoo.run.weights import pack, unpack
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.layout import lay_out
from aezoo.train.loop import DivergedError, Pause, Trained, Training, fit, train, train_side_by_side
from aezoo.train.parallel import WHOLE, ProcessFailedError, Share
from aezoo.train.rate import active_units, coded_bits, file_bits
from aezoo.train.samples import samples_of
from aezoo.train.score import TrainedNetwork, image_errors
from aezoo.train.state import StateError

T = TypeVar("T")
Scored = tuple[dict[str, Any], dict[str, bytes]]
"""What is known of a trial, by the names of a record, and its files."""
Work = Callable[[], Scored]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What a trial came to: its record, and its files by name, whose hashes the record holds."""

    record: TrialRecord
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def short(self) -> bool:
        """Whether the machine had too little memory for it."""
        return self.record.status == "out_of_memory"


@dataclass(frozen=True, kw_only=True)
class TrainAndScore(ImagesWork):
    """Train and score one variant, from the seed of each plan. Nothing is written.

    Several seeds train side by side, each by a CUDA graph. `environment` is this machine's, where the bench knows it;
    None where the work is done on another one. `versions` are those of aezoo and torch that the plans were made with.
    One trial alone reports a checkpoint every `checkpoint_seconds`, None for never, and goes on from `checkpoint`, None
    for the start.
    """

    plans: tuple[TrialPlan, ...]
    origin: Origin
    preflight: Preflight | None
    layout: Layout
    choice: Choice
    environment: Environment | None
    versions: tuple[str, str]
    keeps_weights: bool = True
    checkpoint_seconds: float | None = None
    checkpoint: bytes | None = None

    @property
    def processes(self) -> int:
        """In how many processes it trains: a closed form in one."""
        return 1 if self.preflight is not None and self.preflight.closed_form else self.plans[0].processes

    def run(self, report: Report) -> tuple[TrialResult, ...]:
        """Return a result for each plan, whatever became of it."""
        machine.require_versions(self.versions)
        environment = self.environment or machine.capture(self.plans[0].device, self.plans[0].threads)
        if len(self.plans) > 1:
            return self._all_results(environment, report)
        (plan,) = self.plans
        train_and_score = functools.partial(self._train_and_score, plan, report)
        return (self._result(plan, environment, now(), lambda: self._in_processes(train_and_score)),)

    def _all_results(self, environment: Environment, report: Report) -> tuple[TrialResult, ...]:
        """Train all seeds at the same time, then score one after the other."""
        started_at = now()
        train_NCHW, test_NCHW = (resident(pixels, self.plans[0].device) for pixels in self.images.load())
        taken = [0] * len(self.plans)

        def on_block(number: int, pause: Pause) -> None:
            taken[number] = pause.steps
            report(Progress(steps=sum(taken)))

        def scored(plan: TrialPlan, module: nn.Module, trained: Trained | BaseException) -> Work:
            if isinstance(trained, BaseException):
                return functools.partial(_raise, trained)
            return lambda: self._score(plan, module, trained, (train_NCHW, test_NCHW), dict)

        try:
            modules = [self._built(plan, train_NCHW) for plan in self.plans]
            trainings = [
                Training(module, train_NCHW, plan.settings, plan.seed, device=plan.device, graphed=True, apart=True)
                for plan, module in zip(self.plans, modules, strict=True)
            ]
            trained = train_side_by_side(trainings, on_block)
            works = [scored(*each) for each in zip(self.plans, modules, trained, strict=True)]
        except (KeyboardInterrupt, UnfitError):
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            works = [functools.partial(_raise, error)] * len(self.plans)
        return tuple(
            self._result(plan, environment, started_at, work) for plan, work in zip(self.plans, works, strict=True)
        )

    def _result(self, plan: TrialPlan, environment: Environment, started_at: str, work: Work) -> TrialResult:
        facts: dict[str, Any]
        files: dict[str, bytes] = {}
        try:
            facts, files = work()
        except (KeyboardInterrupt, UnfitError):
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            facts = failure(error)
        facts = {"status": "ok", "processes": self.processes, "side_by_side": len(self.plans), **facts}
        return TrialResult(record=record_of(plan, self.preflight, environment, started_at, **facts), files=files)

    def _in_processes(self, work: Callable[[Share], T]) -> T:
        """Do a work in as many processes as the trial trains in, and return what the first one's came to."""
        if self.processes == 1:
            return work(WHOLE)
        # It is slow to import, and seldom needed.
        from aezoo.harness.processes import over_processes

        return over_processes(self.processes, self.plans[0].threads, work, failure)

    def _train_and_score(self, plan: TrialPlan, report: Report, share: Share) -> Scored:
        """Return what is known of the trial, by the names of a record, and its files.

        Of several processes the first one reports, and scores it; the others have nothing to say.
        """
        with share.joined(plan.device):
            train_NCHW, test_NCHW = (resident(pixels, plan.device) for pixels in self.images.load())
            memory = PeakMemory(plan.device)
            tell = (lambda _: None) if share.rank else report
            checkpoints = Checkpoints(plan, tell, memory, self.checkpoint_seconds, self.checkpoint)
            module, trained = self._train(plan, train_NCHW, checkpoints, share)
            peak_of_others = share.of_others(memory.host(), plan.device)
        if share.rank:
            return {}, {}

        def peaks() -> dict[str, int | None]:
            host = checkpoints.peak()
            return {
                "peak_memory_bytes": None if host is None else host + peak_of_others,
                "peak_device_memory_bytes": memory.device(),
            }

        facts, files = self._score(plan, module, trained, (train_NCHW, test_NCHW), peaks)
        return {**facts, **checkpoints.facts(), "notes": [*facts["notes"], *checkpoints.notes]}, files

    def _train(
        self, plan: TrialPlan, images_NCHW: Tensor, checkpoints: Checkpoints, share: Share
    ) -> tuple[nn.Module, Trained]:
        """Return the trained network, and how its training went."""

        def train_it(module: nn.Module) -> Trained:
            return train(
                module, images_NCHW, plan.settings, plan.seed, checkpoints.on_block, compiled=plan.compiled,
                graphed=self.preflight is not None and self.preflight.graph_steps is not None,
                device=plan.device, resumed=checkpoints.state, share=share,
            )  # fmt: skip

        module = self._built(plan, images_NCHW)
        if is_closed_form(module):
            return module, fit(module, images_NCHW, plan.seed, plan.device)
        try:
            return module, train_it(module)
        except StateError as error:
            checkpoints.refuse(error)
        module = self._built(plan, images_NCHW)
        return module, train_it(module)

    def _built(self, plan: TrialPlan, images_NCHW: Tensor) -> nn.Module:
        variant = find(plan.variant, self.origin, plan.plugin)
        return lay_out(build(variant, images_NCHW, plan.seed, plan.device), self.layout)

    def _score(
        self,
        plan: TrialPlan,
        module: nn.Module,
        trained: Trained,
        images: tuple[Tensor, Tensor],
        peaks: Callable[[], Mapping[str, int | None]],
    ) -> Scored:
        """Return what is known of a trained network, by the names of a record, and its trial's files.

        `images` are those of training and of the test; `peaks` says how much memory the trial took until then.
        """
        train_NCHW, test_NCHW = images
        facts: dict[str, Any] = {
            "num_params": num_params(module), "curve": trained.curve, "train_seconds": trained.seconds,
            "compile_seconds": trained.compile_seconds, **_graph_facts(self.preflight, trained),
            "notes": self.preflight.notes if self.preflight else [],
        }  # fmt: skip
        seed_stream(plan.seed, Stream.EVALUATION)
        if plan.tuning:
            # It chooses a learning rate: neither the test images nor its weights have a part in that.
            validation_NCHW = resident(self.images.load_validation(), plan.device)
            return facts | {"validation_mse": float(_errors(module, validation_NCHW, plan, "validation").mean())}, {}
        test_errors = _errors(module, test_NCHW, plan, "test")
        train_errors = _errors(module, train_NCHW, plan, "training")
        facts |= peaks()
        files = {TEST_ERRORS: pack_test_errors(test_errors.numpy())}
        try:
            if self.keeps_weights:
                files[WEIGHTS] = pack(module)
            else:
                facts["weights_missing"] = "none were to be kept (--weights none)"
        except AezooError as error:
            facts["weights_missing"] = str(error)
        rates = _rates(module, train_NCHW, test_NCHW, plan)
        try:
            files[SAMPLES] = self._samples(module, test_NCHW, plan)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            # It is scored: that it cannot be shown is no failure.
            facts["samples_missing"] = reason_of(error)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        return facts | {
            **rates,
            "test_mse": float(test_errors.mean()),
            "test_errors_sha256": hashes[TEST_ERRORS],
            "weights_sha256": hashes.get(WEIGHTS),
            "samples_sha256": hashes.get(SAMPLES),
            "train_mse": float(train_errors.mean()),
        }, files

    def _samples(self, module: nn.Module, test_NCHW: Tensor, plan: TrialPlan) -> bytes:
        """Return what is kept of the trained network to be looked at, outside the score, the clock and the peaks."""
        seed_stream(plan.seed, Stream.EVALUATION)
        chosen = self.choice
        kept = samples_of(
            module, test_NCHW, images=chosen.images, pair=chosen.pair, latents=chosen.latents,
            precision=plan.recipe.precision, device=plan.device,
        )  # fmt: skip
        return pack_samples(Samples(choice=chosen, **kept))


def _raise(error: BaseException) -> NoReturn:
    raise error


def _graph_facts(preflight: Preflight | None, trained: Trained) -> dict[str, Any]:
    """Return what a record says of CUDA graphs where the preflight found that one can be made, and none took a step."""
    if preflight is None or preflight.graph_steps is None or trained.graph_steps is not None:
        return {}
    return {"graph_steps": None, "graph_missing": f"it takes too few steps for a graph of {preflight.graph_steps}"}


def failure(error: BaseException) -> dict[str, Any]:
    """Return what a record says of an error that ended a trial, by the names of a record."""
    if isinstance(error, ProcessFailedError):
        return dict(error.facts)
    if isinstance(error, DivergedError):
        return {"status": "diverged", "reason": str(error)}
    facts = {"status": status_of(error), "reason": reason_of(error)}
    return facts if isinstance(error, ContractError) else {**facts, "traceback": traceback_of(error)}


def _errors(module: nn.Module, images_NCHW: Tensor, plan: TrialPlan, part: str) -> Tensor:
    errors = image_errors(module, images_NCHW, plan.recipe.precision, device=plan.device)
    if not torch.isfinite(errors).all():
        raise DivergedError(f"the trained network's reconstructions of the {part} images are not finite")
    return errors


def _rates(module: nn.Module, train_NCHW: Tensor, test_NCHW: Tensor, plan: TrialPlan) -> dict[str, float | None]:
    """Return what an image's code takes, by the names of a record: nothing of a latent that is neither kind."""
    precision, device = plan.recipe.precision, plan.device
    bits, codebook = bits_of(module), discrete(module)
    if bits is not None:
        measured = file_bits(bits, test_NCHW, device)
        return {"latent_bits": measured, "coded_bits": measured}
    if codebook is not None:
        return {"coded_bits": coded_bits(codebook, train_NCHW, test_NCHW, precision, device)}
    pair = halves(module, to_float(test_NCHW[:2].to(device)))
    if pair is None or not is_sparse(module):
        return {}
    active, support = active_units(pair[0], test_NCHW, precision, device)
    return {"active_units": active, "support_bits": support}


@dataclass(frozen=True, kw_only=True)
class Measure(ImagesWork):
    """Compute metrics of a trained network from the weights that its trial kept: their content, or where they lie."""

    record: TrialRecord
    origin: Origin
    metrics: Mapping[str, tuple[Origin, PluginSource]]
    weights: bytes | Path
    versions: tuple[str, str]

    def run(self, report: Report) -> dict[str, float | str]:  # noqa: ARG002 - it takes no steps
        """Return the value of each metric, or why it has none; none of them can harm another one.

        Raises:
            UnfitError: the plugin, aezoo or torch are others here.
            AezooError: the weights do not make the network that was scored.
        """
        machine.require_versions(self.versions)
        record = self.record
        variant = find(record.variant, self.origin, record.plugin)
        parts: tuple[Part, Part] = ("train", "test")
        images = dict(zip(parts, (resident(pixels, record.device) for pixels in self.images.load()), strict=True))
        module = lay_out(build(variant, images["train"], record.seed, record.device), record.layout or "contiguous")
        unpack(self.weights if isinstance(self.weights, bytes) else self.weights.read_bytes(), module)
        seed_stream(record.seed, Stream.EVALUATION)
        errors = image_errors(module, images["test"], record.recipe.precision, device=record.device)
        test_mse = float(errors.mean())
        if not math.isclose(test_mse, record.test_mse or 0.0, rel_tol=TOLERANCE):
            raise AezooError(
                f"the weights that were kept do not make the network that was scored: test_mse {test_mse:.4g}, "
                f"recorded {record.test_mse:.4g}; something that it needs is no parameter and no buffer"
            )
        labels = self.images.load_labels()
        network = TrainedNetwork(
            module=module, device=record.device, precision=record.recipe.precision, images=images,
            known_labels=dict(zip(parts, labels, strict=True)) if labels else {},
        )  # fmt: skip
        return {name: _value(name, *plugin, network, record.seed) for name, plugin in self.metrics.items()}


def _value(name: str, origin: Origin, source: PluginSource, network: TrainedNetwork, seed: int) -> float | str:
    """Return a metric's value, or why it has none."""
    seed_stream(seed, Stream.EVALUATION)
    try:
        value = float(find_metric(name, origin, source).compute(network))
    except (KeyboardInterrupt, UnfitError):
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        return reason_of(error)
    return value if math.isfinite(value) else f"it came to {value}, which is no finite number"
