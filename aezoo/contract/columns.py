"""The columns of all views of a run: their names, which programs rely on, and what a person reads in them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["text", "integer", "number"]


def loss(value: float) -> str:
    """Return a loss with five decimals, or with three significant digits where those say less."""
    return f"{value:.5f}" if value == 0 or abs(value) >= 1e-3 else f"{value:#.3g}"


def _in(style: str) -> Callable[[float], str]:
    return lambda value: format(value, style)


_whole = _in(",.0f")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column.

    Args:
        name: What a program calls it by.
        kind: Texts, integers (Int64) or numbers (Float64); each may be missing.
        format: A number as a person reads it; programs get every digit.
        shown: Whether a person sees it; else it is for table.csv, csv and json, or a mark on another column.
        essential: Whether it is shown on a narrow terminal too.
        header: What a person reads above it, where that is shorter than its name.
        higher_is_better: Whether what is more is better, and stands first where a table is sorted by it.
        meaning: What it says, for the README; where that names several columns, with the first of them.
    """

    name: str
    kind: Kind = "number"
    format: Callable[[float], str] = _whole
    shown: bool = True
    essential: bool = False
    header: str = ""
    higher_is_better: bool = False
    meaning: str = ""


COLUMNS = (
    Column(
        name="rank", kind="integer", essential=True,
        meaning="over all, by `test_mse`, whatever the size of the code; `3 (2-5)` where the evidence allows the "
        "second to the fifth, Holm-corrected over all pairs; failed variants last",
    ),
    Column(
        name="variant", kind="text", essential=True, meaning="architecture and hyperparameters, defaults left out",
    ),
    Column(name="objective", kind="text", meaning="what is optimised beside the harness's own MSE"),
    Column(
        name="latent_size", header="latent", kind="integer", essential=True,
        meaning="numbers in one image's latent",
    ),
    Column(
        name="num_params", header="params", kind="integer", essential=True,
        meaning="numbers in the network, fitted ones included",
    ),
    Column(
        name="test_mse", format=loss, essential=True,
        meaning="mean squared error a pixel over the whole test set, clean input, pixels in [0, 1], mean over seeds",
    ),
    Column(
        name="test_mse_low", format=loss, shown=False,
        meaning="the lower end of its 95 % interval over seeds and test images; with one seed over the images alone",
    ),
    Column(name="test_mse_high", format=loss, shown=False, meaning="the upper end"),
    Column(
        name="vs_pca", format=_in(".3f"), essential=True,
        meaning="`test_mse` over PCA's at the same latent size: below 1 is better than PCA; empty where PCA is exact, "
        "and for sparse and discrete latents, whose size says something else",
    ),
    Column(
        name="train_images_per_s", header="train/s", higher_is_better=True,
        meaning="throughput in training, measured alone at the end, on one machine; `~` marks an unsteady figure",
    ),
    Column(
        name="infer_images_per_s", header="infer/s", higher_is_better=True,
        meaning="throughput of reconstruction, likewise",
    ),
    Column(name="peak_memory_mb", header="MB", meaning="what the trial added to its process's memory, in 10⁶ bytes"),
    Column(name="seeds", kind="integer", essential=True, meaning="seeds that ended well"),
    Column(
        name="status", kind="text", essential=True,
        meaning="`ok`, or what went wrong; of what has not ended `running`, `waiting` while others run, or "
        "`interrupted`; "
        "`not deterministic` where one seed gives two networks; `same start` where "
        "every seed starts from the same weights, so that there is no interval; `except ...` where its author declared "
        "a check as not met",
    ),
    Column(name="reason", kind="text", shown=False, meaning="of what failed: what went wrong, of the first such seed"),
    Column(
        name="bits", format=_in(",.1f"),
        meaning="what an image's code takes where it is discrete: codes times log2 K",
    ),
    Column(
        name="coded_bits", header="coded", format=_in(",.1f"),
        meaning="what a test image's codes take, on average, in an ideal code for those of the training images: each "
        "by how often it was used; of a codec its file without the header",
    ),
    Column(
        name="active_units", header="active", format=_in(",.1f"),
        meaning="how many of its numbers are not 0, on average, where it is sparse",
    ),
    Column(
        name="support_bits", header="support", format=_in(",.1f"),
        meaning="what tells which of its numbers these are: log2 of the ways to choose so many; the numbers themselves "
        "come on top",
    ),
    Column(
        name="latent_parts", kind="text", shown=False,
        meaning="what its latent consists of, where that is several parts: the name and the shape of each",
    ),
    Column(
        name="adversary_params", kind="integer", shown=False,
        meaning="numbers in its adversary, which are trained beside it, and through which no image goes",
    ),
    Column(
        name="train_vs_reference", higher_is_better=True, format=_in(".3g"),
        meaning="throughput in training over that of `mlp` in the same rounds, to read beside another machine's",
    ),
    Column(name="infer_vs_reference", higher_is_better=True, format=_in(".3g"), meaning="the same of reconstruction"),
    Column(
        name="matmul_share", higher_is_better=True, shown=False,
        meaning="FLOPs a second of training over those of a product of two matrices in the same rounds",
    ),
    Column(
        name="train_spread", shown=False,
        meaning="how far the rounds of `train_images_per_s` lie apart: interquartile range over median",
    ),
    Column(name="infer_spread", shown=False, meaning="the same of `infer_images_per_s`"),
    Column(name="no_speed", kind="text", shown=False, meaning="why it has no throughput, where it was to have one"),
    Column(
        name="flops_per_image", kind="integer", shown=False,
        meaning="FLOPs to reconstruct one image, a multiplication and an addition as two",
    ),
    Column(
        name="train_flops_per_image", kind="integer", shown=False,
        meaning="FLOPs of a training step an image, the backward pass and an adversary's step included",
    ),
    Column(name="infer_memory_mb", shown=False, meaning="what one batch of reconstruction added to its process's"),
    Column(name="device_memory_mb", shown=False, meaning="what the trial held on an accelerator"),
    Column(name="infer_device_memory_mb", shown=False, meaning="what one batch of reconstruction held there"),
    Column(
        name="compile_seconds", format=_in(".1f"), shown=False,
        meaning="the time of torch.compile, which is in no other column",
    ),
    Column(name="batch_size", kind="integer", shown=False, meaning="images a step"),
    Column(name="threads", kind="integer", shown=False, meaning="threads of a trial on a CPU"),
    Column(name="precision", kind="text", shown=False, meaning="`float32`, `tf32` or `bfloat16`"),
    Column(name="compiled", kind="text", shown=False, meaning="whether steps went through torch.compile"),
    Column(
        name="steps_by", kind="text", shown=False,
        meaning="what gave the device the steps of training: `python`, each on its own, or a CUDA graph, some at once",
    ),
    Column(
        name="side_by_side", kind="integer", shown=False,
        meaning="seeds that trained at the same time in one process, this one among them",
    ),
    Column(
        name="no_graph", kind="text", shown=False,
        meaning="why no CUDA graph took its steps, on an NVIDIA device",
    ),
    Column(
        name="layout", kind="text", shown=False,
        meaning="how the weights lay in memory: `channels_last` on a CPU where there are convolutions that run so",
    ),
    Column(name="device", kind="text", shown=False, meaning="`cpu`, `cuda` or `mps`"),
    Column(name="rank_low", kind="integer", shown=False, meaning="the best rank that the evidence allows"),
    Column(name="rank_high", kind="integer", shown=False, meaning="the worst"),
    Column(
        name="deterministic", kind="text", shown=False,
        meaning="whether the preflight came twice to one network from one seed",
    ),
    Column(
        name="same_start", kind="text", shown=False,
        meaning="`yes` where every seed starts from the same weights: they tell no chance, and there is no interval",
    ),
    Column(
        name="exceptions", kind="text", shown=False,
        meaning="checks of the contract that its author declared as not met; the notes have the reasons",
    ),
    Column(
        name="adapted", kind="text", shown=False,
        meaning="what is done to its images, and to its penalty, for it is a network of somebody else's",
    ),
    Column(
        name="lr", format=_in("g"),
        meaning="the variant's own learning rate, where the recipe has several; `*` marks one at the edge of the list",
    ),
    Column(
        name="lr_at_edge", kind="text", shown=False, meaning="`yes` where it is the least or the greatest of the list",
    ),
    Column(
        name="baseline", kind="text", shown=False, meaning="`mean` or `pca`, for the two that every table carries",
    ),
    Column(
        name="group", kind="text", shown=False,
        meaning="the size of its codes, in numbers, active units or bits: variants of one group may be compared",
    ),
    Column(name="group_rank", header="rank", kind="integer", shown=False, meaning="by `test_mse`, in its group"),
    Column(
        name="group_rank_low", kind="integer", shown=False,
        meaning="the best rank in its group that the evidence allows, Holm-corrected over the group's pairs",
    ),
    Column(name="group_rank_high", kind="integer", shown=False, meaning="the worst"),
    Column(
        name="against_pca", kind="text", shown=False,
        meaning="`better`, `worse` or `not decided` against PCA at the same latent size, Holm-corrected over its group",
    ),
)  # fmt: skip
"""The table of a run, in this order; after these come the metrics that were asked for, their means over the seeds."""

