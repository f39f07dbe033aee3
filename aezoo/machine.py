"""The machine and its software: what a figure depends on beside the recipe. It chooses the device too."""

import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import psutil
import pydantic

from aezoo.errors import AezooError, UnfitError, did_you_mean

Count = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


class FrozenModel(pydantic.BaseModel):
    """What is written down: frozen, and nothing in it that was not declared."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


class Environment(FrozenModel):
    """The software and the machine. `device_name` is the processor's or the accelerator's own name."""

    aezoo: str
    git_commit: str | None = None
    python: str
    torch: str
    platform: str
    device: str
    device_name: str
    threads: Count
    cuda: str | None = None
    driver: str | None = None


DEVICES = ("auto", "cpu", "cuda", "mps")


def check_device(name: str) -> None:
    """Refuse what is no device's name, whatever this machine has.

    Raises:
        AezooError: no such device.
    """
    kind, colon, number = name.partition(":")
    if kind in ("cuda", "mps") and colon:
        hint = (
            f"; to choose a GPU, set the variable CUDA_VISIBLE_DEVICES={number} and give cuda" if kind == "cuda" else ""
        )
        raise AezooError(f"no device {name!r}; give {', '.join(DEVICES)}{hint}")
    if name not in DEVICES:
        raise AezooError(f"no device {name!r}; give {', '.join(DEVICES)}." + did_you_mean(name, DEVICES))


def choose_device(name: str) -> str:
    """Return the device to run on; ``auto`` takes the accelerator where there is one.

    Raises:
        AezooError: no such device, or it is not on this machine.
    """
    check_device(name)
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    present = accelerator.type if accelerator is not None and accelerator.type in DEVICES else "cpu"
    if name in ("auto", present):
        return present
    if name == "cpu":
        return name
    raise AezooError(f"device {name!r} is not on this machine (torch {torch.__version__} sees {present}); use auto")


def check_precision(precision: str, device: str) -> None:
    """Refuse a precision that the device does not have: nothing is computed otherwise than asked.

    Raises:
        AezooError: the device has no such arithmetic.
    """
    import torch

    if precision == "tf32":
        if device != "cuda":
            raise AezooError(
                f"precision tf32 is for NVIDIA devices, but the device is {device}; use float32 or bfloat16"
            )
        if torch.cuda.get_device_capability() < (8, 0):
            raise AezooError(f"{torch.cuda.get_device_name()} has no tf32; use float32")


def require_device(device: str, precision: str) -> None:
    """Refuse to work for a bench that asks for a device, or a precision, which this machine has not.

    Raises:
        UnfitError: it has not.
    """
    try:
        choose_device(device)
        check_precision(precision, device)
    except AezooError as error:
        raise UnfitError(str(error)) from error


def versions() -> tuple[str, str]:
    """Return the versions of aezoo and torch."""
    import torch

    return version(), torch.__version__


def require_versions(asked: tuple[str, str]) -> None:
    """Refuse to work for a bench that has another aezoo or torch.

    Raises:
        UnfitError: these are not the versions that are installed here.
    """
    here = versions()
    if here != asked:
        raise UnfitError(
            f"here are aezoo {here[0]} and torch {here[1]}, but the bench was called with aezoo {asked[0]} and "
            f"torch {asked[1]}; install the same everywhere"
        )


def capture(device: str, threads: int) -> Environment:
    """Describe this process's software, and the device that it computes on; one of another machine has no name here."""
    import torch

    cuda = device == "cuda" and torch.cuda.is_available()
    return Environment(
        aezoo=version(),
        git_commit=git_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        device=device,
        device_name=torch.cuda.get_device_name() if cuda else "unknown" if device == "cuda" else _processor(),
        threads=threads,
        cuda=torch.version.cuda if cuda else None,
        driver=_nvidia_driver() if cuda else None,
    )


