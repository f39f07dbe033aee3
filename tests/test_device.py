"""What a GPU would trip over, as far as a CPU can tell; and the checks of `benchmarks/device.py`, each with a fault."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from zoo import ARCHITECTURES

import aezoo
from aezoo import machine
from aezoo.check.case import Case
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Variant
from aezoo.contract.network import is_closed_form, to_float, training_forward
from aezoo.contract.recipe import Recipe
from aezoo.registry.discovery import discover
from aezoo.run.records import TrialRecord
from aezoo.run.repetition import Repetition

BENCHMARKS = Path(aezoo.__file__).parent.parent / "benchmarks"


@pytest.fixture
def rooms(monkeypatch):
    """Return the program and what judges for it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in ("device", "verdicts")})
    for name in ("device", "verdicts"):
        sys.modules.pop(name, None)


# What trips on an accelerator ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("MPS backend out of memory (MPS allocated: 8.00 GB)", True),
        ("Invalid buffer size: 32.00 GiB", True),
        ("CUDA error: device-side assert triggered", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_out_of_memory_is_told_by_its_words_where_it_has_no_class(text, expected):
    assert machine.is_out_of_memory(RuntimeError(text)) is expected
    assert not machine.is_out_of_memory(ValueError(text))


def test_memory_that_runs_out_in_a_check_is_no_fault_of_the_architecture():
    class Hungry(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x):
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    architecture = aezoo.Architecture(name="h", build=lambda image_shape: Hungry(), summary="s", reference="r")
    case = Case(Variant(architecture=architecture, hyperparameters={}, label="h"), sample_images((1, 8, 8)))
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        list(examine(case, quick=True))


def test_attention_whose_gradients_are_summed_in_any_order_is_left_out_on_an_nvidia_device_alone(monkeypatch):
    """As torch has it, `warn_only` leaves these kernels as they are."""
    names = ("flash", "mem_efficient", "cudnn")

    def enabled():
        return [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in names]

    before = enabled()
    with machine.configured(1):
        assert enabled() == before or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with machine.configured(1):
        assert enabled() == [False] * 3
        assert torch.backends.cuda.math_sdp_enabled()
    assert enabled() == before


def test_the_server_that_trials_are_forked_from_leaves_the_accelerator_alone():
    """A process that is forked from one that has asked for a CUDA device can use none."""
    program = """
        import importlib, torch
        def refuse(*_): raise AssertionError("asked for an accelerator")
        for module, name in ((torch.cuda, "is_available"), (torch.cuda, "device_count"), (torch.cuda, "_lazy_init"),
                             (torch.accelerator, "is_available"), (torch.accelerator, "current_accelerator")):
            setattr(module, name, refuse)
        from aezoo.harness import local
        from aezoo.registry.discovery import discover
        for name in (*local._PRELOAD, "aezoo.harness.trial", "aezoo.harness.preflight", "vector_quantize_pytorch"):
            importlib.import_module(name)
        print(len(discover().plugins))
    """
    command = [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


FAKES_KNOW_NOT = {
    "residual_fsq": "asks a tensor for its value",
    "topological": "finds its trees on the host", "quantised_pca": "shares out its bits there",
    "recurrent": "asks CUDA which GRU it has", "slot_attention": "has a GRU of which fakes know nothing",
    "jpeg": "writes files", "webp": "the same", "nmf": "hands its images to scikit-learn", "ica": "the same",
    "dictionary_learning": "takes entry after entry, thousands of times: here that takes a minute",
}  # fmt: skip


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no CUDA device, not even a made one")
@pytest.mark.parametrize("variant", [f"{name}[]" for name in ARCHITECTURES if name not in FAKES_KNOW_NOT])
def test_networks_stay_on_a_cuda_device_that_has_shapes_and_no_numbers(variant):
    """Where the network asks which device it is on, the meta device of the suite takes another way."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    chosen = discover().resolve(variant)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda"):
            module = chosen.build((3, 32, 32))
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8, device="cuda")
        x = to_float(images)
        assert module.eval()(x).device.type == "cuda"
        if is_closed_form(module):
            module.fit(images)
        else:
            assert training_forward(module.train(), x).reconstruction.device.type == "cuda"


# The program that someone with a GPU runs -----------------------------------------------------------------------------


def record(variant="mlp", **facts):
    return TrialRecord.model_construct(**{
        "variant": variant, "architecture": variant.partition("[")[0], "status": "ok", "reason": None, "test_mse": 0.05,
        "curve": [(100, 0.05)], "deterministic": True, "latent_kind": "continuous", "num_params": 1000,
        "peak_memory_bytes": 5000, "peak_device_memory_bytes": None,
        "recipe": Recipe(name="t", steps=1, batch_size=128), "graph_steps": None, "graph_missing": None,
        "side_by_side": 1, "test_errors_sha256": "1", "trial_id": "one", "seed": 0, "tuning": False, **facts,
    })  # fmt: skip


def timing(train, infer=(100.0, 100.0, 101.0)):
    reference = {
        "reference_train_images_per_s": [10.0, 10.0, 10.1],
        "reference_infer_images_per_s": [100.0, 100.0, 101.0],
    }
    return SimpleNamespace(train_images_per_s=train, infer_images_per_s=infer, **reference)


def repetition(verdict):
    return Repetition.model_construct(variant="mlp", verdict=verdict)


def losses(verdicts, *, noisy=False, **facts):
    return list(verdicts.judge_losses([record(**facts)], [record()], lambda _: noisy))


STARVED, OTHER = record("starved", status="out_of_memory", reason="no memory", test_mse=None), record("mlp")
CRASHED = record("starved", status="error", reason="RuntimeError", test_mse=None)
SHRUNK = record("starved", status="out_of_memory", recipe=Recipe(name="t", steps=1, batch_size=64))
GRAPHED, SEED = record("conv", graph_steps=10, test_errors_sha256="2"), record()
BESIDE = record(side_by_side=4)
DEAD = record("conv", status="error", reason="gone", test_mse=None)


@pytest.mark.parametrize(
    ("good", "bad", "got"),
    [
        (lambda v: v.judge_trials([record()]), lambda v: v.judge_trials([record(), DEAD]), "conv: error: gone"),
        (
            lambda v: v.judge_determinism([record()]),
            lambda v: v.judge_determinism([record(), record("vit", deterministic=False)]),
            "vit",
        ),
        (lambda v: losses(v, curve=[])[0], lambda v: losses(v, curve=[], test_mse=0.0501)[0], "mlp 1.002000"),
        (lambda v: losses(v, test_mse=0.0501)[1], lambda v: losses(v, test_mse=0.051)[1], "mlp 1.020000"),
        (lambda v: losses(v, test_mse=0.0499)[1], lambda v: losses(v, test_mse=0.04)[1], "mlp 0.800000"),
        (
            lambda v: losses(v, noisy=True, test_mse=0.051)[2],
            lambda v: losses(v, noisy=True, test_mse=0.06)[2],
            "mlp 1.200000",
        ),
        (
            lambda v: losses(v, latent_kind="discrete", test_mse=0.055)[3],
            lambda v: losses(v, latent_kind="discrete", test_mse=0.07)[3],
            "mlp 1.400000",
        ),
        (
            lambda v: v.judge_repetitions([repetition("bit-equal")]),
            lambda v: v.judge_repetitions([repetition("bit-equal"), repetition("within the band")]),
            "mlp: within the band",
        ),
        (
            lambda v: v.judge_memory([record()], "peak_memory_bytes"),
            lambda v: v.judge_memory([record(peak_memory_bytes=3999)], "peak_memory_bytes"),
            "mlp: 3,999 B",
        ),
        (lambda v: v.judge_growth(10**6, 2 * 10**6), lambda v: v.judge_growth(10**6, 10**6), "1.0 MB, 1.0 MB"),
        (
            lambda v: v.judge_out_of_memory([STARVED, OTHER], 128),
            lambda v: v.judge_out_of_memory([CRASHED, OTHER], 128),
            "error, batch 128; the next: ok (RuntimeError)",
        ),
        (
            lambda v: v.judge_out_of_memory([STARVED, OTHER], 128),
            lambda v: v.judge_out_of_memory([SHRUNK, OTHER], 128),
            "out_of_memory, batch 64; the next: ok (None)",
        ),
        (lambda v: v.judge_clock(1.3), lambda v: v.judge_clock(40.0), "40.00"),
        (lambda v: v.judge_work(8.8), lambda v: v.judge_work(1.1), "1.1"),
        (
            lambda v: v.judge_twice(timing([10.2, 10.3, 10.3])),
            lambda v: v.judge_twice(timing([14.2, 14.3, 14.3])),
            "train 1.43 (noise 0.10), infer 1.00 (noise 0.10)",
        ),
        (
            lambda v: v.judge_twice(timing([10.0, 11.5, 18.0])),
            lambda v: v.judge_twice(None),
            "none: it could not be timed",
        ),
        (
            lambda v: v.judge_products({"a": 0.0}),
            lambda v: v.judge_products({"a": 0.0, "b": 2.4e-4}),
            "a 0.0e+00, b 2.4e-04",
        ),
        (lambda v: v.judge_tf32(True, 0.0, False), lambda v: v.judge_tf32(False, 0.0, False), "relative error 0.0e+00"),
        (
            lambda v: v.judge_tf32(False, 2.4e-4, True),
            lambda v: v.judge_tf32(False, 0.0, True),
            "relative error 0.0e+00",
        ),
        (
            lambda v: next(v.judge_graphs([record(), GRAPHED], [record(), GRAPHED])),
            lambda v: next(v.judge_graphs([record(), GRAPHED], [record(), record("conv")])),
            "conv",
        ),
        (
            lambda v: list(v.judge_graphs([record(graph_missing="waits"), GRAPHED], []))[1],
            lambda v: list(v.judge_graphs([record(), GRAPHED], []))[1],
            "mlp: None",
        ),
        (
            lambda v: v.judge_company([BESIDE], [SEED], 4),
            lambda v: v.judge_company([SEED], [SEED], 4),
            "side by side: [1]",
        ),
        (
            lambda v: v.judge_company([BESIDE], [SEED], 4),
            lambda v: v.judge_company([BESIDE], [SEED.model_copy(update={"test_errors_sha256": "0"})], 4),
            "mlp seed 0",
        ),
        (
            lambda v: v.judge_steps({"on its own": 5e-3, "by a graph": 5e-4}),
            lambda v: v.judge_steps({"on its own": 2e-3, "by a graph": 5e-4}),
            "on its own 2,000 us, by a graph 500 us; 4.0",
        ),
        (
            lambda v: v.judge_bfloat16([record(test_mse=0.051)], [record()]),
            lambda v: v.judge_bfloat16([record(test_mse=0.06), DEAD], [record()]),
            "conv: error: gone; mlp 1.2000",
        ),
    ],
)
def test_each_check_of_a_device_passes_what_is_well_and_fails_a_fault(rooms, good, bad, got):
    assert good(rooms.verdicts).verdict == "pass"
    fault = bad(rooms.verdicts)
    assert (fault.verdict, fault.got) == ("FAIL", got)


def test_what_a_device_does_not_count_is_not_here(rooms):
    verdicts = rooms.verdicts
    assert verdicts.judge_memory([record()], "peak_device_memory_bytes").verdict == "not here"
    assert verdicts.judge_growth(None, 5).verdict == "not here"
    assert [row.verdict for row in verdicts.judge_graphs([record()], [])] == ["not here", "not here"]
    assert [row.verdict for row in losses(verdicts)] == ["not here", "pass", "not here", "not here"]


def test_rounding_as_tf32_does_shows_in_the_products(rooms, monkeypatch):
    errors = rooms.device.product_errors("cpu", "float32")
    assert rooms.verdicts.judge_products(errors).verdict == "pass"
    assert rooms.verdicts.judge_products(rooms.device.product_errors("cpu", "bfloat16")).verdict == "FAIL"
    monkeypatch.setattr(torch, "full", lambda *args, **settings: torch.ones(*args[:1], **settings))
    assert {name: f"{error:.1e}" for name, error in rooms.device.product_errors("cpu", "float32").items()} == {
        "matrices": "2.4e-04", "convolution": "2.4e-04",
    }  # fmt: skip


def test_a_clock_that_does_not_wait_shows(rooms, monkeypatch):
    """What only queues a product takes no time, however large the product is."""
    monkeypatch.setattr(rooms.device, "calls_per_s", lambda call, seconds, device: 1e6)
    told = rooms.device.clock_ratios("cpu", 0.01)
    assert rooms.verdicts.judge_clock(told[0]).verdict == rooms.verdicts.judge_work(told[1]).verdict == "FAIL"


def test_a_network_that_draws_while_it_trains_is_told_from_one_that_does_not(rooms):
    records = [record(name, dataset=SimpleNamespace(image_shape=(1, 12, 12))) for name in ("mlp", "vae", "fsq", "mae")]
    assert [rooms.device.draws_noise(each) for each in records] == [False, True, False, True]


def test_a_disturbed_clock_is_tried_again(rooms):
    rows = iter(rooms.verdicts.judge_work(ratio) for ratio in (1.0, 1.0, 8.0))
    assert rooms.device.tried(lambda: next(rows)).verdict == "pass"
    assert rooms.device.tried(lambda: rooms.verdicts.judge_work(1.0)).verdict == "FAIL"
