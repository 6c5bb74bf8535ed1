"""Users' code as stable digests: functions and classes by what they do, not by where or when they were loaded."""

from __future__ import annotations

import contextlib
import dis
import enum
import functools
import hashlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Walker"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_PARTS = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_varnames", "co_freevars")
_INSTALLED = tuple({p for n in ("purelib", "platlib") if (p := sysconfig.get_paths().get(n))})
_DEEP = 40  # containers inside containers: beyond, only the kind counts


class Walker:
    """Collects everything that code can reach, each function and class once and under its own name.

    A reference from one to another is written down by name, so that a change is seen in the part that changed.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no id is used twice
        self._waiting: list[tuple[str, Any]] = []

    def add(self, name: str, value: Any) -> None:
        """Begin at `value`, which a stage called `name` runs."""
        text = self._text(value, 0)
        if not text.startswith(("function ", "class ", "distribution ")):
            self._found[f"value of {name}"] = _hashed(text)
        while self._waiting:
            own, found = self._waiting.pop()
            self._found[own] = _hashed(self._class(found) if isinstance(found, type) else self._function(found))

    def parts(self) -> dict[str, str]:
        """Name -> digest of everything found; with the version of Python, whose bytecode these are."""
        python = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"} if self._found else {}
        return {**dict(sorted(self._found.items())), **python}

    def _text(self, value: Any, depth: int) -> str:
        """A value as a text that any process gives for it."""
        if isinstance(value, enum.Enum):
            return f"{self._text(type(value), depth)}.{value.name}"
        if type(value) in _PLAIN:
            return f"{type(value).__name__} {value!r}"
        if depth > _DEEP:
            return f"a {type(value).__qualname__}"
        if isinstance(value, (types.FunctionType, type)):
            return self._named(value)
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}{self._version(value.__name__)}"
        if isinstance(value, types.CodeType):
            return _hashed(self._code(value, {}))
        if isinstance(value, types.MethodType):
            return f"method {self._text(value.__func__, depth + 1)} of {self._text(value.__self__, depth + 1)}"
        if isinstance(value, functools.partial):
            inner = (value.func, value.args, value.keywords)
            return f"partial {self._text(inner, depth + 1)}"
        if isinstance(value, (types.BuiltinFunctionType, types.BuiltinMethodType)):
            return f"built-in {value.__module__}.{value.__qualname__}"
        return self._contained(value, depth + 1)

    def _contained(self, value: Any, depth: int) -> str:
        """Containers and objects, by what is in them."""
        kind = type(value).__qualname__
        if isinstance(value, (set, frozenset)):
            return _held(kind, sorted(self._text(v, depth) for v in value))
        if isinstance(value, Mapping):
            pairs = sorted((self._text(k, depth), self._text(v, depth)) for k, v in value.items())
            return _held(kind, pairs)
        if isinstance(value, (list, tuple)):
            return _held(kind, [self._text(v, depth) for v in value])
        if isinstance(value, re.Pattern):
            return f"pattern {value.pattern!r} {value.flags}"
        if isinstance(value, (property, staticmethod, classmethod, functools.cached_property)):
            inner = [getattr(value, n, None) for n in ("fget", "fset", "fdel", "func", "__func__")]
            return _held(kind, [self._text(v, depth) for v in inner])
        with contextlib.suppress(TypeError, BufferError):
            view = memoryview(value)
            return f"{kind} {view.format} {view.shape} {hashlib.sha256(view.tobytes()).hexdigest()}"
        wrapped = getattr(value, "__wrapped__", None)  # functools.lru_cache and the like
        if callable(wrapped):
            return f"{kind} around {self._text(wrapped, depth)}"
        if _home(type(value).__module__) == "own" and self._first(value):
            return f"{self._named(type(value))} with {self._text(_state(value), depth)}"
        shown = repr(value)
        return f"{type(value).__module__}.{kind} {'' if ' at 0x' in shown else shown}"

    def _first(self, value: Any) -> bool:
        """Whether an object is met for the first time: objects may point at each other in circles."""
        if id(value) in self._names:
            return False
        self._names[id(value)] = ""
        self._kept.append(value)
        return True

    def _named(self, value: Any) -> str:
        """A function or class by its name; one of the user's own is looked into, once."""
        module = getattr(value, "__module__", None) or ""
        full = f"{module}:{getattr(value, '__qualname__', '')}"
        home = _home(module)
        if home != "own":
            return f"distribution {full}{self._version(module)}"
        if id(value) in self._names:
            return self._names[id(value)]
        kind = "class" if isinstance(value, type) else "function"
        name, number = f"{kind} {full}", 1
        while name in self._names.values():
            number += 1
            name = f"{kind} {full}#{number}"
        self._names[id(value)] = name
        self._kept.append(value)
        self._waiting.append((name, value))
        return name

    def _function(self, function: Any) -> str:
        cells = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            with contextlib.suppress(ValueError):  # not filled yet
                cells[name] = self._text(cell.cell_contents, 0)
        defaults = self._text((function.__defaults__, function.__kwdefaults__), 0)
        return f"{self._code(function.__code__, function.__globals__)} {cells} {defaults}"

    def _code(self, code: types.CodeType, scope: Mapping[str, Any]) -> str:
        """Bytecode, constants and names, and what the names stand for where it runs."""
        constants = list(code.co_consts)
        documented = constants and isinstance(constants[0], str) and code.co_flags & 0x04000000
        if documented or _has_docstring(code):
            constants[0] = None
        texts = [
            _hashed(self._code(c, scope)) if isinstance(c, types.CodeType) else self._text(c, 0) for c in constants
        ]
        reached = dict(self._reached(code, scope))
        return repr((code.co_code, texts, code.co_names, [getattr(code, p) for p in _PARTS], sorted(reached.items())))

    def _reached(self, code: types.CodeType, scope: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """The globals that the code loads, with what it takes out of modules."""
        value: Any = None
        path = ""
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in scope:
                path, value = str(step.argval), scope[step.argval]
                yield path, self._text(value, 0)
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, types.ModuleType):
                # Only what it names of one of the user's modules counts: others are told by their version.
                path, value = f"{path}.{step.argval}", getattr(value, str(step.argval), None)
                if value is not None:
                    yield path, self._text(value, 0)
            elif step.opname == "IMPORT_NAME":
                value = sys.modules.get(str(step.argval))
                path = str(step.argval)
                yield f"import {path}", self._text(value, 0)
            elif step.opname == "IMPORT_FROM" and isinstance(value, types.ModuleType):
                yield f"import {path}.{step.argval}", self._text(getattr(value, str(step.argval), None), 0)
            elif step.opname not in ("PUSH_NULL", "CACHE", "STORE_FAST"):
                value = None

    def _class(self, cls: type) -> str:
        """A class by its bases, its methods and its constants."""
        own = {}
        for name, value in sorted(vars(cls).items()):
            if name in ("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__"):
                continue
            if name in ("__annotations__", "__static_attributes__", "__annotate_func__", "__annotations_cache__"):
                continue
            own[name] = self._text(value, 0)
        return repr(([self._text(b, 0) for b in cls.__bases__], sorted(own.items())))

    def _version(self, module: str) -> str:
        return f" {_version_of(module.partition('.')[0])}" if _home(module) == "installed" else ""


