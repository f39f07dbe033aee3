"""Tables for other programs, as files: every digit and every column, typed. It needs no torch."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aezoo import machine
from aezoo.contract.columns import COLUMNS, ORIGIN
from aezoo.errors import AezooError
from aezoo.run.files import write_bytes
from aezoo.run.records import TrialRecord
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import render
from aezoo.table.rows import summarise

SUFFIXES = (".parquet", ".csv", ".json")
"""What a table is exported as: the end of the file's name decides."""
_ORIGIN = {column.name: column.kind for column in ORIGIN}
_TRIAL = {
    "trial_id": "text", "variant": "text", "architecture": "text", "hyperparameters": "text", "seed": "integer",
    "lr": "number", "tuning": "flag", "status": "text", "reason": "text", "objective": "text", "baseline": "text",
    "test_mse": "number", "validation_mse": "number", "train_mse": "number", "num_params": "integer",
    "latent_shape": "text", "latent_size": "integer", "latent_kind": "text", "latent_bits": "number",
    "coded_bits": "number", "active_units": "number", "support_bits": "number", "adversary_params": "integer",
    "adaptations": "text", "progress": "flag", "latent_parts": "text", "deterministic": "flag", "same_start": "flag",
    "layout": "text",
    "flops_per_image": "integer", "train_flops_per_image": "integer", "train_seconds": "number",
    "compile_seconds": "number", "peak_memory_bytes": "integer", "peak_device_memory_bytes": "integer",
    "infer_peak_memory_bytes": "integer", "infer_peak_device_memory_bytes": "integer", "threads": "integer",
    "compiled": "flag", "graph_steps": "integer", "graph_missing": "text", "side_by_side": "integer",
    "executor": "text", "weights_sha256": "text", "started_at": "text", "finished_at": "text",
}  # fmt: skip
"""What of a trial's record stands in its row, by its name there, with its kind; texts of what is no single value."""
_PLUGIN = {"distribution": "distribution", "version": "plugin_version", "source_sha256": "source_sha256"}
_ENVIRONMENT = ("aezoo", "git_commit", "python", "torch", "platform", "device", "device_name", "cuda", "driver")
_OF_TRIALS = _TRIAL | dict.fromkeys((*_PLUGIN.values(), *_ENVIRONMENT), "text")
_OF_VARIANTS = {column.name: column.kind for column in COLUMNS}
_DTYPES = {"text": "object", "integer": "Int64", "number": "Float64", "flag": "boolean"}


def export(runs: Sequence[RunDirectory], path: Path, *, trials: bool = False) -> pd.DataFrame:
    """Write the tables of runs into one file, a row a variant and run, and return what was written.

    `trials` are a row for each trial that was asked for, its metrics behind it, and for each learning rate that was
    tried. A parquet file holds, as JSON under `aezoo` in the metadata of its schema, this aezoo's version and of each
    run its folder, data set, fingerprint, device and recipe.

    Raises:
        AezooError: the name ends in none of SUFFIXES, pyarrow is missing, there is no run, or the file cannot be
            written.
    """
    write = _writer(path)
    tables, facts = [], []
    for run in runs:
        snapshot = run.load()
        info = snapshot.info()
        table = _trials(snapshot) if trials else summarise(snapshot)
        origin = {"run": str(run.path), "dataset": info.dataset.name, "fingerprint": info.fingerprint}
        tables.append(table.assign(**origin)[[*origin, *table.columns]])
        more = {"dataset_sha256": info.dataset.sha256, "device": info.device}
        facts.append(origin | more | {"recipe": info.recipe.model_dump(mode="json")})
    kinds: dict[str, str] = {**_ORIGIN, **(_OF_TRIALS if trials else _OF_VARIANTS)}
    whole = pd.concat(tables, ignore_index=True)
    # What else there is are metrics.
    kinds = {name: kinds.get(name, "number") for name in map(str, whole)}
    whole = whole.astype({name: _DTYPES[kind] for name, kind in kinds.items()})
    write(whole, kinds, {"version": machine.version(), "runs": facts})
    return whole


def _writer(path: Path) -> Callable[[pd.DataFrame, dict[str, str], dict[str, Any]], None]:
    """Return what writes a table into a file, before anything is read.

    Raises:
        AezooError: the file's name ends otherwise, or pyarrow is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AezooError(
            f"a table is exported to a file that ends in {', '.join(SUFFIXES)}, but got {path}; for a text, "
            "`aezoo table RUN --format latex`, github, html and others print one"
        )
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise AezooError(
                "pyarrow writes parquet files, and is not installed: pip install 'aezoo[parquet]'"
            ) from error
        return lambda table, kinds, facts: write_bytes(path, _parquet(table, kinds, facts))
    return lambda table, *_: write_bytes(path, render.render(table, suffix[1:]).encode())


def _parquet(table: pd.DataFrame, kinds: dict[str, str], facts: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    arrow = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), b"aezoo": json.dumps(facts).encode()}
    content = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata(metadata), content)
    return content.getvalue()


def _trials(run: Snapshot) -> pd.DataFrame:
    """Return a row for each trial that was asked for, run or not, and for each learning rate that was tried."""
    metrics: dict[str, dict[str, float | None]] = {name: {} for name in run.info().recipe.metrics}
    for measurement in run.measurements():
        metrics.setdefault(measurement.metric, {})[measurement.trial_id] = measurement.value
    names = {metric: f"metric_{metric}" if metric in _OF_TRIALS | _ORIGIN else metric for metric in metrics}
    rows = [
        row | {names[metric]: values.get(row["trial_id"]) for metric, values in metrics.items()}
        for row in _rows_of_trials(run)
    ]
    return pd.DataFrame(rows, columns=[*_OF_TRIALS, *names.values()])


def _rows_of_trials(run: Snapshot) -> Iterator[dict[str, Any]]:
    records = run.records()
    for variant, trial_ids in run.info().rows.items():
        for seed, trial_id in enumerate(trial_ids):
            if trial_id in records:
                yield _row(records[trial_id])
            else:
                yield {"trial_id": trial_id, "variant": variant, "seed": seed, "status": "missing"}
    yield from (_row(record) for record in records.values() if record.tuning)


def _row(record: TrialRecord) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _TRIAL}
    row |= {
        "hyperparameters": json.dumps(record.hyperparameters, sort_keys=True),
        "latent_shape": None if record.latent_shape is None else "x".join(map(str, record.latent_shape)),
        "adaptations": "; ".join(record.adaptations) or None,
        "latent_parts": json.dumps(record.latent_parts) if record.latent_parts else None,
    }
    row |= {column: getattr(record.plugin, name) for name, column in _PLUGIN.items()}
    return row | {name: getattr(record.environment, name) for name in _ENVIRONMENT}
