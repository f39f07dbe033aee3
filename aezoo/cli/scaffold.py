"""`aezoo new-plugin`: write a distribution that works as it stands, to be changed by its author."""

import keyword
import re
import sys
from importlib import resources
from pathlib import Path
from string import Template

from aezoo.errors import AezooError, StorageError, told
from aezoo.registry.names import Registry

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "{module}.py": "plugin.py",
    "tests/test_{name}.py": "test_plugin.py",
    "README.md": "README.md",
    ".github/workflows/test.yml": "ci.yml",
}


def new_plugin(name: str, folder: Path, registry: Registry) -> Path:
    """Write the distribution ``aezoo-NAME`` into a folder of that name in `folder`, and return its path.

    Raises:
        AezooError: the name is not one for a module, or is taken; or the folder is there and not empty.
        StorageError: it cannot be written.
    """
    if keyword.iskeyword(name):
        raise AezooError(f"{name!r} is a word of Python's own; choose another name")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name):
        raise AezooError(f"a plugin's name is a small letter, then small letters, digits and '_', but got {name!r}")
    taken = [plugin.distribution for found, plugin in registry.architectures.values() if found.name == name]
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
        raise StorageError(f"cannot write {path}: {told(error)}") from error
    return path