GROUPED = tuple(
    column
    for name in (
        "group", "group_rank", "group_rank_low", "group_rank_high", "variant", "test_mse", "test_mse_low",
        "test_mse_high", "vs_pca", "against_pca", "num_params", "train_images_per_s", "train_spread",
        "infer_images_per_s", "infer_spread", "peak_memory_mb", "objective", "latent_size", "bits", "coded_bits",
        "active_units", "support_bits", "seeds", "status", "deterministic", "same_start", "exceptions", "adapted",
        "baseline", "lr", "lr_at_edge",
    )
    for column in COLUMNS if column.name == name
)  # fmt: skip
"""The table in groups whose codes are of one size: what a program gets of it."""

TUNED = (
    Column(name="variant", kind="text", essential=True, meaning="as in the table"),
    Column(name="lr", format=_in("g"), essential=True, meaning="a learning rate that was tried"),
    Column(
        name="validation_mse", header="val_mse", format=loss, essential=True,
        meaning="on the images that were held out",
    ),
    Column(name="chosen", kind="text", essential=True, meaning="`yes` for the rate that the scored seeds ran with"),
    Column(name="status", kind="text", essential=True, meaning="of the trial that tried it"),
)  # fmt: skip
"""The learning rates that were tried."""

COMPARED = (
    Column(name="variant", kind="text", essential=True, meaning="as in the table"),
    Column(name="found", kind="text", meaning="`both`, or in which of the two runs alone"),
    Column(
        name="verdict", kind="text", essential=True,
        meaning="on b: `better`, `worse`, `not decided`, or `equal` but for rounding",
    ),
    Column(name="test_mse_a", header="mse a", format=loss, essential=True, meaning="in the first run"),
    Column(name="test_mse_b", header="mse b", format=loss, essential=True, meaning="in the other"),
    Column(
        name="change_percent", header="change %", format=_in("+z.1f"), essential=True,
        meaning="by how much `test_mse` is higher in b",
    ),
    Column(name="change_percent_low", format=_in("+z.1f"), shown=False, meaning="the lower end of its 95 % interval"),
    Column(name="change_percent_high", format=_in("+z.1f"), shown=False, meaning="the upper end"),
    Column(name="rank_a", header="rank a", kind="integer", meaning="the rank in the first run"),
    Column(name="rank_b", header="rank b", kind="integer", meaning="in the other"),
    Column(name="num_params_a", header="params a", kind="integer", meaning="numbers in the network of the first run"),
    Column(name="num_params_b", header="params b", kind="integer", meaning="of the other"),
    Column(
        name="train_speed_ratio", header="train x", higher_is_better=True, format=_in(".2f"),
        meaning="throughput in training, b over a; relative to the reference's where the circumstances differ",
    ),
    Column(
        name="infer_speed_ratio", header="infer x", higher_is_better=True, format=_in(".2f"),
        meaning="the same of reconstruction",
    ),
    Column(name="status_a", header="status a", kind="text", meaning="the status in the first run"),
    Column(name="status_b", header="status b", kind="text", meaning="in the other"),
    Column(
        name="network", header="another network", kind="text", essential=True,
        meaning="what makes it another network in b: a changed default, source or latent size; empty where nothing",
    ),
    Column(name="run_b", kind="text", meaning="the other run, where there are several"),
)  # fmt: skip
"""Two runs side by side."""

