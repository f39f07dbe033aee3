"""A tracker for TensorBoard: each trial's curve, settings and results, in the run's folder ``tensorboard``.

It writes where the package tensorboard is installed, ``pip install 'aezoo[tensorboard]'``, and does nothing elsewhere.
"""

import time
from importlib.util import find_spec
from pathlib import Path

import aezoo


@aezoo.hookimpl
def aezoo_trial_finished(run: Path, record: aezoo.TrialRecord) -> None:
    """Write what is known of a trial that ended, in the place of what an earlier bench wrote of it."""
    if find_spec("tensorboard") is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import hparams, scalar

    results = {"test_mse": record.test_mse, "train_mse": record.train_mse, **record.metrics}
    numbers = {f"result/{name}": value for name, value in results.items() if value is not None}
    settings = {name: str(value) for name, value in record.hyperparameters.items()}
    about = {"architecture": record.architecture, "seed": record.seed, "status": record.status}
    written = [(0, one) for one in hparams({**about, **settings}, numbers)]
    written += [(step, scalar("training_mse", mse)) for step, mse in record.curve]
    written += [(0, scalar(name, value)) for name, value in numbers.items()]
    folder = run / "tensorboard" / record.trial_id
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard's own writer hands all to a thread of its own, where nobody would hear of a full disk.
    with (folder / "events.out.tfevents.0.aezoo").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for step, summary in written:
            writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
