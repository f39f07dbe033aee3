"""The index of a run: never the truth, made anew where it is not whole, and only what changed is read."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import warnings
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from made_runs import make_run, several, variant

from aezoo.page import contents, page
from aezoo.run import index
from aezoo.run.files import checksum
from aezoo.run.means import Means
from aezoo.run.store import INDEX, TEST_ERRORS, RunDirectory, pack_test_errors
from aezoo.table import notes, pairs, render, rows


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Take what has just been written as settled: no test waits for the clock."""
    monkeypatch.setattr(index, "SETTLED_NS", -(10**9))


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    failed = variant("broken", status="error", reason="r", traceback="t")
    return make_run(tmp_path / "run", [*several(8), failed], seeds=3, missing=0)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The files of a run that are read, by their names."""
    names: list[str] = []
    real = Path.read_bytes

    def read_bytes(path):
        names.append(f"{path.parent.name}/{path.name}" if path.name == TEST_ERRORS else path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return names


def everything(run: RunDirectory) -> tuple[object, ...]:
    """Return all that a run says, read anew."""
    snapshot = RunDirectory(run.path).load()
    table = rows.summarise(snapshot)
    means = {name: snapshot.means(name, records) for name, records in snapshot.by_variant().items()}
    kept = {name: means and (means.by_seed.tolist(), means.image_sums.tolist()) for name, means in means.items()}
    return (
        snapshot.records(), snapshot.timings(), snapshot.measurements(), snapshot.anchors(), kept,
        render.render(table, "csv"), notes.notes(snapshot, table),
    )  # fmt: skip


def numbers(run: RunDirectory) -> tuple[object, ...]:
    """Return the records and the means of a run, read anew."""
    snapshot = RunDirectory(run.path).load()
    means = [snapshot.means(name, records) for name, records in snapshot.by_variant().items()]
    return snapshot.records(), [(each.by_seed.tolist(), each.image_sums.tolist()) for each in means if each]


@pytest.fixture
def small(tmp_path) -> tuple[RunDirectory, tuple[object, ...]]:
    """A run of few trials, and its numbers."""
    run = make_run(tmp_path / "small", several(4), seeds=2, samples=False, timed=False)
    return run, numbers(run)


def without_index(run: RunDirectory) -> tuple[object, ...]:
    (run.path / INDEX).unlink(missing_ok=True)
    return everything(run)


def test_what_an_index_says_is_what_the_files_say(run, opened):
    truth = without_index(run)
    assert (run.path / INDEX).is_file()
    opened.clear()
    assert everything(run) == truth
    assert set(opened) == {"run.json"}
    # Its records are whole: models that are equal field by field, and written alike.
    (name, record), *_ = RunDirectory(run.path).records().items()
    written = json.loads((run.path / "trials" / f"{name}.json").read_text())
    del written["checksum"]
    assert record.model_dump(mode="json", by_alias=True) == written
    assert all(type(point) is tuple for point in record.curve)


def test_of_what_changed_alone_the_files_are_read(run, opened):
    everything(run)
    path = run.trial_path("t2-s1")
    record = run.read_record("t2-s1")
    run.write_trial(record.model_copy(update={"train_seconds": 3.0}))
    run.trial_path("t4-s0").unlink()
    opened.clear()
    records = RunDirectory(run.path).load().records()
    assert (records["t2-s1"].train_seconds, "t4-s0" in records) == (3.0, False)
    # Whether a bench is at the seed that is gone now is asked too.
    read = [name for name in opened if name not in ("run.json", "kind.json")]
    # Of a variant that lost a seed, the means are taken anew.
    assert sorted(read) == ["t2-s1.json", "t2-s1/test_errors.safetensors", *sorted(
        name for seed in (1, 2) for name in (f"t4-s{seed}.json", f"t4-s{seed}/test_errors.safetensors")
    )]  # fmt: skip
    assert everything(run) == without_index(run)
    assert path.is_file()


def test_a_seed_that_is_added_costs_the_reading_of_its_own_files(tmp_path, opened):
    whole = make_run(tmp_path / "whole", several(5), seeds=3)
    run = RunDirectory(shutil.copytree(whole.path, tmp_path / "run"))
    for path in [*run.path.glob("*/*-s2.json")]:
        path.unlink()
    everything(run)
    for path in whole.path.glob("trials/*-s2.json"):
        shutil.copy(path, run.path / "trials" / path.name)
    opened.clear()
    RunDirectory(run.path).load()
    ends = ("-s2.json", f"-s2/{TEST_ERRORS}", "run.json")
    assert len(opened) == 2 * 5 + 1
    assert all(name.endswith(ends) for name in opened)
    assert everything(run) == without_index(run)


@hypothesis.settings(
    deadline=None, max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_an_index_that_is_changed_at_any_byte_is_made_anew_and_never_believed(small, share, bit, cut):
    run, truth = small
    path = run.path / INDEX
    content = bytearray(path.read_bytes())
    place = int(share * len(content))
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(run) == truth
    # It is whole again.
    assert index._opened(path) is not None


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000, None])
def test_what_is_no_index_is_made_anew(run, content, tmp_path):
    truth = without_index(run)
    path = run.path / INDEX
    path.unlink()
    if content is None:
        path.mkdir()  # it can be neither read nor replaced
    else:
        path.write_bytes(content)
    assert everything(run) == truth
    assert path.is_dir() is (content is None)
    assert not list(run.path.glob(".tmp-*"))


def signed(path: Path, statement: str) -> None:
    """Change an index, and put the hash below that goes with it."""
    content = path.read_bytes()[: -index._DIGEST_BYTES]
    path.write_bytes(content)
    with contextlib.closing(sqlite3.connect(path)) as changed:
        changed.execute(statement)
        changed.commit()
    with path.open("ab") as file:
        file.write(hashlib.sha256(path.read_bytes()).digest())


@pytest.mark.parametrize("statement", ["UPDATE format SET name = 'another'", "DROP TABLE means", "DELETE FROM files"])
def test_an_index_of_another_aezoo_is_made_anew(run, statement):
    truth = without_index(run)
    signed(run.path / INDEX, statement)
    assert everything(run) == truth
    with contextlib.closing(sqlite3.connect(run.path / INDEX)) as kept:
        assert kept.execute("SELECT count(*) FROM files").fetchone()[0] > 20


def test_an_index_is_of_the_models_that_it_was_made_of(monkeypatch):
    before = index._format()
    monkeypatch.setitem(index._OWN, index.TrialRecord, index._OWN[index.TrialRecord][:-1])
    assert index._format() != before


def write_wrong(path: Path, **changed: object) -> None:
    content = {**json.loads(path.read_text()), **changed}
    content.pop("checksum")
    path.write_text(json.dumps({**content, "checksum": checksum(content)}))


def rewritten(path: Path, content: bytes) -> None:
    """Write a file anew as long as it was, with the time of change that it had."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["trials/t1-s0.json", f"artifacts/t1-s0/{TEST_ERRORS}"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_file_that_is_damaged_after_it_was_indexed_is_set_aside_as_ever(run, name, how):
    everything(run)
    path = run.path / name
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(whole[:-9])
    else:
        # As long as before, and with the time of before: the system knows when it was changed all the same.
        place = len(whole) // 2
        rewritten(path, whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    if how == "gone" and name.startswith("trials"):
        assert "t1-s0" not in RunDirectory(run.path).records()
        return
    with pytest.warns(UserWarning, match="is damaged: .*; set aside as t1-s0.damaged"):
        assert "t1-s0" not in RunDirectory(run.path).records()
    assert "t1-s0" not in RunDirectory(run.path).load().records()
    assert everything(run) == without_index(run)


@pytest.mark.parametrize("folder", ["timings", "trials"])
def test_a_link_out_of_the_run_is_refused_also_where_the_file_was_indexed(run, folder, tmp_path):
    everything(run)
    path = sorted((run.path / folder).glob("*.json"))[0]
    outside = tmp_path / "outside.json"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(Exception, match="leads out of the run"):
        RunDirectory(run.path).load()


def test_a_file_that_may_change_within_the_same_tick_is_read_again(run, monkeypatch, opened):
    monkeypatch.setattr(index, "SETTLED_NS", 3600 * 10**9)
    truth = without_index(run)
    opened.clear()
    assert everything(run) == truth
    assert len(opened) > 50
    monkeypatch.setattr(index, "SETTLED_NS", -(10**9))
    everything(run)
    opened.clear()
    assert everything(run) == truth
    assert opened == ["run.json"]


def test_a_folder_that_cannot_be_written_is_read_without_an_index(run, monkeypatch):
    truth = without_index(run)
    (run.path / INDEX).unlink()
    real = index.tempfile.mkstemp

    def refused(*args, **settings):
        if Path(settings["dir"]) == run.path:
            raise PermissionError(13, "Permission denied")
        return real(*args, **settings)

    monkeypatch.setattr(index.tempfile, "mkstemp", refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert everything(run) == truth
    assert not (run.path / INDEX).exists()


def test_a_full_disk_leaves_the_index_that_was(run, monkeypatch):
    everything(run)
    before = (run.path / INDEX).read_bytes()
    for path in run.path.glob("trials/t1-*.json"):
        path.touch()

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(index.Index, "_change", full)
    RunDirectory(run.path).load()
    assert (run.path / INDEX).read_bytes() == before
    assert not list(run.path.glob(".tmp-*"))


def test_an_index_is_not_copied_for_a_few_of_very_many_files(run, monkeypatch):
    everything(run)
    before = (run.path / INDEX).stat().st_mtime_ns
    monkeypatch.setattr(index, "WORTH", 2)
    run.trial_path("t1-s0").touch()
    everything(run)
    assert (run.path / INDEX).stat().st_mtime_ns == before
    for path in run.path.glob("trials/*.json"):
        path.touch()
    everything(run)
    assert (run.path / INDEX).stat().st_mtime_ns > before


def look(path: Path, rounds: int, results) -> None:
    index.SETTLED_NS = -(10**9)
    chooser = random.Random(os.getpid())
    for _ in range(rounds):
        for name in chooser.sample(sorted((path / "trials").iterdir()), 6):
            os.utime(name)
        if chooser.random() < 0.3:
            (path / INDEX).unlink(missing_ok=True)
        results.put(sorted(RunDirectory(path).load().records()))


def test_processes_that_read_and_write_one_index_at_once_all_read_the_same(run):
    truth = everything(run)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=look, args=(run.path, 8, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in range(24)]
    for process in processes:
        process.join()
    assert all(each == sorted(truth[0]) for each in found)
    assert everything(run) == truth
    assert not list(run.path.glob(".tmp-*"))


def test_a_copied_run_is_read_anew(run, tmp_path, opened):
    truth = everything(run)
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "copied"))
    opened.clear()
    RunDirectory(copied.path).load()
    assert len(opened) > 50
    assert everything(copied)[0] == truth[0]


