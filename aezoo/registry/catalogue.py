"""What plugins contribute, as rows that were kept: so that a list needs no plugin, and no torch, a second time.

A listing is kept by the hash of every plugin's source, and by all else that it depends on. It is found without
importing anything: whatever cannot be found so is listed anew each time.
"""

import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from aezoo.errors import StorageError
from aezoo.registry.hashing import file_of, source_files, source_sha256

GROUP = "aezoo"
_SITES = ("site-packages", "dist-packages")
"""What the folders of installed packages are called, which change whenever one of these comes or goes."""
BLOCKING = "AEZOO_NO_PLUGINS"
"""The environment variable that names plugins, or distributions, to be left out."""
ARCHITECTURES = ("architectures", False)
"""What the listing of all architectures is kept as, without what only a built network tells."""
_NAMED = re.compile(r"\bArchitecture\(\s*name=\"(\w+)\"")
Rows = list[dict[str, Any]]
Points = Sequence[metadata.EntryPoint]
FORMAT = 3
"""Raised whenever what is kept has other columns than before."""


def plugin_points() -> tuple[metadata.EntryPoint, ...]:
    """Return the entry points of all plugins that are installed; it reads those of every package there is."""
    return tuple(metadata.entry_points(group=GROUP))


@lru_cache(maxsize=256)
def name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return what a distribution is called; it parses its metadata, README and all, but once for all entry points."""
    return distribution.name, distribution.version


def key_of(what: Sequence[Any], block: Sequence[str]) -> str | None:
    """Return what a listing of all plugins is kept by; None where a plugin's files are not found without importing it.

    Args:
        what: What is listed: its kind, and what it depends on beside the plugins.
        block: The plugins or distributions that the call leaves out.
    """
    facts: list[Any] = [FORMAT, sys.version, list(what), sorted(block), os.environ.get(BLOCKING, "")]
    facts += [_version(name) for name in ("aezoo", "torch")]
    # What an extra brings, and what a network of it is, changes with what is installed.
    facts += [place.stat().st_mtime_ns for place in map(Path, sys.path) if place.name in _SITES and place.is_dir()]
    points = sorted(plugin_points(), key=lambda point: (point.name, point.value))
    for point, (path, package_roots) in zip(points, _places_of(points), strict=True):
        if path is None:
            return None
        files = source_files(_module_of(point), path, package_roots=package_roots)
        distribution = name_and_version(point.dist) if point.dist else None
        facts.append([point.name, point.value, distribution, source_sha256(files)])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def only_own(points: Points) -> bool:
    """Say whether all plugins that are installed are aezoo's own, whose source says what they contribute."""
    return all(point.dist is not None and name_and_version(point.dist)[0] == "aezoo" for point in points)


def architectures(points: Points) -> list[str] | None:
    """Return the labels of all architectures that are installed; None where only their plugins can tell.

    aezoo's own are read off their source, other people's off a listing that was kept.
    """
    if only_own(points):
        return sorted({name for source in sources(points).values() for name in _NAMED.findall(source)})
    rows = read(key_of(ARCHITECTURES, ()))
    return None if rows is None else [str(row["architecture"]) for row in rows]


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a pattern such as ``conv*`` stands for, in any case."""
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def is_mentioned(name: str, points: Points) -> bool:
    """Say whether a plugin's source has a name between quotation marks: it may be a data set's, or a metric's."""
    return any(f'"{name}"' in source for source in sources(points).values())


def sources(points: Points) -> dict[str, str]:
    """Return the sources of plugins' own modules, by where they are; empty where one is not found, or is no text."""
    return {
        point.value: path.read_text(encoding="utf-8", errors="replace") if path and path.suffix == ".py" else ""
        for point, (path, _) in zip(points, _places_of(points), strict=True)
    }


def read(key: str | None) -> Rows | None:
    """Return the rows that were kept, or None where there are none that can be read."""
    if key is None:
        return None
    try:
        rows = json.loads(_path(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return rows if isinstance(rows, list) and all(isinstance(row, dict) and row for row in rows) else None


def keep(key: str | None, rows: Rows) -> None:
    """Keep rows; where there is no room for them they are made anew the next time."""
    from aezoo.run.files import write_text

    if key is None:
        return
    try:
        write_text(_path(key), json.dumps(rows) + "\n")
    except StorageError:
        return


def _path(key: str) -> Path:
    # It is slow to import, and a name that is spelled out needs no kept listing.
    from aezoo.machine import cache_folder

    return cache_folder() / "catalogue" / f"{key}.json"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _module_of(point: metadata.EntryPoint) -> str:
    return point.value.partition(":")[0]


def _places_of(points: Points) -> list[tuple[Path | None, list[Path]]]:
    """Return for each plugin the file of its module, which is not imported, and the folders that hold its package."""
    modules = [_module_of(point) for point in points]
    # Most plugins share a package: it is looked for once.
    roots_by_name = {name: _roots_of(name) for name in {module.partition(".")[0] for module in modules}}
    places = []
    for module in modules:
        roots, is_package = roots_by_name[module.partition(".")[0]]
        path = next((path for root in roots if (path := file_of(module, root)) is not None), None)
        places.append((path, roots if is_package else []))
    return places


def _roots_of(name: str) -> tuple[list[Path], bool]:
    """Return the folders that hold a top-level module or package, and whether it is a package."""
    try:
        # Of a module within a package this would import the package.
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return [], False
    if spec is None:
        return [], False
    if spec.submodule_search_locations:
        return list(dict.fromkeys(Path(place).parent for place in spec.submodule_search_locations)), True
    return [Path(spec.origin).parent] if spec.origin and Path(spec.origin).exists() else [], False
