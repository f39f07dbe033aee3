"""The other hooks: metrics, executors, and the events that trackers listen to."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import aezoo
from aezoo.contract.executor import Executor, Outcome, Task
from aezoo.contract.images import check_images, sha256, share
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError, UnfitError
from aezoo.harness.local import LOCAL
from aezoo.harness.observer import Observer
from aezoo.harness.state import status
from aezoo.registry.discovery import discover, find_metric
from aezoo.run.store import RunDirectory
from aezoo.train.score import TrainedNetwork

RECIPE = Recipe(name="t", dataset="tiny", steps=5)
METRICS = """
    import aezoo, os, time

    def metric(name, compute):
        return aezoo.Metric(name=name, compute=compute, summary="s", reference="r", higher_is_better=True)

    def exact(evaluation):
        errors = [((x - y) ** 2).double().flatten(1).mean(1) for x, y in evaluation.batches("test")]
        return sum(float(one.sum()) for one in errors) / sum(len(one) for one in errors)

    def nan(evaluation): return float("nan")
    def exits(evaluation): raise SystemExit(3)
    def text(evaluation): return "much"
    def labelled(evaluation): return evaluation.labels("test").float().mean()
    def dies(evaluation): os._exit(3)
    def hangs(evaluation): time.sleep(600)

    def spoils(evaluation):
        for parameter in evaluation.module.parameters():
            parameter.data.zero_()
        return 0

    @aezoo.hookimpl
    def aezoo_metrics():
        for compute in (spoils, exact, nan, exits, text, labelled, dies, hangs):
            yield metric(compute.__name__, compute)
