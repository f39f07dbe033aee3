"""The files of a run as JSON Schema: those of today are what pydantic writes, those of every version can be read.

`python tests/test_schema.py` writes the schemas of today, after a model and `aezoo.run.records.SCHEMA` changed.
"""

import hashlib
import io
import json
import shutil
from pathlib import Path

import jsonschema
import pandas as pd
import pydantic
import pytest

import aezoo
from aezoo.errors import StorageError
from aezoo.run.card import Card
from aezoo.run.files import checksum
from aezoo.run.records import SCHEMA, Measurement, RunInfo, Timing, TrialRecord
from aezoo.run.repetition import Repetition
from aezoo.run.store import RunDirectory
from aezoo.table import render, rows

SCHEMAS = Path(aezoo.__file__).parent / "schemas"
RUNS = Path(__file__).parent / "runs"
MODELS: dict[str, type[pydantic.BaseModel]] = {
    "run": RunInfo, "trial": TrialRecord, "metric": Measurement, "timing": Timing, "anchor": Repetition,
    "card": Card,
}  # fmt: skip
FOLDERS = ("trials", "metrics", "timings", "anchors", "cards")
CHECKSUM = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "SHA-256 over the other fields, as JSON with sorted keys",
}


def schema_of(model: type[pydantic.BaseModel]) -> str:
    schema = model.model_json_schema(by_alias=True)
    schema["properties"]["checksum"] = CHECKSUM
    schema["required"] = sorted({*schema["required"], "schema", "checksum"})
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def kind_of(path: Path) -> str:
    return {"trials": "trial", "metrics": "metric", "timings": "timing", "anchors": "anchor", "cards": "card"}.get(
        path.parent.name, "run"
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_schemas_are_those_of_the_models(name):
    assert (SCHEMAS / f"{name}-{SCHEMA}.json").read_text() == schema_of(MODELS[name])


FROZEN = {1: "757df1c08d1764156bb5fc32a255724e79b304b90d523e7cdd88acf3a0389b43"}
"""SHA-256 of what each released version says beside its descriptions."""


def without_descriptions(schema: object) -> object:
    if isinstance(schema, dict):
        return {key: without_descriptions(value) for key, value in schema.items() if key != "description"}
    return [without_descriptions(value) for value in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("version", FROZEN)
def test_a_released_version_changes_no_more(version):
    """What changes is another version: its models, `SCHEMA`, and how files of before are brought to it."""
    schemas = {name: json.loads((SCHEMAS / f"{name}-{version}.json").read_text()) for name in MODELS}
    text = json.dumps(without_descriptions(schemas), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == FROZEN[version]


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
def test_a_run_of_every_version_fits_its_schema(version):
    """tests/runs/ holds a run that each version wrote."""
    paths = sorted((RUNS / f"schema-{version}").rglob("*.json"))
    assert {kind_of(path) for path in paths} == set(MODELS)
    for path in paths:
        jsonschema.validate(
            json.loads(path.read_text()), json.loads((SCHEMAS / f"{kind_of(path)}-{version}.json").read_text())
        )


@pytest.mark.parametrize("name", ["0.1", *(f"schema-{version}" for version in range(1, SCHEMA + 1))])
def test_a_run_of_every_version_can_be_read(name, tmp_path):
    kept = RUNS / name
    run = RunDirectory(shutil.copytree(kept, tmp_path / "run")).load()
    assert {record.status for record in run.records().values()} == {"ok"}
    before = pd.read_csv(kept / "table.csv")
    now = pd.read_csv(io.StringIO(render.render(rows.summarise(run), "csv")))
    # The metrics of 0.1 stood in its records; they are computed anew.
    before = before.drop(columns="psnr") if name == "0.1" else before
    # What the evidence says is found anew, by the statistics of today.
    judged = ["test_mse_low", "test_mse_high", "rank_low", "rank_high"]
    before = before.drop(columns=judged)
    pd.testing.assert_frame_equal(now[before.columns], before)
    assert now[judged].notna().all(axis=None)
    assert run.anchors()


def test_a_record_of_a_newer_schema_is_refused_and_left_alone(tmp_path):
    run = RunDirectory(shutil.copytree(RUNS / f"schema-{SCHEMA}", tmp_path / "run"))
    (path, *_) = sorted((run.path / "trials").iterdir())
    content = json.loads(path.read_text())
    del content["checksum"]
    content |= {"schema": SCHEMA + 1, "novelty": 1}
    path.write_text(json.dumps({**content, "checksum": checksum(content)}))
    before = path.read_bytes()
    with pytest.raises(StorageError, match=rf"of schema {SCHEMA + 1}; this aezoo reads 1, 4; read it with"):
        run.records()
    assert path.read_bytes() == before


if __name__ == "__main__":
    for name, model in MODELS.items():
        (SCHEMAS / f"{name}-{SCHEMA}.json").write_text(schema_of(model))
