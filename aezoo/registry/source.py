"""What the calling program hands over in place of a plugin: a function or a class, as another process can have it."""

import dis
import functools
import hashlib
import inspect
import pickle
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from aezoo.errors import AezooError, reason_of
from aezoo.registry.hashing import source_files, source_sha256

_NO_CONTENT = ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__")


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """A function, a class or an `Architecture` of the calling program.

    In this process it is itself; another one gets a pickle of it, by its value where it must be. `module` is where it
    is defined, for people; `sha256` changes with its code and with all that it takes from around it.
    """

    thing: Any = field(compare=False)
    name: str
    module: str
    sha256: str
    content: bytes = field(compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "thing": None}

    def get(self) -> Any:
        """Return it."""
        # Unpickled in the process that it comes from, a class would be changed into its own copy.
        return cloudpickle.loads(self.content) if self.thing is None else self.thing


def at_hand(thing: Any, factory: Any, name: str) -> AtHand:
    """Take an object, and the function or class in it that builds a network.

    Raises:
        AezooError: it cannot be sent to another process.
    """
    try:
        content = cloudpickle.dumps(thing)
    except Exception as error:
        raise AezooError(f"{name} cannot be sent to the process of a trial: {reason_of(error)}") from error
    module = sys.modules.get(getattr(factory, "__module__", None) or "__main__")
    # An interpreter that reads from its standard input calls that file <stdin>.
    file = Path(getattr(module, "__file__", None) or "")
    digest = hashlib.sha256()
    if module is not None and file.is_file():
        files = source_files(module.__name__, file, beside=file.parent)
        # Whether it runs as a program or is imported, it is the same.
        files["program"] = files.pop(module.__name__)
        digest.update(source_sha256(files).encode())
    try:
        for part in _described(thing, getattr(factory, "__module__", "__main__"), set()):
            digest.update(part.encode() + b"\0")
    except _UnknownError:
        # Nothing says that it is what it was: no earlier trial passes for its own.
        digest.update(secrets.token_bytes(32))
    return AtHand(
        thing=thing, name=name, module=file.stem if file.is_file() else "notebook", sha256=digest.hexdigest(),
        content=content,
    )  # fmt: skip


class _UnknownError(Exception):
    """A value that cannot be told from another one of its kind."""


def _described(value: Any, home: str, seen: set[int]) -> Iterator[str]:
    """Yield texts that are the same for what does the same, in any process; code is followed where it is of `home`."""
    yield type(value).__qualname__
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield repr(value)
        return
    if isinstance(value, ModuleType | BuiltinFunctionType):
        yield value.__name__
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _described(value[key], home, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _described(item, home, seen)
    elif isinstance(value, set | frozenset):
        yield from sorted("\0".join(_described(item, home, set(seen))) for item in value)
    elif isinstance(value, type | FunctionType):
        yield value.__qualname__ if value.__module__ == home else f"{value.__module__}.{value.__qualname__}"
        if value.__module__ == home:
            yield from (
                _described_function(value, home, seen)
                if isinstance(value, FunctionType)
                else _described_class(value, home, seen)
            )
    elif isinstance(value, CodeType):
        yield value.co_code.hex()
        yield from _described([*value.co_consts, *value.co_names, *value.co_varnames], home, seen)
    else:
        yield from _described_object(value, home, seen)


def _described_function(function: FunctionType, home: str, seen: set[int]) -> Iterator[str]:
    """Describe its code, its defaults, and what it takes from around it."""
    yield from _described([function.__code__, function.__defaults__, function.__kwdefaults__], home, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _described(cell.cell_contents, home, seen)
        except ValueError:
            yield "not set yet"
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name
            yield from _described(function.__globals__[name], home, seen)


def _global_names(code: CodeType) -> set[str]:
    """Return the global names that code reads, with those of the functions in it."""
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return names.union(*(_global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _described_class(cls: type, home: str, seen: set[int]) -> Iterator[str]:
    yield from _described(cls.__bases__, home, seen)
    for name, value in sorted(vars(cls).items()):
        if name not in _NO_CONTENT:
            yield name
            yield from _described(value, home, seen)


def _described_object(value: Any, home: str, seen: set[int]) -> Iterator[str]:
    """Describe an object by what it is made of: its parts where those are known, its attributes, or its pickle."""
    if isinstance(value, functools.partial):
        yield from _described([value.func, value.args, value.keywords], home, seen)
    elif isinstance(value, MethodType):
        yield from _described([value.__func__, value.__self__], home, seen)
    elif isinstance(value, staticmethod | classmethod):
        yield from _described(value.__func__, home, seen)
    elif isinstance(value, property):
        yield from _described([value.fget, value.fset], home, seen)
    elif callable(getattr(value, "tobytes", None)):  # an array
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif callable(getattr(value, "numpy", None)):  # a tensor
        yield from _described(value.detach().cpu().numpy(), home, seen)
    elif inspect.ismemberdescriptor(value) or inspect.isgetsetdescriptor(value):
        yield value.__name__
    else:
        yield from _described(type(value), home, seen)
        slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(value, name)]
        attributes = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}
        if attributes or hasattr(value, "__dict__"):
            yield from _described(attributes, home, seen)
            return
        try:
            yield hashlib.sha256(pickle.dumps(value)).hexdigest()
        except Exception as error:
            raise _UnknownError from error