"""


@pytest.mark.parametrize("name", ["dies", "hangs"])
def test_a_metric_that_ends_its_process_costs_itself_and_not_the_trial(name, tiny, distribute, tmp_path):
    distribute(METRICS, name="some-metrics")
    plain, _ = bench(tmp_path / "plain")
    run, _ = bench(tmp_path / "run", recipe=RECIPE.change(metrics=["exact", name]), timeout=5)
    assert set(run.table()["status"]) == {"ok"}
    assert run.table()["test_mse"].tolist() == plain.table()["test_mse"].tolist()
    reason = {"dies": "its process ended without a result, exit status 3", "hangs": "still running after 5 s"}[name]
    notes = (run.path / "table.md").read_text()
    assert f"- no {name} of mean: {reason}" in notes
    assert f"- no exact of mean: {reason}" in notes


def test_a_metric_cannot_take_a_columns_name_nor_be_asked_for_twice_nor_with_settings(tiny, distribute, tmp_path):
    with pytest.raises(ContractError, match="the column 'test_mse' is aezoo's own"):
        aezoo.Metric(name="test_mse", compute=len, summary="s", reference="r", higher_is_better=True)
    distribute(METRICS, name="some-metrics")
    for metrics, told in (
        (["exact", "some-metrics:exact"], "the metric 'some-metrics:exact' is asked for twice"),
        (["exact[x=1]"], r"a metric has no hyperparameters, but got 'exact\[x=1\]'; give exact"),
    ):
        with pytest.raises(AezooError, match=told):
            bench(tmp_path / "run", recipe=RECIPE.change(metrics=metrics))


def test_what_goes_otherwise_than_asked_is_a_warning_in_python(tiny, distribute, tmp_path):
    distribute("raise ImportError('gone')", name="broken-dist")
    with pytest.warns(UserWarning, match="plugin broken_dist of broken-dist 1.2 was left out: ImportError: gone"):
        aezoo.bench(["mean"], recipe=RECIPE, out=tmp_path / "run", device="cpu", timing=False)


class Log(Observer):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def bench(out, variants=("linear[latent_dim=2]",), recipe=RECIPE, **options):
    log = Log()
    run = aezoo.bench(variants, recipe=recipe, out=out, observer=log, device="cpu", timing=False, **options)
    return run, log


def test_a_metric_is_a_column_and_one_that_fails_says_why_and_harms_nothing(tiny, distribute, tmp_path):
    distribute(METRICS, name="some-metrics")
    plain, _ = bench(tmp_path / "plain")
    asked = RECIPE.change(metrics=["nan", "exits", "text", "labelled", "exact"], seeds=2)
    run, _ = bench(tmp_path / "run", recipe=asked)
    table = run.table().set_index("variant")
    assert list(table.columns[-5:]) == ["nan", "exits", "text", "labelled", "exact"]
    assert table["exact"].to_numpy() == pytest.approx(table["test_mse"].to_numpy(), rel=1e-5)
    assert table[["nan", "exits", "text", "labelled"]].isna().all(axis=None)
    assert pd.read_csv(run.path / "table.csv")["exact"].notna().all()
    notes = (run.path / "table.md").read_text()
    assert "- no nan of linear[latent_dim=2]: it came to nan, which is no finite number\n" in notes
    assert "- no exits of mean: SystemExit: 3\n" in notes
    assert "- no text of mean: ValueError: could not convert string to float: 'much'\n" in notes
    assert "- no labelled of mean: the data set has no labels\n" in notes
    # The score, and what two runs must share to be compared, know nothing of metrics.
    assert run.records()[0].fingerprint == plain.records()[0].fingerprint
    before = {(one.variant, one.seed): one.test_errors_sha256 for one in plain.records()}
    after = {(one.variant, one.seed): one.test_errors_sha256 for one in run.records()}
    assert before.items() <= after.items()


def test_a_metric_is_computed_from_kept_weights_and_trains_nothing_again(tiny, distribute, tmp_path):
    distribute(METRICS, name="some-metrics")
    plain, _ = bench(tmp_path / "run")
    assert "exact" not in plain.table()
    again, _ = bench(tmp_path / "run", recipe=RECIPE.change(metrics=["spoils", "exact"]))
    assert plain.records() == again.records()
    table = again.table()
    assert table["spoils"].tolist() == [0.0] * len(table)
    assert len(table) == 3


def test_status_tells_a_metric_that_is_missing_or_whose_plugin_changed(tiny, distribute, tmp_path):
    distribute(METRICS, name="some-metrics")
    run, _ = bench(tmp_path / "run", recipe=RECIPE.change(metrics=["exact"]))

    def states():
        discover.cache_clear()
        table = status(RunDirectory(run.path), discover())
        return {(row["state"], row["why"]) for _, row in table.iterrows()}

    assert states() == {("done", "")}
    (path,) = (tmp_path / "run" / "metrics").glob("mean-*.json")
    content = path.read_bytes()
    path.unlink()
    assert states() == {("done", ""), ("missing", "metric exact not computed; a bench of it with --metrics exact does")}
    path.write_bytes(content)
    distribute(METRICS + "# changed", name="some-metrics")
    assert states() == {("stale", "metric exact: its plugin's source changed; the network is not trained again")}
    before = run.records()
    bench(tmp_path / "run", recipe=RECIPE.change(metrics=["exact"]))
    assert (states(), run.records()) == ({("done", "")}, before)


def test_an_unknown_metric_is_one_line(tiny, distribute, tmp_path):
    distribute(METRICS, name="some-metrics")
    with pytest.raises(
        AezooError, match=r"no metric 'spoil'; `aezoo list --metrics` shows them all. Did you mean 'spoi"
    ):
        bench(tmp_path / "run", recipe=RECIPE.change(metrics=["spoil"]))


@pytest.fixture
def network():
    """Return a trained network that gives back a tenth less of each pixel, on images with labels."""
    rng = np.random.RandomState(0)
    images = {
        part: torch.from_numpy(rng.randint(0, 256, (n, 1, 16, 16), np.uint8))
        for part, n in (("train", 300), ("test", 200))
    }
    labels = {part: (pixels[:, 0, 0, 0] > 127).long() for part, pixels in images.items()}

    class Dim(torch.nn.Module):
        def encode(self, x):
            return x.flatten(1)[:, :4]

        def decode(self, z):
            raise NotImplementedError

        def forward(self, x):
            return x * 0.9

    return TrainedNetwork(module=Dim(), device="cpu", precision="float32", images=images, known_labels=labels)


def first_party(name):
    return discover().metric(name)[0].compute


def test_psnr_is_the_mean_over_images_of_what_the_textbook_says(network):
    pixels = network.images["test"].double() / 255
    each = -10 * torch.log10((0.1 * pixels).square().flatten(1).mean(1))
    assert first_party("psnr")(network) == pytest.approx(float(each.mean()), rel=1e-5)


def test_ssim_is_that_of_the_paper(network):
    from scipy.ndimage import gaussian_filter

    def one(x, y):
        def blur(z):
            return gaussian_filter(z, 1.5, truncate=3.4, mode="reflect")[5:-5, 5:-5]

        mx, my, xx, yy, xy = blur(x), blur(y), blur(x * x), blur(y * y), blur(x * y)
        up = (2 * mx * my + 1e-4) * (2 * (xy - mx * my) + 9e-4)
        return (up / ((mx**2 + my**2 + 1e-4) * (xx - mx**2 + yy - my**2 + 9e-4))).mean()

    pixels = network.images["test"][:, 0].double().numpy() / 255
    expected = np.mean([one(x, 0.9 * x) for x in pixels])
    assert first_party("ssim")(network) == pytest.approx(expected, abs=2e-4)
    small = TrainedNetwork(**{**vars(network), "images": {"test": network.images["test"][:, :, :10]}})
    with pytest.raises(AezooError, match="images of 10x16 are smaller than its window of 11x11 pixels"):
        first_party("ssim")(small)


def test_the_linear_probe_reads_the_labels_off_the_latent(network):
    train, test = (network.latents(part).numpy() for part in ("train", "test"))
    scaled = [(part - train.mean(0)) / train.std(0) for part in (train, test)]
    fitted = LogisticRegression().fit(scaled[0], network.labels("train"))
    accuracy = first_party("linear_probe")(network)
    assert accuracy == pytest.approx(fitted.score(scaled[1], network.labels("test")))
    assert accuracy > 0.9
    shuffled = {part: labels[torch.randperm(len(labels))] for part, labels in network.known_labels.items()}
    assert first_party("linear_probe")(TrainedNetwork(**{**vars(network), "known_labels": shuffled})) < 0.65
    with pytest.raises(AezooError, match="the data set has no labels"):
        first_party("linear_probe")(TrainedNetwork(**{**vars(network), "known_labels": {}}))
    with pytest.raises(AezooError, match="no encoder and decoder, and so no latent"):
        first_party("linear_probe")(TrainedNetwork(**{**vars(network), "module": torch.nn.Identity()}))


def test_a_trials_process_finds_a_metric_by_its_origin_and_no_other_version_of_it():
    metric, plugin = discover().metric("psnr")
    assert find_metric("psnr", plugin.origin, plugin.source).compute is metric.compute
    later = plugin.source.model_copy(update={"version": "9.9"})
    with pytest.raises(UnfitError, match=r"of aezoo .*, but the bench has aezoo 9\.9; install the same"):
        find_metric("psnr", plugin.origin, later)


def test_labels_are_checked_and_shared_and_no_part_of_what_makes_data_the_same():
    pixels = np.zeros((3, 1, 5, 5), np.uint8), np.ones((2, 1, 5, 5), np.uint8)
    plain = aezoo.Images(train=pixels[0], test=pixels[1])
    labelled = aezoo.Images(
        train=pixels[0], test=pixels[1], train_labels=np.array([3, -1, 2**40]), test_labels=np.array([7, 8], np.uint8)
    )
    assert sha256(plain) == sha256(labelled)
    with share(plain) as shared:
        assert shared.load_labels() is None
    with share(labelled) as shared:
        assert [part.tolist() for part in shared.load_labels()] == [[3, -1, 2**40], [7, 8]]
        assert [part.sum().item() for part in shared.load()] == [0, 50]
    for train, test, told in (
        (np.zeros(3, int), None, "labels for the train and the test images, or for none"),
        (np.zeros(4, int), np.zeros(2, int), r"3 train images need labels of shape \(3,\), but got \(4,\)"),
        (np.zeros(3), np.zeros(2), "train labels must be an array of whole numbers, but are float64"),
        ([1, 2, 3], np.zeros(2, int), "train labels must be an array of whole numbers, but are list"),
    ):
        with pytest.raises(AezooError, match=told):
            check_images(aezoo.Images(train=pixels[0], test=pixels[1], train_labels=train, test_labels=test), "d")


@pytest.mark.parametrize("name", ["mnist-5k", "digits"])
def test_the_packaged_data_sets_have_labels_in_the_order_of_their_images(name, tmp_path):
    images = discover().dataset(name).checked(tmp_path)
    train, test = (part.reshape(len(part), -1) / 255 for part in (images.train, images.test))
    nearest = [images.train_labels[np.square(train - one).sum(1).argmin()] for one in test[:100]]
    assert np.mean(nearest == images.test_labels[:100]) > 0.85


# Executors


def test_trials_that_run_inline_come_to_the_same_numbers_and_say_how_they_ran(tiny, tmp_path):
    local, _ = bench(tmp_path / "local")
    inline, _ = bench(tmp_path / "inline", executor="inline")
    before, after = ({one.trial_id: one for one in run.records()} for run in (local, inline))
    assert before.keys() == after.keys()
    assert {name: one.test_errors_sha256 for name, one in before.items()} == {
        name: one.test_errors_sha256 for name, one in after.items()
    }
    assert {one.executor for one in after.values()} == {"inline"}
    # The bench's own process has a peak of its own, which says nothing of one trial.
    assert {one.peak_memory_bytes for one in after.values()} == {None}
    assert all(one.peak_memory_bytes > 0 for one in before.values())
    with pytest.raises(AezooError, match="the executor inline cannot stop a trial: leave out --timeout"):
        bench(tmp_path / "timed", executor="inline", timeout=5)
    assert not (tmp_path / "timed").exists()
    with pytest.raises(AezooError, match="no executor 'inlin'; `aezoo list --executors` shows them all. Did you mean"):
        bench(tmp_path / "run", executor="inlin")


@dataclass(frozen=True)
class Does:
    """A work that is a function."""

    function: Callable

    def run(self, report):
        return self.function(report)


def tasks_of(*names):
    return [Task(id=name, work=Does(math.sqrt)) for name in names]


def outcomes(run, names="abc", refused=""):
    started = []
    found = Executor(name="some", run=run, summary="s").outcomes(
        tasks_of(*names), 2, lambda task: started.append(task.id),
        may_start=lambda task: None if task.id in refused else task,
    )  # fmt: skip
    return [(one.task.id, one.status, one.reason) for one in found], started


def loses(tasks, jobs, on_start, on_report, may_start):
    for task in tasks[:2]:
        if may_start(task):
            on_start(task)
    yield Outcome(task=tasks[0], status="ok")
    yield Outcome(task=tasks[0], status="ok")


def raises(tasks, *_):
    yield Outcome(task=tasks[0], status="ok")
    raise ValueError("no cluster")


def test_an_executor_that_loses_tasks_or_raises_leaves_a_row_for_each():
    ok, lost = ("a", "ok", None), "the executor some ended without an outcome for it"
    assert outcomes(loses) == ([ok, ("b", "error", lost), ("c", "error", lost)], ["a", "b", "c"])
    assert outcomes(loses, refused="b") == ([ok, ("c", "error", lost)], ["a", "c"])
    told = "the executor some raised ValueError: no cluster"
    assert outcomes(raises)[0] == [ok, ("b", "error", told), ("c", "error", told)]
    assert outcomes(lambda *_: None)[0][0] == (
        "a", "error", "the executor some raised TypeError: 'NoneType' object is not iterable",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["local", "inline"])
def test_a_task_runs_as_may_start_returned_it_and_what_it_reports_comes_back(name, distribute):
    distribute("""
        from dataclasses import dataclass
        from aezoo import Progress

        @dataclass(frozen=True)
        class Counts:
            first: int

            def run(self, report):
                report(Progress(steps=self.first))
                report(Progress(steps=self.first + 1, checkpoint=b"x" * 200_000))
                return self.first
    """)
    import fake_dist

    def may_start(task):
        return replace(task, work=fake_dist.Counts(7)) if task.id == "a" else None

    tasks = [Task(id=name, work=fake_dist.Counts(0)) for name in "ab"]
    executor = LOCAL if name == "local" else discover().executor(name)
    reports = []
    (outcome,) = executor.outcomes(tasks, 2, on_report=lambda *report: reports.append(report), may_start=may_start)
    assert (outcome.task.id, outcome.value) == ("a", 7)
    assert [(task.id, progress.steps, progress.checkpoint) for task, progress in reports] == [
        ("a", 7, None), ("a", 8, b"x" * 200_000),
    ]  # fmt: skip


def test_an_executor_is_closed_when_the_iteration_ends_early():
    closed = []

    def run(tasks, *_):
        try:
            for task in tasks:
                yield Outcome(task=task, status="ok")
        finally:
            closed.append(True)

    found = Executor(name="some", run=run, summary="s").outcomes(tasks_of("a", "b"), 1)
    assert next(found).task.id == "a"
    found.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "error"),
        (SystemExit(1), "error"),
        (ContractError("x"), "invalid"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_a_task_run_here_ends_with_a_status_whatever_it_raises(error, status):
    def function(*_):
        raise error

    outcome = Task(id="a", work=Does(function)).run(lambda _: None)
    assert outcome.status == status
    assert type(error).__name__ in outcome.traceback


def test_ctrl_c_ends_a_task_run_here():
    def function(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Task(id="a", work=Does(function)).run(lambda _: None)


def test_the_name_local_is_aezoos_own(distribute):
    distribute("""
        import aezoo

        @aezoo.hookimpl
        def aezoo_executors():
            yield aezoo.Executor(name="local", run=print, summary="s")
    """)
    (broken,) = discover().broken
    assert broken.reason == f"the executor {LOCAL.name!r} is aezoo's own; choose another name"


# Events


TRACKER = """
    import aezoo, pathlib

    log = pathlib.Path(LOG)

    def write(text):
        with log.open("a") as file:
            print(text, file=file)

    @aezoo.hookimpl
    def aezoo_run_started(run, recipe, variants):
        write(f"started {run.name} {recipe.name} {','.join(variants)}")

    @aezoo.hookimpl
    def aezoo_trial_finished(record):
        write(f"{record.variant} {record.status}")

    @aezoo.hookimpl
    def aezoo_run_finished(run):
        write(f"finished {(run / 'table.csv').is_file()} {len(aezoo.Run(path=run).table())}")
