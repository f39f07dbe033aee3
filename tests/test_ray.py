"""Trials on a real Ray cluster, of several nodes on this machine: the table is the local one, whatever a node does."""

import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import TINY

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.harness.observer import Observer
from aezoo.registry.discovery import discover

pytest.importorskip("ray")
import ray
from ray.cluster_utils import Cluster
from works import Dies, Look, Starves, Waits

from aezoo_plugins import cluster, node, placement
from aezoo_plugins.executors.ray import RAY, connect

STORE = 80 * 2**20
RECIPE = Recipe(name="t", dataset="tiny", steps=40, batch_size=16, seeds=6)
VARIANTS = ["plug[latent_dim=2]", "plug[latent_dim=2,width=8]", "plug[latent_dim=2,width=9]"]
PLUG = """
    import multiprocessing, os, signal, time
    from pathlib import Path
    import aezoo, torch
    from torch import nn

    class Plug(aezoo.Autoencoder):
        steps = 0

        def training_forward(self, x):
            # The preflight takes fewer: what is wrong with a node shows in a trial.
            self.steps += 1
            if self.steps > 20:
                time.sleep(0.02)
                if "NODE" in os.environ:
                    Path(os.environ["MARKS"], os.environ["NODE"]).touch()
                    self.fails(os.environ["NODE"])
                # A good node goes on once each of the bad ones has had a trial.
                marks = Path(Path(__file__).with_name("marks").read_text())
                until = time.monotonic() + 60
                while marks.exists() and len(list(marks.iterdir())) < int(marks.name) and time.monotonic() < until:
                    time.sleep(0.05)
            return aezoo.TrainingOutput(self(x))

        def fails(self, how):
            if how == "memory":
                torch.empty(2**62, dtype=torch.uint8)
            if how == "hang":
                os.kill(multiprocessing.parent_process().pid, signal.SIGSTOP)
            time.sleep(1000)

    def build(image_shape, *, latent_dim: int = 2, width: int = 7):
        print("sees", repr(os.environ.get("CUDA_VISIBLE_DEVICES")), os.environ.get("OMP_NUM_THREADS"), flush=True)
        return Plug(nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Linear(width, latent_dim)),
                    nn.Sequential(nn.Linear(latent_dim, 36), nn.Unflatten(1, image_shape)))

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="plug", build=build, summary="s", reference="r")
"""
DETERMINISTIC = [
    "variant",
    "rank",
    "objective",
    "latent_size",
    "num_params",
    "test_mse",
    "test_mse_low",
    "vs_pca",
    "seeds",
    "status",
]


def lay(site: Path, name: str, source: str, version: str) -> None:
    """Lay a distribution with one plugin module into a folder."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(textwrap.dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[aezoo]\n{name} = {name}\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of distributions that this process and every node have on their paths."""
    folder = tmp_path_factory.mktemp("site")
    lay(folder, "tiny_data", TINY, "1.2")
    lay(folder, "plug", PLUG, "1.0")
    (folder / "marks").write_text("nowhere")
    other = tmp_path_factory.mktemp("other")
    lay(other, "plug", PLUG, "2.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *(path for path in sys.path if path)]))
        discover.cache_clear()
        yield {"here": folder, "other": other}
    discover.cache_clear()


@pytest.fixture(scope="module")
def nodes(site):
    """A cluster of two nodes of one core each; a test adds what is to go wrong."""
    # The paths of its sockets are longer than the rest of one in the tests' own temporary folder.
    folder = tempfile.mkdtemp(dir="/tmp", prefix="aezoo-")
    with pytest.MonkeyPatch.context() as patch:
        # Its workers would wait for all that this machine does beside the tests.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_TMPDIR", folder)
        head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, num_gpus=2, object_store_memory=STORE)
        yield made
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def local(site, tmp_path_factory):
    """The run that the local executor makes of the same call."""
    return bench(tmp_path_factory.mktemp("local") / "run")