LEADERS = (
    Column(
        name="mean_rank", header="rank", format=_in(".1f"), essential=True,
        meaning="over the data sets of its code group, of the variants that have a loss on all of them; in brackets "
        "the means of the best and of the worst ranks that the evidence of each data set allows",
    ),
    Column(name="mean_rank_low", format=_in(".1f"), shown=False, meaning="the mean of the best ranks"),
    Column(name="mean_rank_high", format=_in(".1f"), shown=False, meaning="the mean of the worst"),
    Column(
        name="datasets", header="sets", kind="integer", essential=True,
        meaning="data sets on which it has a loss, in this code group",
    ),
)  # fmt: skip
"""A leaderboard over data sets has these, and a column for each data set: the name of a figure, `_on_` and its own."""

FIGURES = {
    "mse": Column(name="mse", format=loss, essential=True, meaning="test_mse on this data set"),
    "ratio": Column(
        name="ratio", format=_in(".3f"), essential=True,
        meaning="test_mse over the least of its code group on this data set",
    ),
    "vs_pca": Column(
        name="vs_pca", format=_in(".3f"), essential=True,
        meaning="test_mse over PCA's at the same latent size on this data set",
    ),
}  # fmt: skip
"""What a leaderboard says of a variant on a data set."""

STATES = (
    Column(name="variant", kind="text", essential=True, meaning="as in the table"),
    Column(name="seed", kind="integer", essential=True, meaning="from 0 on"),
    Column(
        name="state", kind="text", essential=True,
        meaning="`done`, `missing`, `stale`, or the status of a trial that failed",
    ),
    Column(name="why", kind="text", essential=True, meaning="why it is not simply done"),
)  # fmt: skip
"""The trials of a run, as `aezoo status` lists them."""