"""


def test_a_tracker_hears_of_the_run_and_of_each_trial(tiny, distribute, tmp_path):
    distribute(TRACKER.replace("LOG", repr(str(tmp_path / "log"))), name="tracker-dist")
    expected = ["started run t linear[latent_dim=2],mean,pca[latent_dim=2]"]
    for trials in (["linear[latent_dim=2] ok", "mean ok", "pca[latent_dim=2] ok"], []):
        bench(tmp_path / "run")
        started, *middle, finished = (tmp_path / "log").read_text().splitlines()
        assert [started] == expected
        assert sorted(middle) == trials
        assert finished == "finished True 3"
        (tmp_path / "log").unlink()


@pytest.mark.parametrize("event", ["aezoo_run_started", "aezoo_trial_finished", "aezoo_run_finished"])
@pytest.mark.parametrize("error", ["ValueError('x\\ny')", "SystemExit(3)"])
def test_a_tracker_that_raises_is_told_of_once_and_harms_nothing(tiny, distribute, tmp_path, event, error):
    distribute(f"""
        import aezoo

        @aezoo.hookimpl
        def {event}(run):
            raise {error}
    """)
    run, log = bench(tmp_path / "run")
    assert run.table()["status"].eq("ok").all()
    said = "ValueError: x y" if "Value" in error else "SystemExit: 3"
    assert log.warnings == [
        f"plugin fake_dist of fake-dist 1.2: {event} raised {said}; it is told nothing more of this bench"
    ]


def test_tensorboard_shows_each_trials_curve_and_results(tiny, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("AEZOO_NO_PLUGINS")
    discover.cache_clear()
    recipe = RECIPE.change(steps=120)
    run, log = bench(tmp_path / "run", recipe=recipe)
    bench(tmp_path / "run", recipe=recipe, retry_failed=True)
    assert log.warnings == []
    record = next(one for one in run.records() if one.architecture == "linear")
    found = accumulator.EventAccumulator(str(run.path / "tensorboard" / record.trial_id))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("training_mse")] == [
        (step, pytest.approx(mse)) for step, mse in record.curve
    ]
    assert [one.value for one in found.Scalars("result/test_mse")] == [pytest.approx(record.test_mse)]
    written = {path.name for path in (run.path / "tensorboard").iterdir()}
    assert written == {*RunDirectory(run.path).records(), "run", "table"}
    for name, told in (("run", "steps = 120"), ("table", "| linear[latent_dim=2]")):
        found = accumulator.EventAccumulator(str(run.path / "tensorboard" / name))
        found.Reload()
        (tag,) = found.Tags()["tensors"]
        (event,) = found.Tensors(tag)
        assert told in event.tensor_proto.string_val[0].decode()