class Hears(Observer):
    """What the bench says that went otherwise than asked."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def bench(out, observer=None, variants=VARIANTS, **settings):
    settings = {"recipe": RECIPE, "timing": False, "report": False, "device": "cpu", **settings}
    return aezoo.bench(variants, out=out, observer=observer or Observer(), **settings)


@pytest.fixture
def marks(site, tmp_path):
    """Make, of a number of bad nodes, the folder in which each leaves a mark when it has a trial."""

    def make(bad):
        folder = tmp_path / "marks" / str(bad)
        folder.mkdir(parents=True)
        (site["here"] / "marks").write_text(str(folder))
        return folder

    yield make
    (site["here"] / "marks").write_text("nowhere")


def outcomes(nodes, *tasks, site=None, **callbacks):
    site = site or aezoo.Site(address=nodes.address, device="cpu")
    with RAY.connected(site) as executor:
        return {outcome.task.id: outcome for outcome in executor.outcomes(tasks, 1, **callbacks)}


def stopped():
    """Return the processes of this machine that something has stopped."""
    return {each.pid for each in psutil.process_iter(["status"]) if each.info["status"] == psutil.STATUS_STOPPED}


def test_nodes_without_aezoo_are_one_line(nodes, monkeypatch):
    monkeypatch.setattr(node, "__name__", "aezoo_of_nowhere")
    outcome = outcomes(nodes, aezoo.Task(id="a", work=Look()))["a"]
    assert outcome.status == "error"
    assert "no node of the Ray cluster is fit for it: node " in outcome.reason
    assert outcome.reason.endswith(
        "no aezoo there, ModuleNotFoundError: No module named 'aezoo_of_nowhere'; install the same everywhere"
    )


def test_nodes_that_die_hang_starve_or_have_another_plugin_cost_nothing_and_the_table_is_the_local_one(
    nodes, local, site, marks, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 20.0)
    # One trial may meet all of them.
    monkeypatch.setattr(cluster, "TRIES", 5)
    monkeypatch.setattr(node, "ALIVE_SECONDS", 1.0)
    folder = marks(3)
    bad = {
        kind: nodes.add_node(num_cpus=1, object_store_memory=STORE, env_vars={"NODE": kind, "MARKS": str(folder)})
        for kind in ("dies", "memory", "hang")
    }
    path = os.pathsep.join([str(site["other"]), os.environ["PYTHONPATH"]])
    bad["version"] = nodes.add_node(num_cpus=1, object_store_memory=STORE, env_vars={"PYTHONPATH": path})

    def kill():
        while not (folder / "dies").exists():
            time.sleep(0.02)
        nodes.remove_node(bad.pop("dies"), allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    hears, before = Hears(), stopped()
    try:
        run = bench(tmp_path / "run", hears, executor="ray", address=nodes.address, timing=True)
    finally:
        for each in bad.values():
            nodes.remove_node(each, allow_graceful=False)
    told = "\n".join(hears.warnings)
    assert len(local.records()) == 30
    assert {record.trial_id for record in run.records()} == {record.trial_id for record in local.records()}, told
    assert run.table()[DETERMINISTIC].equals(local.table()[DETERMINISTIC])
    weights = [{record.trial_id: record.weights_sha256 for record in each.records()} for each in (run, local)]
    assert weights[0] == weights[1]
    assert {record.executor for record in run.records()} == {"ray"}
    assert {record.plugin.version for record in run.records() if record.architecture == "plug"} == {"1.0"}
    assert told.count(" of 5: NodeDiedError") == 1, told
    assert told.count("here is plugin plug of plug 2.0, but the bench has plug 1.0; install the same everywhere") == 1
    assert " of 5: out of memory" in told
    assert " of 5: its worker sent no sign of life for 20 s" in told
    assert not stopped() - before
    # Nodes on one machine: none of them is alone, and a row says why it has no speed.
    reason = "several nodes of the cluster are on one machine"
    assert run.table()["no_speed"].str.startswith(reason).all()
    assert run.table()["infer_images_per_s"].isna().all()
    # A task without a GPU is shown none, whatever the node has, and has the threads' variable as the bench has it.
    omp = os.environ.get("OMP_NUM_THREADS")
    printed = {path.read_text() for path in (tmp_path / "run").glob("artifacts/plug*/output.txt")}
    assert printed == {f"sees '' {omp}\n"}


@pytest.fixture
def unseen(tmp_path, monkeypatch):
    """A file that is gone when the first machine looks for it, so that what was carried is all that there is."""
    path = tmp_path / "images"
    path.write_bytes(bytes(range(256)) * 40)
    real = node.Carried.of
    content = path.read_bytes()

    def hidden(seen):
        carried = real(seen)
        seen.unlink()
        return carried

    def put(carried, seen):
        return carried if carried.reference else replace(carried, reference=ray.put(np.frombuffer(content, np.uint8)))

    monkeypatch.setattr(node.Carried, "of", hidden)
    monkeypatch.setattr(node.Carried, "put", put)
    return path


def test_a_file_that_a_node_does_not_see_is_carried_to_it_and_removed(nodes, unseen, tmp_path):
    reports = []
    output = tmp_path / "o" / "p"
    tasks = [aezoo.Task(id=str(number), work=Look(unseen), files=(unseen,), output=output) for number in range(3)]
    ended = outcomes(nodes, *tasks, on_report=lambda task, progress: reports.append(progress))
    places = set()
    for outcome in ended.values():
        assert outcome.status == "ok", outcome.reason
        read, place = outcome.value[1]
        assert read == bytes(range(256)) * 40
        places.add(place)
    # One copy a machine, which these two nodes are.
    assert len(places) == 1
    assert not Path(places.pop()).exists()
    assert reports == [aezoo.Progress(steps=3, checkpoint=b"kept")] * 3


def test_a_clock_has_the_files_that_its_machine_does_not_see(nodes, unseen, monkeypatch):
    # The nodes share this machine's address, and so none would be had alone; nor is it the cluster's whole.
    of = placement.Machine.of
    at_home = {"NodeManagerAddress": "127.0.0.1"}
    monkeypatch.setattr(
        placement.Machine, "of", lambda facts: of(facts | (at_home if facts["Resources"].get("GPU") else {}))
    )
    with RAY.connected(aezoo.Site(address=nodes.address, device="cpu")) as executor:
        assert executor.alone is not None
        outcome = executor.alone(aezoo.Task(id="a", work=Look(unseen), files=(unseen,)))
    assert outcome.status == "ok", outcome.reason
    assert outcome.value[1][0] == bytes(range(256)) * 40


def test_a_file_that_a_node_sees_is_read_where_it_lies(nodes, tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"pixels")
    ended = outcomes(nodes, aezoo.Task(id="a", work=Look(path), files=(path,)))
    assert ended["a"].value[1] == (b"pixels", str(path))


def test_a_gpu_is_shown_to_the_task_that_has_it_and_a_tasks_own_death_is_final(nodes):
    needs = aezoo.Needs(device="cuda")
    gpus = [aezoo.Task(id=f"gpu {number}", work=Look(), needs=needs) for number in range(2)]
    tried: list[str] = []
    ended = outcomes(
        nodes, *gpus, aezoo.Task(id="dies", work=Dies()), aezoo.Task(id="cores", work=Look(), threads=99),
        aezoo.Task(id="memory", work=Look(), needs=aezoo.Needs(memory_bytes=10**15)),
        aezoo.Task(id="none", work=Look()), may_start=lambda task: None if task.id == "none" else task,
        on_start=lambda task: tried.append(task.id),
    )  # fmt: skip
    assert {ended[task.id].value[0] for task in gpus} <= {"0", "1"}
    assert (ended["dies"].status, ended["dies"].reason) == ("error", "its process was killed by SIGKILL")
    assert "it needs 99 cores of one node, which no node of the Ray cluster has" in ended["cores"].reason
    assert ended["memory"].status == "out_of_memory"
    assert "it needs 1300000.5 GB, but the largest node of the Ray cluster has" in ended["memory"].reason
    assert "none" not in ended
    assert sorted(tried) == ["cores", "dies", "gpu 0", "gpu 1", "memory"]


def test_what_one_node_alone_could_hold_is_not_tried_for_ever(nodes):
    """The other node has no GPU: nothing is to wait for it."""
    task = aezoo.Task(id="starves", work=Starves(), needs=aezoo.Needs(device="cuda"))
    outcome = outcomes(nodes, task)["starves"]
    assert (outcome.status, outcome.reason) == ("out_of_memory", "MemoryError: no memory")


def test_tasks_wait_for_another_node_when_all_that_could_run_them_are_gone(nodes, tmp_path):
    big = [nodes.add_node(num_cpus=3, object_store_memory=STORE)]
    tasks = [aezoo.Task(id=name, work=Waits(tmp_path), threads=3) for name in ("runs", "waits")]
    told: list[str] = []

    def kill():
        while not (tmp_path / "runs").exists():
            time.sleep(0.02)
        nodes.remove_node(big.pop(), allow_graceful=False)

    def tell(line):
        told.append(line)
        if "is gone" in line and not big:
            (tmp_path / "go").touch()
            big.append(nodes.add_node(num_cpus=3, object_store_memory=STORE))

    threading.Thread(target=kill, daemon=True).start()
    try:
        ended = outcomes(nodes, *tasks, site=aezoo.Site(address=nodes.address, device="cpu", jobs=2, tell=tell))
    finally:
        for each in big:
            nodes.remove_node(each, allow_graceful=False)
    assert {name: (outcome.status, outcome.value) for name, outcome in ended.items()} == {
        "runs": ("ok", "went"), "waits": ("ok", "went"),
    }, told  # fmt: skip


@pytest.mark.parametrize(
    ("peak", "total", "share"),
    [(None, 8e9, 1), (1e9, None, 1), (1e9, 80e9, 0.05), (6e9, 80e9, 0.11), (3e9, 8e9, 1), (2e9, 8e9, 0.4)],
)
def test_a_trial_takes_the_share_of_a_gpu_that_its_preflight_measured(peak, total, share):
    assert placement.share_of(peak, total) == share


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"executor": "local", "address": "auto"}, "the executor local takes no --address"),
        ({"executor": "ray", "address": "ray://a:1"}, "aezoo does not go through Ray's client, ray://a:1; run it on"),
        ({"executor": "ray", "address": "127.0.0.1:1"}, "no Ray cluster at 127.0.0.1:1: .*refused; `ray status` there"),
        ({"executor": "ray", "address": "nowhere"}, "no Ray cluster at nowhere: it is auto or HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_one_line_and_nothing_is_written(settings, reason, site, tmp_path):
    with pytest.raises(aezoo.AezooError, match=reason):
        bench(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_without_ray_the_executor_says_what_to_install(site, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(aezoo.AezooError, match=r"the executor ray needs Ray: pip install 'aezoo\[ray\]'"):
        bench(tmp_path / "run", executor="ray")


def test_a_device_that_no_node_has_is_one_line(nodes):
    site = aezoo.Site(address=nodes.address, device="mps")
    with pytest.raises(aezoo.AezooError, match="no device 'mps' on a Ray cluster"), connect(site):
        pass
    assert not ray.is_initialized()


def test_a_signal_ends_a_bench_on_a_cluster_of_its_own_as_on_one_machine(site, launcher, tmp_path):
    """The cluster that it started on this machine goes with it, and so does every process of a trial."""
    process = launcher.start(
        "bench", "plug[latent_dim=2]", "--dataset", "tiny", "--steps", "100000", "--seeds", "1", "--executor", "ray",
        "--no-timing", "--no-report", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while "mean seed 0: ok" not in process.err.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    mine = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert any("raylet" in each.name() for each in mine)
    # Ray has a handler of its own for this one.
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 1
    text = process.err.read_text()
    assert "Traceback" not in text
    assert "interrupted" in process.out.read_text() + text
    gone, alive = psutil.wait_procs(mine, timeout=20)
    assert not alive, (alive, gone)
