"""Which data set a text names: a name with hyperparameters, or a path, which is short for the loader that takes it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from aezoo.contract.dataset import FOLDER, Dataset
from aezoo.contract.hyperparameters import parse_settings, parse_variant
from aezoo.errors import AezooError


def read_dataset(text: str, datasets: Sequence[Dataset]) -> tuple[str, dict[str, Any]]:
    """Return the name of a data set, with the distribution before it where one was given, and its hyperparameters.

    Args:
        text: ``mnist-5k``, ``images[path=photos,size=64]``, ``./photos`` or ``./photos[size=64]``.
        datasets: All there are.

    Raises:
        AezooError: it is a path, and nothing is there, or nothing takes it; or what is in its brackets is wrong.
    """
    if not text.strip():
        raise AezooError("a data set is asked for, by its name or its path, but the text is empty")
    kinds = {kind for dataset in datasets for kind in dataset.takes}
    if not _is_path(text, kinds):
        parsed = parse_variant(text)
        name = f"{parsed.distribution}:{parsed.name}" if parsed.distribution else parsed.name
        return name, parsed.settings or {}
    path, settings = _split(text)
    kind = FOLDER if path.is_dir() else path.suffix.lower()
    taking = [dataset.name for dataset in datasets if kind in dataset.takes]
    if not taking:
        raise AezooError(f"no data set takes {path}: give {_listed(kinds)}, or a name (`aezoo list --datasets`)")
    if len(taking) > 1:
        raise AezooError(f"several data sets take {path}: {', '.join(taking)}; write {taking[0]}[path={path}]")
    if "path" in settings:
        raise AezooError(f"in {text!r}: the path is given twice")
    return taking[0], {"path": str(path), **settings}


def _is_path(text: str, kinds: Collection[str]) -> bool:
    """Say whether a text is a path: it has a separator, begins with ``.`` or ``~``, or ends as a file that is taken."""
    place = text.partition("[")[0].strip()
    return "/" in place or place.startswith((".", "~")) or Path(place).suffix.lower() in kinds


def _split(text: str) -> tuple[Path, dict[str, Any]]:
    if "\0" in text:
        raise AezooError(f"not a path: {text!r}")
    whole = Path(text).expanduser()
    place, bracket, rest = text.partition("[")
    if whole.exists() or not bracket:
        path, settings = whole, {}
    elif not rest.rstrip().endswith("]"):
        raise AezooError(f"{text!r} has a bracket that does not end it: write PATH[name=value, ...]")
    else:
        path, settings = Path(place.strip()).expanduser(), parse_settings(rest.rstrip()[:-1], text)
    if not path.exists():
        raise AezooError(
            f"no file or folder {str(path)!r}; give a data set by a path, or a name (`aezoo list --datasets`)"
        )
    return path, settings


def _listed(kinds: Collection[str]) -> str:
    files = sorted(kind for kind in kinds if kind != FOLDER)
    return " or ".join([*(["a folder"] if FOLDER in kinds else []), *([f"a file {', '.join(files)}"] if files else [])])