def test_seeds_that_are_added_come_out_bit_for_bit_as_if_they_had_been_there():
    errors = np.random.default_rng(0).lognormal(0, 1, (7, 301))
    means = Means.of(errors[:2]).plus(errors[2:3]).plus(errors[3:])
    assert (means.by_seed == errors.mean(axis=1)).all()
    assert (means.by_image == errors.mean(axis=0)).all()
    again = Means.unpack(*means.pack())
    assert (again.by_seed == means.by_seed).all()
    assert (again.image_sums == means.image_sums).all()


def test_a_snapshot_knows_what_ended_since_without_reading_the_rest(run, opened):
    snapshot = RunDirectory(run.path).load()
    record = snapshot.records()["t3-s2"]
    errors = run.read_test_errors(record)
    run.trial_path("t3-s2").unlink()
    before = RunDirectory(run.path).load()
    run.write_trial(record, {TEST_ERRORS: pack_test_errors(errors)})
    opened.clear()
    after = before.plus(record)
    assert rows.summarise(after).equals(rows.summarise(snapshot))
    assert opened == [f"t3-s2/{TEST_ERRORS}"]


def test_models_of_a_run_share_what_they_have_in_common(run):
    records = list(RunDirectory(run.path).load().records().values())
    for name in ("recipe", "dataset", "plugin", "environment"):
        assert len({id(getattr(record, name)) for record in records}) == 1


