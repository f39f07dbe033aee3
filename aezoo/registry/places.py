"""Where a plugin that is not installed is had from: a file, its code, a module, or a function or class at hand."""

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from aezoo.contract.architecture import Architecture
from aezoo.errors import AezooError, reason_of
from aezoo.registry.factory import architecture_of, find_factory
from aezoo.registry.hashing import source_files, source_sha256
from aezoo.registry.plugin import Origin, Plugin, ask, hook_names, module_files, quiet
from aezoo.registry.source import AtHand
from aezoo.run.records import PluginSource

VERSION = "(not installed)"


@dataclass(frozen=True, kw_only=True)
class FromFile:
    """A file, or a function or class in it, with the settings, each ``[key=value]``, in which it was asked for."""

    path: str
    factory: str | None = None
    settings: tuple[str, ...] = ()
    folder: str | None = None
    """What tells the file apart from another one of its name: the folder that it lies in, or some more of its path."""

    def load(self) -> Plugin:
        """Run the file as a module, with its folder on the path, as ``python FILE`` would without arguments."""
        path = Path(self.path)
        if not path.is_file():
            raise AezooError(f"no file {path}; give the path of a Python file")
        if str(path) in _LOADING:
            raise AezooError(f"it loads itself, as it is loaded: {GUARD}")
        name = self._module
        files = self.files()
        _put_first(path.parent, files)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise AezooError(f"cannot load {path}: it is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        with _arguments(str(path)), _loading(str(path)):
            _run(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]  # checked above
        plugin = _plugin(module, path.stem, self.factory, self.settings, source_sha256(files), self, str(path))
        return plugin if self.folder is None else replace(plugin, distribution=self.folder)

    @property
    def _module(self) -> str:
        # Not by its own name: a file called conv.py must not stand in the way of a module of that name.
        return f"aezoo_file_{Path(self.path).stem}"

    def files(self) -> dict[str, Path]:
        """Return the file, and those that it imports from its folder, by the names of their modules."""
        path = Path(self.path)
        return source_files(self._module, path, beside=path.parent)

    def sha256(self) -> str:
        """Return the hash of its source. Nothing is run."""
        return source_sha256(self.files())

    def __str__(self) -> str:
        return place_text(self.path, self.factory)


@dataclass(frozen=True, kw_only=True)
class FromContent:
    """A file that is loaded on a machine which has it not: its code, and that of what it imports from its folder."""

    file: FromFile
    contents: tuple[tuple[str, bytes], ...]
    """Each with its path in the folder of the file. No dictionary: an origin can be hashed."""

    def load(self) -> Plugin:
        """Write the code into a folder of this process's temporary one, and load it from there."""
        folder = Path(tempfile.mkdtemp(prefix="aezoo-code-", dir=os.environ.get("TMPDIR")))
        for name, content in self.contents:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        plugin = replace(self.file, path=str(folder / Path(self.file.path).name)).load()
        return replace(plugin, origin=self, place=self.file.path)


def carried(origin: Origin) -> Origin:
    """Return where another machine has a plugin from: the code of a file travels, what is installed is there."""
    if not isinstance(origin, FromFile):
        return origin
    folder = Path(origin.path).parent
    return FromContent(
        file=origin,
        contents=tuple((str(file.relative_to(folder)), file.read_bytes()) for file in origin.files().values()),
    )


@dataclass(frozen=True, kw_only=True)
class FromModule:
    """A module that can be imported, or a function or class in it; from `folder` too."""

    module: str
    factory: str | None = None
    settings: tuple[str, ...] = ()
    folder: str

    def load(self) -> Plugin:
        """Import the module, with the folder on the path."""
        _put_first(Path(self.folder), {})
        module: ModuleType = _run(lambda: importlib.import_module(self.module), f"module {self.module}")
        if self.factory is not None:
            # Of a large package the hash takes long: what is not there is told before.
            find_factory(module, self.factory, self.module)
        sha256 = source_sha256(module_files(module, beside=Path(self.folder)))
        return _plugin(
            module, self.module.rpartition(".")[2], self.factory, self.settings, sha256, self, self.module
        )  # fmt: skip

    def __str__(self) -> str:
        return place_text(self.module, self.factory)


@dataclass(frozen=True, kw_only=True)
class FromMemory:
    """A function, a class or an `Architecture` of the calling program."""

    object: AtHand

    def load(self) -> Plugin:
        """Make an architecture of it."""
        thing = self.object
        place = f"{thing.module}.{thing.name}"
        source = PluginSource(
            name=thing.name, distribution=thing.module, version=VERSION, source_sha256=thing.sha256, place=place
        )
        return _of(source, self, architecture_of(thing.get(), thing.name, (), place), place)


def place_text(place: str, factory: str | None) -> str:
    """Return a file or a module, and what is meant in it, as it is asked for."""
    return f"{place}:{factory}" if factory else place


def _plugin(
    module: ModuleType, stem: str, factory: str | None, settings: Sequence[str], sha256: str, origin: Any, place: str
) -> Plugin:
    """Make a plugin of a module: by its hooks where it has any, else of the function or class that builds a network."""
    source = PluginSource(name=stem, distribution=stem, version=VERSION, source_sha256=sha256, place=str(origin))
    if factory is None and (hook_names(module) or hasattr(module, "AEZOO_API")):
        return _run(lambda: ask(module, source, origin, place), place)  # type: ignore[no-any-return]
    builder = find_factory(module, factory, place)
    return _of(source, origin, architecture_of(builder, factory or stem, settings, place), place)


def _of(source: PluginSource, origin: Any, architecture: Architecture, place: str) -> Plugin:
    return Plugin(
        name=source.name, distribution=source.distribution, version=source.version, place=place, origin=origin,
        source=source, contributed={"aezoo_architectures": (architecture,)},
    )  # fmt: skip


@contextlib.contextmanager
def _arguments(path: str) -> Iterator[None]:
    """Let a file see the arguments of ``python FILE``, none, in place of this program's."""
    before = sys.argv
    sys.argv = [path]
    try:
        yield
    finally:
        sys.argv = before


GUARD = 'what it runs as a script belongs under `if __name__ == "__main__":`'
_LOADING: list[str] = []
"""The files that are being loaded, each by the one before it."""


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
    _LOADING.append(path)
    try:
        yield
    finally:
        _LOADING.remove(path)


def refuse_within_a_file() -> None:
    """Raise AezooError where a file that is being loaded as a plugin calls for a bench of its own."""
    if _LOADING:
        raise AezooError(f"it calls for a bench, as it is loaded: {GUARD}")


_FOLDERS: set[Path] = set()
"""The folders that files were loaded from."""


def _put_first(folder: Path, files: Mapping[str, Path]) -> None:
    """Let modules be imported from a folder first, also where one of that name came from another such folder."""
    for name, path in files.items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and Path(loaded).parent in _FOLDERS and Path(loaded) != path:
            del sys.modules[name]
    _FOLDERS.add(folder)
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))


def _run(call: Callable[[], Any], what: str) -> Any:
    """Run what belongs to a plugin, and turn what it raises into one line."""
    try:
        with quiet():
            return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        hint = ""
        if "relative import" in str(error):
            hint = "; what is in a package is named by its module, package.module:NAME"
        elif isinstance(error, SystemExit):
            hint = f"; {GUARD}"
        raise AezooError(f"cannot load {what}: {reason_of(error)}{hint}") from error
