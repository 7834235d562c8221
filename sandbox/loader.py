"""Apps: from the files of a version to code that can be called, and to a description of it.

`load_app` compiles the files and, at push time, runs the import phase: every
module's body once, in the order of its imports. What it finds there (functions,
the schema) is the analysis, which is kept with the version; later loads of the
same version compile and believe the analysis they are handed.

`Modules` is the import system of one call: each call runs the bodies of the
modules it needs in fresh namespaces, so nothing that a call does to a module is
seen by another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from sandbox.analysis import Analysis, FunctionSpec, decode_analysis
from sandbox.compiler import CompiledModule, compile_module
from sandbox.faults import CompileError
from sandbox.frames import Module, SourceError
from sandbox.guest import GuestModule, GuestRuntime
from sandbox.host import HostObject
from sandbox.sdk import Members
from tidewell.schema import Schema
from tidewell.validators import ObjectValidator, Validator

ERRORS_MAX: Final = 50  # of one push

_COMPONENT: Final = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class LoadError(Exception):
    """A version that does not load, with every reason that was found."""

    def __init__(self, errors: Iterable[SourceError]) -> None:
        self.errors = list(errors)[:ERRORS_MAX]
        super().__init__("; ".join(f"{error.path}:{error.line}: {error.message}" for error in self.errors))


class ImportCycle(ImportError):
    """Modules that import each other in a ring. The ring has one error, however many modules see it."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"import cycle: {' -> '.join(names)}; move what both need into a third module")
        self.members = frozenset(names)


@attrs.frozen
class Function:
    """One function of a loaded app."""

    spec: FunctionSpec
    module: str  # dotted
    arguments: ObjectValidator | None
    returns: Validator | None


@attrs.frozen
class App:
    """A version of an app, ready to run."""

    modules: Mapping[str, CompiledModule]  # by dotted name
    packages: frozenset[str]  # folders that hold modules, dotted
    sources: Mapping[str, str]  # text by path, for traces
    analysis: Analysis
    functions: Mapping[str, Function]
    schema: Schema | None


class Package(HostObject):
    """A folder of modules, as `from admin import reports` needs it. It has no members of its own."""

    __slots__ = ("_title",)
    _hint_ = ", which is a folder of modules; name the module that has it (an __init__.py is not pushed)"

    def __init__(self, title: str) -> None:
        self._title = title

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no module '{self._title}.{name}'")


class Modules:
    """The imports of one call. `find` is the import hook of the runtime."""

    def __init__(self, app: App, runtime: GuestRuntime, sdk: Members) -> None:
        self._app = app
        self._runtime = runtime
        self._sdk = sdk
        self._namespaces: dict[str, dict[str, Any]] = {}
        self._loading: list[str] = []

    def find(self, name: str) -> Any:
        """Return the module object of a name; None leaves it to the facades."""
        if name == "tidewell":
            return self._sdk
        if name in self._app.modules:
            return GuestModule(name, self.namespace(name))
        return Package(name) if name in self._app.packages else None

    def namespace(self, name: str) -> dict[str, Any]:
        """Return the globals of a module, whose body has run."""
        if name in self._loading:
            raise ImportCycle([*self._loading[self._loading.index(name) :], name])
        if name not in self._namespaces:
            namespace = self._runtime.namespace(name)
            self._loading.append(name)
            try:
                self._runtime.run(self._app.modules[name], namespace)
            finally:
                self._loading.pop()
            self._namespaces[name] = namespace
        return self._namespaces[name]

    def loaded(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the modules whose bodies have run, with their globals, in the order in which they ended."""
        return list(self._namespaces.items())


def compile_app(modules: Iterable[Module]) -> App:
    """Compile the files of a version. The result has no functions yet.

    Raises:
      LoadError: with every file that does not compile.
    """
    errors: list[SourceError] = []
    sources: dict[str, str] = {}
    names: dict[str, str] = {}  # dotted name to path
    for module in sorted(modules, key=lambda module: module.path):
        try:
            names[_dotted_name(module.path)] = module.path
            sources[module.path] = module.source.decode("utf-8-sig")
        except (ValueError, UnicodeDecodeError) as error:
            message = "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            errors.append(SourceError(path=module.path, line=0, column=0, message=message))
    packages = frozenset(
        name[:place] for name in names for place, character in enumerate(name) if character == "."
    )
    known = frozenset(names) | packages
    compiled: dict[str, CompiledModule] = {}
    for name, path in names.items():
        try:
            if path in sources:
                compiled[name] = compile_module(sources[path], path, name, known)
        except CompileError as error:
            errors.append(
                SourceError(path=error.filename, line=error.line, column=error.column, message=error.message)
            )
    if errors:
        raise LoadError(errors)
    return App(compiled, packages, sources, Analysis(functions=[]), {}, None)


def _dotted_name(path: str) -> str:
    stem = path.removesuffix(".py")
    parts = stem.split("/")
    if stem == path or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise ValueError(f"{path!r} is not the path of a module: use letters, digits and '_'")
    if parts[0] == "tidewell":
        raise ValueError("'tidewell' is the name of Tidewell's own module; choose another one")
    return ".".join(parts)


def with_analysis(app: App, data: bytes) -> App:
    """Return the app as an earlier analysis of the same version describes it. Raises `InvalidAnalysis`."""
    return describe_app(app, decode_analysis(data))


def describe_app(app: App, analysis: Analysis) -> App:
    functions = {
        spec.path: Function(
            spec, spec.module.replace("/", "."), spec.arguments_validator(), spec.returns_validator()
        )
        for spec in analysis.functions
    }
    return attrs.evolve(app, analysis=analysis, functions=functions, schema=analysis.read_schema())