# What is left out of very many is said --------------------------------------------------------------------------------


def test_of_many_variants_the_page_shows_the_best_of_each_group_and_says_so(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", several(30))
    whole = contents.contents(run)
    assert (whole.texts["left_out"], len(whole.data["rows"])) == ("", 30)
    monkeypatch.setattr(contents, "MOST", 9)
    part = contents.contents(run)
    best = [
        row["variant"]
        for group in dict.fromkeys(row["group"] for row in whole.data["rows"])
        for row in [row for row in whole.data["rows"] if row["group"] == group][:3]
    ]
    shown = [row["variant"] for row in part.data["rows"]]
    assert set(shown) == {*best, "pca[latent_dim=8]", "pca[latent_dim=16]", "pca[latent_dim=32]"}
    assert part.texts["left_out"].startswith(f"This page shows {len(shown)} of 30 variants")
    assert part.texts["headline"] == whole.texts["headline"]
    assert f"This page shows {len(shown)} of 30 variants" in page.html(run)


def test_of_many_failures_the_page_and_the_notes_show_the_first_and_count_the_rest(tmp_path, monkeypatch):
    broken = [variant(f"broken{n}", status="error", reason=f"reason {n}") for n in range(8)]
    run = make_run(tmp_path / "run", [*several(5), *broken], seeds=1)
    monkeypatch.setattr(contents, "FAILURES", 3)
    monkeypatch.setattr(notes, "LISTED", 5)
    found = contents.contents(run)
    assert ([failure["label"] for failure in found.texts["failures"]], found.texts["failed"]) == (
        ["broken0 seed 0", "broken1 seed 0", "broken2 seed 0"], 8,
    )  # fmt: skip
    assert "The first 3 of 8 trials" in page.html(run)
    lines = [line for line in found.texts["notes"] if "reason" in line or "more such" in line]
    assert lines[4:] == ["error: broken4 seed 0: reason 4", "... and 3 more such lines, of 8: the records hold them"]


def test_of_more_variants_than_are_judged_every_text_says_so(tmp_path, monkeypatch, call):
    run = make_run(tmp_path / "run", several(12))
    monkeypatch.setattr(pairs, "MOST", 3)
    monkeypatch.setattr(notes, "MOST", 3)
    snapshot = run.load()
    table = rows.summarise(snapshot)
    assert table["group_rank"].notna().all()
    assert table[["rank_low", "rank_high", "group_rank_low", "group_rank_high"]].isna().all(axis=None)
    assert table.loc[table["baseline"].isna(), "against_pca"].notna().all()
    told = [line for line in notes.notes(snapshot, table) if line.startswith("no interval of a rank in")]
    companies = ["all groups", *(f"{size} numbers" for size in (8, 16, 32))]
    assert {line.partition(":")[0] for line in told} == {f"no interval of a rank in {name}" for name in companies}
    assert all("has the least mean; " in line for line in notes.verdicts(snapshot, table))
    assert notes.headline(snapshot, table)[0].endswith("so many are not judged.")
    for fmt in ("github", "csv", "json", "plain"):
        assert call("table", run.path, "--format", fmt)[0] == 0
    assert call("show", run.path, "net0[latent_dim=8]")[0] == 0
    assert "not judged" in page.html(run)
