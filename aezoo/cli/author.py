"""The commands that help authors: check, new-plugin and doctor. Nothing heavy is imported before it is needed."""

import json
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from aezoo.cli.app import BlockOption, DataDirOption, PluginOption, app, parse_image_shape, registry_of
from aezoo.errors import AezooError, StorageError, plain, reason_of, system_reason

if TYPE_CHECKING:
    from aezoo.registry.names import Registry


@app.command()
def check(
    names: Annotated[
        list[str],
        typer.Argument(metavar="ARCHITECTURE|DISTRIBUTION|FILE.py", help="mlp, 'conv*', aezoo, ./my_model.py"),
    ],
    image_shape: Annotated[
        list[str] | None,
        typer.Option("--image-shape", metavar="CxHxW", help="Such as 3x64x64; may be repeated."),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="On images of a data set.")] = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: PluginOption = None,
    no_plugin: BlockOption = None,
) -> None:
    """Hold architectures to the contract, on images of several shapes; exit status 1 where a check fails.

    An architecture may refuse some of the shapes, but not all.

    Example: aezoo check mlp
    """
    from aezoo.check.suite import IMAGE_SHAPES
    from aezoo.contract.dataset import find_data_dir
    from aezoo.harness.checking import check as check_all
    from aezoo.registry.outside import extend

    registry, texts = extend(registry_of(plugin, no_plugin), names)
    if image_shape and dataset is not None:
        raise AezooError("--image-shape and --dataset both say on which images to check; give one of them")
    shapes = [parse_image_shape(text) for text in image_shape or ()] or IMAGE_SHAPES
    images = None if dataset is None else registry.dataset(dataset).checked(find_data_dir(data_dir))
    cards = check_all(texts, registry, image_shapes=list(dict.fromkeys(shapes)), images=images)
    if as_json:
        print(json.dumps([card.to_json() for card in cards], indent=1))
    else:
        print("\n\n".join("\n".join(map(plain, card.lines())) for card in cards))
    if any(card.failures for card in cards):
        raise typer.Exit(1)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The architecture's name; the distribution is called aezoo-NAME.")],
    folder: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where the distribution's folder goes.")] = Path(),
) -> None:
    """Write a plugin that works as it stands: a distribution with an architecture, tests, a README and CI.

    Example: aezoo new-plugin tiny
    """
    path = write_plugin(name, folder, registry_of(None, None))
    typer.echo(f"wrote {path}: change build in {path / f'aezoo_{name}.py'}")
    typer.echo(f"next: pip install -e '{path}[test]' && aezoo check {name} && aezoo bench {name} mlp conv")


_FILES = {
    "pyproject.toml": "pyproject.toml",
    "{module}.py": "plugin.py",
    "tests/test_{name}.py": "test_plugin.py",
    "README.md": "README.md",
    ".github/workflows/test.yml": "ci.yml",
}


def write_plugin(name: str, folder: Path, registry: "Registry") -> Path:
    """Write the distribution ``aezoo-NAME`` into a folder of that name in `folder`, and return its path.

    Raises:
        AezooError: the name is not one for a module, or is taken; or the folder is there and not empty.
        StorageError: it cannot be written.
    """
    if keyword.iskeyword(name):
        raise AezooError(f"{name!r} is a word of Python's own; choose another name")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name):
        raise AezooError(f"a plugin's name is a small letter, then small letters, digits and '_', but got {name!r}")
    taken = [
        plugin.distribution for architecture, plugin in registry.architectures.values() if architecture.name == name
    ]
    if taken:
        raise AezooError(f"{taken[0]} has an architecture {name!r} already; choose another name")
    module, distribution = f"aezoo_{name}", f"aezoo-{name.replace('_', '-')}"
    if module in sys.stdlib_module_names or module == "aezoo_plugins":
        raise AezooError(f"the module {module} is aezoo's own; choose another name")
    path = folder / distribution
    names = {
        "name": name,
        "module": module,
        "distribution": distribution,
        "title": "".join(part.capitalize() for part in name.split("_")),
    }
    templates = resources.files("aezoo").joinpath("templates")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise AezooError(f"{path} is there already, and not empty; choose another name, or remove it")
        for target, source in _FILES.items():
            file = path / target.format(**names)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(templates.joinpath(f"{source}.txt").read_text(encoding="utf-8")).substitute(names))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {system_reason(error)}") from error
    return path