def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is a docstring: before Python 3.13 nothing but its place says so."""
    function = code.co_flags & 0x0002 and code.co_name != "<lambda>"
    if not (function and code.co_consts and isinstance(code.co_consts[0], str)):
        return False
    used = any(s.opname == "LOAD_CONST" and s.arg == 0 for s in dis.get_instructions(code))
    return not used


def _state(value: Any) -> Any:
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        for name in getattr(cls, "__slots__", ()):
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _held(kind: str, texts: Any) -> str:
    """What a container holds, in bounded length: quotes in quotes would double with every level."""
    return f"{kind} of {_hashed(repr(texts))}"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@functools.lru_cache(maxsize=1024)
def _home(module: str) -> str:
    """Where a module comes from: "python", "installed" or "own"."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names or not top:
        return "python" if top != "__main__" else "own"
    if top == "aiopipe":
        return "installed"
    path = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None) or ""
    return "installed" if path.startswith(_INSTALLED) else "own"


@functools.lru_cache(maxsize=256)
def _version_of(top: str) -> str:
    """The version of the distribution that a module belongs to, or "" where nobody knows."""
    if top == "aiopipe":
        return ""  # what it writes has a version of its own
    import importlib.metadata

    for name in (top, top.replace("_", "-")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    found = importlib.metadata.packages_distributions().get(top, ())
    return ", ".join(f"{n} {importlib.metadata.version(n)}" for n in sorted(set(found)))