ORIGIN = (
    Column(name="run", kind="text", essential=True, meaning="the folder of the run"),
    Column(name="dataset", kind="text", essential=True, meaning="its data set"),
    Column(name="fingerprint", kind="text", essential=True, meaning="its recipe's: losses of one may be compared"),
)
"""What stands before a row that was exported from a run."""

PLANNED = (
    Column(name="trials", kind="integer", essential=True, meaning="trials that would run"),
    Column(name="seconds", format=_in(",.1f"), essential=True, meaning="what they would take, one after another"),
)
"""What `aezoo bench --dry-run` says beside columns of the table."""

_BY_NAME = {
    column.name: column for column in (*ORIGIN, *PLANNED, *STATES, *TUNED, *LEADERS, *COMPARED, *GROUPED, *COLUMNS)
}
_SWEPT = re.compile(r"mse_[0-9]+")
_ON_A_DATASET = re.compile(rf"({'|'.join(FIGURES)})_on_.*", re.DOTALL)


def is_reserved(name: str) -> bool:
    """Say whether a view of aezoo's own has a column of this name."""
    return name in _BY_NAME or any(pattern.fullmatch(name) for pattern in (_SWEPT, _ON_A_DATASET))


def column(name: str) -> Column:
    """Return the column of a name: aezoo's own, a figure on a data set (``mse_on_digits``), a loss at one latent_dim
    (``mse_16``), or a metric."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if figure := _ON_A_DATASET.fullmatch(name):
        return replace(FIGURES[figure[1]], name=name)
    if _SWEPT.fullmatch(name):
        return Column(name=name, format=loss, essential=True, meaning="test_mse at this latent_dim")
    return Column(name=name, format=_in("#.4g"), meaning="a metric that was asked for")