@app.command()
def doctor(
    out: Annotated[Path, typer.Option(help="The folder that runs are to lie in: do locks hold there?")] = Path(
        "results"
    ),
) -> None:
    """Check this installation: torch, torchvision, the device, plugins, processes; exit status 1 if something fails.

    Example: aezoo doctor --out /shared/results
    """
    failed = False
    for finding in conditions(out):
        failed |= not finding.ok
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:12}  {finding.detail}")
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


def conditions(out: Path) -> Iterator[Condition]:
    """Yield the findings, one after another, with a folder of runs among them; none of them raises."""
    from aezoo import locks, machine
    from aezoo.registry.discovery import discover

    system = f"{sys.platform}; aezoo runs on Linux and macOS"
    yield Condition(name="system", ok=sys.platform in locks.SYSTEMS, detail=system)
    yield Condition(name="python", ok=True, detail=f"{sys.version.split()[0]}, {sys.executable}")
    yield Condition(name="aezoo", ok=True, detail=machine.version())
    yield from _torch()
    yield _torchvision()
    registry = discover()
    count = len(registry.architectures)
    yield Condition(name="plugins", ok=count > 0, detail=f"{len(registry.plugins)} loaded, {count} architectures")
    for broken in registry.broken:
        yield Condition(name=f"plugin {broken.name}", ok=False, detail=str(broken))
    yield _process()
    yield _claims(out.absolute())
    yield _temporary(Path(tempfile.gettempdir()))
    free = shutil.disk_usage(Path.cwd()).free
    yield Condition(name="disk", ok=free > 1e9, detail=f"{free / 1e9:.0f} GB free in {Path.cwd()}")


def _torch() -> Iterator[Condition]:
    from aezoo import machine

    try:
        device = machine.choose_device("auto")
        env = machine.capture(device, 1)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with torch is what we are here to say
        yield Condition(name="torch", ok=False, detail=f"{reason_of(error)}; reinstall: pip install torch torchvision")
        return
    yield Condition(name="torch", ok=True, detail=env.torch)
    jobs = machine.default_jobs(device)
    yield Condition(name="device", ok=True, detail=f"{device}: {env.device_name}; {jobs} trials side by side")


def _torchvision() -> Condition:
    try:
        import torchvision
    except Exception as error:  # noqa: BLE001 - a mismatch shows as any of three kinds of error
        detail = f"{reason_of(error)}; install it with torch: pip install --upgrade torch torchvision"
        return Condition(name="torchvision", ok=False, detail=detail)
    return Condition(name="torchvision", ok=True, detail=str(torchvision.__version__))


def _claims(folder: Path) -> Condition:
    """Try whether locks hold in a folder, and so how trials of a run there are claimed."""
    from aezoo.run.claim import KindOfClaims

    while not folder.exists():
        folder = folder.parent
    try:
        claims = KindOfClaims.of(folder)
    except OSError as error:
        return Condition(name="locks", ok=False, detail=f"cannot write into {folder}: {system_reason(error)}")
    except StorageError as error:
        return Condition(name="locks", ok=False, detail=str(error))
    what = "locks hold" if claims.reason is None else f"locks do not hold: {claims.reason}"
    return Condition(
        name="locks", ok=True, detail=f"{folder} takes files; {what}; a run there is claimed by {claims.kind}"
    )


def _temporary(folder: Path) -> Condition:
    """Make a file where the images lie while a bench runs."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="aezoo-"):
            pass
    except OSError as error:
        return Condition(name="temporary", ok=False, detail=f"{folder}: {system_reason(error)}")
    return Condition(name="temporary", ok=True, detail=f"{folder} takes files")


def _process() -> Condition:
    """Run one task as a trial would be run."""
    from aezoo.contract.executor import Task
    from aezoo.harness.local import run_tasks

    (outcome,) = run_tasks([Task(id="doctor", work=Ping(), timeout=60)], 1)
    detail = "a trial's process starts and answers" if outcome.status == "ok" else f"{outcome.status}: {outcome.reason}"
    return Condition(name="processes", ok=outcome.status == "ok", detail=detail)


@dataclass(frozen=True)
class Ping:
    """The least work: it says which torch a trial's process has."""

    def run(self, report: object) -> str:  # noqa: ARG002 - it takes no steps
        """Return torch's version."""
        return metadata.version("torch")
