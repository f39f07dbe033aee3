"""Tables as files for other programs: every digit and column, typed, with what they are of."""

import io
import json
import sys

import pandas as pd
import pytest
from made_runs import make_run, variant

from aezoo.contract.columns import COLUMNS
from aezoo.errors import AezooError
from aezoo.run.records import Measurement
from aezoo.table.export import export
from aezoo.table.rows import summarise

DTYPES = {"integer": "Int64", "number": "Float64"}


@pytest.fixture
def runs(tmp_path):
    """Return two runs: one with a metric and a failed variant, and one of which a variant has not run."""
    first = [variant("x", loss=1 / 3e2, hyperparameters={"width": 3}), variant("bad", status="error", reason="=1+1")]
    runs = [
        make_run(tmp_path / "a", first, dataset="a", samples=False),
        make_run(tmp_path / "b", [variant("x"), variant("waits")], dataset="b", samples=False, missing=1),
    ]
    record = runs[0].records()["t0-s0"]
    for trial_id in ("t0-s0", "t0-s1"):
        for metric in ("psnr", "torch"):
            runs[0].write_measurement(
                Measurement(
                    trial_id=trial_id, metric=metric, plugin=record.plugin, weights_sha256=None, value=1 / 3,
                    measured_at=record.finished_at,
                )
            )  # fmt: skip
    return runs


TEXTS = ("latent_shape", "plugin_version", "source_sha256")
"""Which a reader of csv files takes for numbers."""
READ = {
    ".parquet": pd.read_parquet,
    ".csv": lambda path: pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str)),
    ".json": lambda path: pd.DataFrame(json.loads(path.read_text())),
}


@pytest.mark.parametrize("trials", [False, True])
@pytest.mark.parametrize("suffix", READ)
def test_a_file_has_every_digit_of_every_column(suffix, trials, runs, tmp_path):
    path = tmp_path / f"all{suffix}"
    table = export(runs, path, trials=trials)
    read = READ[suffix](path)
    assert list(read.columns) == list(table.columns)
    assert list(read.columns[:3]) == ["run", "dataset", "fingerprint"]
    for name in table:
        for wanted, there in zip(table[name], read[name], strict=True):
            assert (pd.isna(wanted) and pd.isna(there)) or there in (wanted, f"'{wanted}"), name


def test_a_row_a_variant_and_run_is_the_row_of_the_runs_own_table(runs, tmp_path):
    table = export(runs, tmp_path / "all.parquet")
    assert table["run"].tolist() == [str(runs[0].path)] * 2 + [str(runs[1].path)] * 2
    for run in runs:
        own = summarise(run)
        there = table[table["run"] == str(run.path)].reset_index(drop=True)
        pd.testing.assert_frame_equal(there[own.columns], own)
    kinds = {column.name: column.kind for column in COLUMNS}
    read = pd.read_parquet(tmp_path / "all.parquet")
    numeric = {name: str(read[name].dtype) for name in read if kinds.get(name) in DTYPES}
    assert numeric == {name: DTYPES[kinds[name]] for name in numeric}
    assert len(numeric) > 30


def test_a_row_a_trial_has_its_record_and_its_metrics_whether_it_ran_or_not(runs, tmp_path):
    table = export(runs, tmp_path / "all.parquet", trials=True).set_index(["dataset", "variant", "seed"])
    records = runs[0].records()
    assert table["status"].to_dict() == {
        ("a", "x", 0): "ok", ("a", "x", 1): "ok", ("a", "bad", 0): "error", ("a", "bad", 1): "error",
        ("b", "x", 0): "ok", ("b", "x", 1): "ok", ("b", "waits", 0): "missing", ("b", "waits", 1): "missing",
    }  # fmt: skip
    row = table.loc["a", "x", 1]
    assert row["test_mse"] == records["t0-s1"].test_mse
    assert (row["hyperparameters"], row["latent_shape"], row["compiled"]) == ('{"width": 3}', "16", False)
    # A metric that is called as a part of a record stands apart from it.
    assert (row["psnr"], row["metric_torch"], row["torch"]) == (1 / 3, 1 / 3, "2.14.1")
    assert table.loc["a", "bad", 0]["reason"] == "=1+1"


def test_a_parquet_file_says_what_it_is_of(runs, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(runs, tmp_path / "all.parquet")
    facts = json.loads(parquet.read_schema(tmp_path / "all.parquet").metadata[b"aezoo"])
    assert [(run["run"], run["fingerprint"]) for run in facts["runs"]] == [
        (str(run.path), run.info().fingerprint) for run in runs
    ]
    assert facts["runs"][0]["recipe"] == json.loads(runs[0].info().recipe.model_dump_json())
    # A column of texts of which there is none is one of texts all the same.
    assert str(parquet.read_schema(tmp_path / "all.parquet").field("exceptions").type) == "string"


def test_what_a_spreadsheet_takes_for_a_formula_is_a_text(runs, tmp_path):
    export(runs, tmp_path / "all.csv", trials=True)
    assert pd.read_csv(tmp_path / "all.csv")["reason"].dropna().unique().tolist() == ["'=1+1"]


@pytest.mark.parametrize("name", ["all.xlsx", "all", "all.parquet.tmp"])
def test_another_suffix_is_one_line_and_nothing_is_read(name, tmp_path, call):
    status, out, err = call("export-table", make_run(tmp_path / "a", [variant("x")]).path, "-o", tmp_path / name)
    assert (status, out) == (2, "")
    assert err.startswith("error: a table is exported to a file that ends in .parquet, .csv, .json, but got")
    assert err.count("\n") == 1
    assert not (tmp_path / name).exists()


def test_without_pyarrow_the_extra_is_named(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(AezooError, match=r"pip install 'aezoo\[parquet\]'"):
        export(runs, tmp_path / "all.parquet")
    export(runs, tmp_path / "all.csv")


def test_the_command_says_what_it_wrote_and_what_is_no_run(runs, tmp_path, call):
    status, out, err = call("export-table", runs[0].path, tmp_path, runs[1].path, "--trials", "-o", tmp_path / "t.csv")
    assert status == 0
    assert out == f"8 rows of 63 columns in {tmp_path / 't.csv'}\n"
    assert err == f"left out, since it has no run.json: {tmp_path}\n"
    assert len(pd.read_csv(io.StringIO((tmp_path / "t.csv").read_text()))) == 8
