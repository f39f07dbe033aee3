"""What a plugin's code consists of: its file, and what it imports of its own package and folder. Nothing is run.

Read off the disk, so that it is the same in every process, whatever was imported there before.
"""

import ast
import functools
import hashlib
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_OWN = Path(__file__).parent.parent.resolve()
"""The folder of aezoo itself, which is no plugin's code."""
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


def source_files(
    name: str, path: Path, *, package_roots: Sequence[Path] = (), beside: Path | None = None
) -> dict[str, Path]:
    """Return the files of a module, and of what it imports, and that in turn, by the names of the modules.

    Args:
        name: The module's.
        path: The module's file.
        package_roots: The folders that hold its top-level package: what it imports from that package counts.
        beside: Where given, what it imports from this folder counts too.
    """
    package = name.partition(".")[0]
    files = {name: path}
    pending = list(_imports(path, name))
    while pending:
        imported = pending.pop()
        roots = [*(package_roots if imported.partition(".")[0] == package else ()), *([beside] if beside else [])]
        file = next((file for root in roots if (file := file_of(imported, root)) is not None), None)
        if imported in files or file is None or file.resolve().is_relative_to(_OWN):
            continue
        files[imported] = file
        pending += _imports(file, imported)
    return files


def source_sha256(files: dict[str, Path]) -> str:
    """Hash files, with the names of their modules."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def file_of(name: str, root: Path) -> Path | None:
    """Return the file of a module in a folder, or None where it has none there."""
    place = root.joinpath(*name.split("."))
    # Most names that may be modules are what a module defines.
    if not place.parent.is_dir():
        return None
    candidates = [place / "__init__.py", *(place.with_name(place.name + suffix) for suffix in _SUFFIXES)]
    return next((path for path in candidates if path.is_file()), None)


def _imports(path: Path, name: str) -> tuple[str, ...]:
    """Return the modules that a file imports anywhere, what it may import from them, and their parents, by name."""
    if path.suffix != ".py":
        return ()
    return _imports_of(path.read_bytes(), name if path.name == "__init__.py" else name.rpartition(".")[0])


@functools.lru_cache(maxsize=1024)
def _imports_of(content: bytes, package: str) -> tuple[str, ...]:
    """Return what code in a package imports. Many plugins share a file: it is parsed once."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        # Its bytes count all the same; what is wrong with it, importing it will tell.
        return ()
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package itself, each further one its parent.
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*parents, node.module]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for alias in names:
            parts = alias.split(".")
            found |= dict.fromkeys(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return tuple(found)
