"""What stands in the place of a variant and is surely none: several names in one text, a folder, a missing file.

It imports nothing that is slow, so that it is told at once.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from aezoo.errors import AezooError, spelled

FILE = re.compile(r"(?P<place>.+\.py)(?::(?P<factory>[A-Za-z_]\w*))?\s*(?P<settings>\[.*\])?", re.DOTALL)
MODULE = re.compile(r"(?P<place>[A-Za-z_][\w.]*):(?P<factory>[A-Za-z_]\w*)\s*(?P<settings>\[.*\])?", re.DOTALL)
_BETWEEN = re.compile(r"[,;\s]+(?![^\[]*\])")
"""What separates names: none of it is within brackets."""
_NAMED = re.compile(r"[\w*?.~/][\w*?.~/:-]*(\[.*\])?")
_HOW = "a network in a file is ./FILE.py or ./FILE.py:NAME[key=value, ...]"


def refuse_no_variant(text: str) -> None:
    """Refuse what is surely no variant, whatever is installed.

    Raises:
        AezooError: it is empty, several names, a file that is not there, a folder, or not of a variant's form.
    """
    text = text.strip()
    if not text:
        raise AezooError("the name of a variant is empty; give one, such as mlp: `aezoo list` shows them all")
    file = FILE.fullmatch(text)
    if file and Path(file["place"]).is_file():
        return
    parts = [part for part in _BETWEEN.split(text) if part]
    name = text.partition("[")[0].strip()
    if parts != [text] and not Path(name).exists() and all(map(_NAMED.fullmatch, parts)):
        raise AezooError(f"{text!r} is not one name; names have spaces between: {shlex.join(parts)}")
    if file:
        raise AezooError(f"no file {file['place']}; give the path of a Python file")
    called = re.fullmatch(r"([\w.:-]+)\s*\((.*)\)", text)
    if called:
        raise AezooError(
            f"{text!r} is no variant: hyperparameters stand in square brackets, '{called[1]}[{called[2]}]'"
        )
    if "/" in name or name.startswith((".", "~")) or re.search(r"\.(py|ipynb)(:|$)", name):
        place = Path(name).expanduser()
        if place.is_dir():
            raise AezooError(
                f"{name} is a folder; name architectures, and give its images by --dataset {shlex.quote(text)}"
            )
        if place.is_file():
            raise AezooError(f"{name} is no Python file; {_HOW}; images are given by --dataset {shlex.quote(text)}")
        raise AezooError(f"not a variant: {text!r}; {_HOW}")
    if not re.fullmatch(r"[\w.:*?-]+", text):
        from aezoo.contract.hyperparameters import parse_variant

        parse_variant(text)


def refuse_bare_file(text: str, names: Iterable[str]) -> None:
    """Refuse what is none of the architectures' names, and may be meant as the file of that name.

    Raises:
        AezooError: there is such a file.
    """
    name, names = text.partition("[")[0], set(names)
    if spelled(name, names) not in names and Path(f"{name}.py").is_file():
        given = shlex.quote(f"./{name}.py{text.removeprefix(name)}")
        raise AezooError(f"no architecture {name!r}, but there is a file {name}.py: give {given}")