@contextmanager
def configured(threads: int) -> Iterator[None]:
    """Give a process, while the context lasts, what makes its figures repeat, and leave it as it was."""
    import torch

    before = (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _unwritten_memory().fill_uninitialized_memory,
    )
    kernels = {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in _ATTENTION}
    configure(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
        torch.use_deterministic_algorithms(before[3], warn_only=before[4])
        _unwritten_memory().fill_uninitialized_memory = before[5]
        for name, enabled in kernels.items():
            getattr(torch.backends.cuda, f"enable_{name}_sdp")(enabled)


_ATTENTION = ("flash", "mem_efficient", "cudnn")
"""torch's kernels of attention on an NVIDIA device whose gradients are summed in any order, whatever is said here."""


def configure(threads: int) -> None:
    """Set threads, true float32, no denormals, deterministic kernels."""
    import torch

    _keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # Else convolutions alone would run in TF32 on a GPU, under a recipe that says float32.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Trials run side by side as it is: torch.compile shall start no pool of processes of its own.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    inductor: Any = sys.modules.get("torch._inductor.config")
    if inductor is not None:
        inductor.compile_threads = 1
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else it fills all that is allocated before it is written; the preflight finds out who reads what was not.
    _unwritten_memory().fill_uninitialized_memory = False
    if torch.cuda.is_available():
        # They heed deterministic algorithms only where an operation that has none is an error, and not a warning.
        for name in _ATTENTION:
            getattr(torch.backends.cuda, f"enable_{name}_sdp")(False)


def _unwritten_memory() -> Any:
    """Return the module of torch that has the setting, which its stubs do not know."""
    import torch

    return torch.utils.deterministic


@contextmanager
def unwritten_memory_filled(filled: bool) -> Iterator[None]:
    """While the context lasts, fill memory that is allocated and not yet written, with NaN, or leave what was there."""
    setting = _unwritten_memory()
    before, setting.fill_uninitialized_memory = setting.fill_uninitialized_memory, filled
    try:
        yield
    finally:
        setting.fill_uninitialized_memory = before


@cache
def _keep_freed_memory() -> None:
    """Keep what tensors of a step free for those of the next: glibc would give it back, and fetch it page by page."""
    import ctypes

    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h; 32 MiB is the most that it takes for the latter
        allocator(trim_threshold, 2**30)
        allocator(mmap_threshold, 2**25)


def is_own_process() -> bool:
    """Tell whether this process was started for one task alone, so that its peak memory is that task's."""
    return multiprocessing.parent_process() is not None


_NO_MEMORY = (
    "can't allocate memory",  # the host
    "CUDA error: out of memory",  # the driver, where torch's allocator does not ask
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN, which take memory of their own
    "MPS backend out of memory",
    "Invalid buffer size",  # MPS, of a single tensor
)
"""What errors say that have no class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell out of memory, host or device, from every other error."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def oom_kills() -> int:
    """Count the processes that the kernel has killed for want of memory since it started; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def cache_folder() -> Path:
    """Return the user's folder for what can be had again; one in the temporary folder for a user who has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aezoo"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "aezoo"


def version() -> str:
    """Return the version of the installed aezoo."""
    return metadata.version("aezoo")


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout that aezoo runs from (with ``+`` where it was changed), or None."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def _nvidia_driver() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()[0] if answer.stdout.split() else None


class PeakMemory:
    """The memory that this process came to hold since this object was made: host and device, in bytes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = psutil.Process().memory_info().rss
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def host(self) -> int | None:
        """Return what it added to the resident memory at its peak; None where this process is not the trial's own."""
        if not is_own_process():
            return None
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return max(0, peak * (1 if sys.platform == "darwin" else 1024) - self._before)

    def device(self) -> int | None:
        """Return the most that tensors held on the accelerator; None on a CPU or where torch does not count."""
        if self._device != "cuda":
            return None
        import torch

        return torch.cuda.max_memory_allocated()


def cores() -> int:
    """Return how many cores are ours: inside a container or a batch job, fewer than the machine has."""
    return len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else psutil.cpu_count() or 1


def default_jobs(device: str, threads: int = 1) -> int:
    """Return how many trials run side by side: as many as the cores hold on a CPU, one on an accelerator."""
    return max(1, cores() // threads) if device == "cpu" else 1
