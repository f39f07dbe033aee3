"""What a trial goes on from after an interruption, as the bytes of a safetensors file: whole, or refused."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pydantic
import safetensors.torch
from torch import Tensor

from aezoo.errors import AezooError, reason_of
from aezoo.machine import Count, FrozenModel
from aezoo.run.files import DamagedFileError, content_of, remove, set_aside, write_bytes
from aezoo.run.records import SCHEMA, Amount, SchemaVersion, TrialId
from aezoo.run.store import RunDirectory

CHECKPOINT = "checkpoint.safetensors"
_UNSIGNED = "0" * 64
"""What stands in the header in the place of its checksum while that is made."""


class Checkpoint(FrozenModel):
    """How far a trial had come, beside its tensors.

    `resumed_at` are the steps at which it had gone on from earlier ones, and `streams` where the random streams of
    Python and numpy are. `peak_memory_bytes` is that of the process which made the first one, before it did.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    trial_id: TrialId
    steps: Count
    seconds: Amount
    compile_seconds: Amount | None = None
    curve: list[tuple[Count, float]]
    streams: dict[str, Any]
    resumed_at: list[Count]
    peak_memory_bytes: Count | None = None


def read_checkpoint(run: RunDirectory, trial_id: str) -> bytes | None:
    """Read what a trial can go on from; None where there is nothing. A damaged one is set aside, with a warning."""
    path = run.artifact(trial_id, CHECKPOINT)
    if not path.is_file():
        return None
    try:
        content = content_of(path)
        unpack_checkpoint(content, trial_id)
    except DamagedFileError as error:
        set_aside(path, DamagedFileError(f"{path} is damaged: {error}"))
        return None
    return content


def write_checkpoint(run: RunDirectory, trial_id: str, content: bytes) -> None:
    """Write what a trial can go on from, in the place of what was there. Whoever calls this has the trial's claim.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    write_bytes(run.artifact(trial_id, CHECKPOINT), content)


def drop_checkpoint(run: RunDirectory, trial_id: str) -> None:
    """Remove what a trial could go on from, where there is something.

    Raises:
        StorageError: it cannot be removed.
    """
    remove(run.artifact(trial_id, CHECKPOINT))


def pack_checkpoint(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file, with a checksum over all of it.

    Raises:
        AezooError: safetensors has no such dtype.
    """
    facts = checkpoint.model_dump_json(by_alias=True)
    try:
        content = safetensors.torch.save(dict(tensors), metadata={"checkpoint": facts, "sha256": _UNSIGNED})
    except Exception as error:
        raise AezooError(f"safetensors does not take its state: {reason_of(error)}") from error
    return _signed(content, _UNSIGNED, hashlib.sha256(content).hexdigest())


def unpack_checkpoint(content: bytes, trial_id: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Read what `pack_checkpoint` returned of a trial.

    Raises:
        DamagedFileError: it is not that, or not whole.
    """
    try:
        # safetensors reads metadata from a file alone: its header is a length and so much JSON.
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        sha256 = str(metadata["sha256"])
        if hashlib.sha256(_signed(content, sha256, _UNSIGNED)).hexdigest() != sha256:
            raise DamagedFileError("its checksum does not fit")
        checkpoint = Checkpoint.model_validate_json(metadata["checkpoint"], strict=True)
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"it is no checkpoint of aezoo's: {type(error).__name__}") from error
    if checkpoint.trial_id != trial_id:
        raise DamagedFileError(f"it is the checkpoint of another trial, {checkpoint.trial_id}")
    return checkpoint, tensors


def _signed(content: bytes, before: str, after: str) -> bytes:
    """Return the content with another checksum in its header."""
    # Within the other facts, which are text in a text, quotation marks are escaped.
    return content.replace(f'"sha256":"{before}"'.encode(), f'"sha256":"{after}"'.encode(), 1)
