"""What calibration runs found of how far seeds spread, by recipe and data set; it judges no table by itself.

A prior file says for which fingerprint it holds. Those of built-in recipes are part of aezoo; one for another recipe
lies in a run's folder, as prior.toml. benchmarks/calibrate.py makes them.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import pydantic

from aezoo.errors import AezooError
from aezoo.machine import FrozenModel
from aezoo.run.store import RunDirectory
from aezoo.table.statistics import Prior

FILE = "prior.toml"


class Group(FrozenModel):
    """A declared group's spread: `sd` of the log MSE, worth `freedom` degrees of freedom; of so many variants."""

    freedom: float = pydantic.Field(gt=0)
    sd: float = pydantic.Field(gt=0)
    variants: int = pydantic.Field(ge=2)


class Calibration(FrozenModel):
    """A prior file: for which recipe and data set, from which seeds, made where, and the groups."""

    fingerprint: str
    recipe: str
    dataset: str
    seeds: str
    aezoo: str
    torch: str
    device_name: str
    made: str
    groups: dict[str, Group]

    @property
    def priors(self) -> dict[str, Prior]:
        """The prior of each declared group."""
        return {name: Prior(group.freedom, group.sd**2) for name, group in self.groups.items()}


def calibration_of(run: RunDirectory) -> Calibration | None:
    """Return the calibration for a run's recipe and data set, of its folder or of aezoo's own; None where none is.

    Raises:
        AezooError: the run's folder has a prior.toml that cannot be read, or that is for another recipe or data set.
    """
    fingerprint = run.info().fingerprint
    path = run.path / FILE
    if not path.is_file():
        return _built_in().get(fingerprint)
    calibration = read_calibration(path)
    if calibration.fingerprint != fingerprint:
        raise AezooError(
            f"{path} is for {calibration.recipe} on {calibration.dataset} ({calibration.fingerprint}), but this run is "
            f"{fingerprint}; make it anew with benchmarks/calibrate.py, or remove it"
        )
    return calibration


def read_calibration(path: Path) -> Calibration:
    """Read a prior file.

    Raises:
        AezooError: it cannot be read, or is none.
    """
    try:
        return Calibration.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, pydantic.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise AezooError(f"{path}: {reason}; make it with benchmarks/calibrate.py, or remove it") from error


@cache
def _built_in() -> Mapping[str, Calibration]:
    files = [each for each in resources.files("aezoo").joinpath("recipes").iterdir() if each.name.endswith(f".{FILE}")]
    calibrations = [Calibration.model_validate(tomllib.loads(each.read_text(encoding="utf-8"))) for each in files]
    return {calibration.fingerprint: calibration for calibration in calibrations}
