"""What adapters of other people's packages share: the package, imported where a network is built, and no earlier."""

import importlib
from typing import Any

from aezoo import AezooError


def package(module: str, extra: str) -> Any:
    """Import a module of a package that an extra of aezoo installs.

    Raises:
        AezooError: it is not installed, or cannot be imported.
    """
    name = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise AezooError(f"{name} is not installed: pip install 'aezoo[{extra}]'") from error
        raise AezooError(f"{name} cannot be imported, it lacks {error.name}: pip install {error.name}") from error
