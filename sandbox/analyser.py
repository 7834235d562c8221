"""The import phase of a push: run every module's body once and describe what it declares.

No database, no calls; the clock and the seed are those of the push and are kept
with the version (function-semantics 7.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Required, get_origin

from sandbox.analysis import INDEX_USES_MAX, Analysis, FunctionSpec, HttpRoute
from sandbox.classes import TypedDictBase, fields_of, install, is_guest_class
from sandbox.compiler import FILENAME_PREFIX, CompiledModule
from sandbox.faults import Terminated
from sandbox.frames import SourceError
from sandbox.guest import GuestRuntime
from sandbox.http_actions import GuestRouter, HttpDeclared
from sandbox.index_uses import index_uses
from sandbox.loader import App, ImportCycle, LoadError, Modules, describe_app
from sandbox.sdk import Declared, GuestSchema, Members, meaning
from sandbox.text import scrub
from sandbox.traces import describe
from tidewell.annotations import to_validator
from tidewell.refs import canonical_path, wire_name
from tidewell.schema import to_json as schema_to_json
from tidewell.signatures import UNSET, Parameter, Signature, read_returns, read_signature
from tidewell.validator_json import to_json
from tidewell.validators import InvalidValidator, ObjectValidator, Validator, optional

_VARARGS: Final = 0x04  # code flag of *args
_VARKEYWORDS: Final = 0x08  # code flag of **kwargs

_TableOfAnnotations = dict[str, dict[str, Any]]


def analyse(app: App, runtime: GuestRuntime, sdk: Members, use: Callable[[Modules], object]) -> App:
    """Run the import phase and return the app with its description.

    Args:
      use: makes a `Modules` the import system of the runtime.

    Raises:
      LoadError: what a module raised, or a declaration that cannot be.
    """
    modules = Modules(app, runtime, sdk)
    use(modules)
    functions: list[FunctionSpec] = []
    answering: dict[int, str] = {}  # HTTP actions by identity, and their paths
    schema: Any = None
    errors: list[SourceError] = []
    cycles: set[frozenset[str]] = set()
    for name, compiled in app.modules.items():
        try:
            modules.namespace(name)
        except ImportCycle as error:
            if error.members not in cycles:
                cycles.add(error.members)
                errors.append(_located(error, compiled, app, runtime))
        except Terminated as error:
            errors.append(_located(error, compiled, app, runtime))
            break
        except Exception as error:
            errors.append(_located(error, compiled, app, runtime))
    owners: dict[int, str] = {}  # the module that declares a function, by the function's identity
    for name, namespace in modules.loaded():  # what a module imports comes before it
        compiled = app.modules[name]
        for value in namespace.values():
            if isinstance(value, Declared):
                owners.setdefault(id(value), name)
        try:
            annotations = runtime.annotations(compiled, _for_annotations(namespace))
            _resolve_classes(namespace, annotations)
        except Terminated as error:
            errors.append(_located(error, compiled, app, runtime))
            break
        except Exception as error:
            errors.append(_located(error, compiled, app, runtime))
            continue
        for handler_name, declared in _declared_in(name, namespace, owners):
            try:
                spec = _spec(handler_name, declared, compiled, annotations)
                functions.append(spec)
                if spec.is_http:
                    answering[id(declared)] = spec.path
            except InvalidValidator as error:
                line = _line_of(handler_name, declared, compiled)
                errors.append(_source_error(compiled, line, scrub(str(error))))
        if name == "schema" and "schema" in namespace:
            found = namespace["schema"]
            if isinstance(found, GuestSchema):
                schema = schema_to_json(found._schema)
            else:
                errors.append(_source_error(compiled, 0, "the variable schema must be Schema(...)"))
    if errors:
        raise LoadError(_distinct(errors))
    routes = _routes(app, modules, answering)
    functions.sort(key=lambda spec: spec.path)
    uses = [use for compiled in app.modules.values() for use in index_uses(compiled)]
    notes = []
    if "schema" in app.modules and schema is None:
        notes.append("schema.py has no variable named schema, so documents are not checked")
    return describe_app(
        app,
        Analysis(
            functions=functions,
            schema=schema,
            index_uses=uses[:INDEX_USES_MAX],
            notes=notes,
            routes=routes,
        ),
    )


def _routes(app: App, modules: Modules, answering: dict[int, str]) -> list[HttpRoute]:
    """Return the routes of the variable `router` of http.py."""
    compiled = app.modules.get("http")
    router = None if compiled is None else modules.namespace("http").get("router")
    if compiled is None or router is None:
        return []
    if not isinstance(router, GuestRouter):
        raise LoadError([_source_error(compiled, 0, "the variable router must be Router()")])
    routes = []
    for route, handler in router._routes:
        function = answering.get(id(handler))
        if function is None:
            problem = f"the handler of {route} must be a function at the top level of a module"
            raise LoadError([_source_error(compiled, 0, problem)])
        routes.append(
            HttpRoute(path=route.path, is_prefix=route.is_prefix, method=route.method, function=function)
        )
    return routes


def _distinct(errors: list[SourceError]) -> list[SourceError]:
    """One module's error is met again by every module that imports it; it is reported once."""
    return list({(error.path, error.line, error.message): error for error in errors}.values())


def _for_annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return a module's names as they are when annotations mean something.

    Python evaluates the annotations of `def list(ctx) -> list[dict]` before `list` is the function.
    Here they are evaluated behind the whole body, where a function is never what is meant.
    """
    builtins = namespace["__builtins__"]
    return {
        name: value
        for name, value in namespace.items()
        if not (name in builtins and isinstance(value, Declared))
    }


def _declared_in(
    module: str, namespace: dict[str, Any], owners: dict[int, str]
) -> list[tuple[str, Declared]]:
    """Return the functions declared in this very module; those it imports belong to their own.

    Where the handler was written does not tell: it may be the wrapper that a helper in another
    module has put around the author's function. What a module imports ended in another one first.
    """
    return [
        (name, value)
        for name, value in namespace.items()
        if isinstance(value, Declared) and owners[id(value)] == module
    ]


def _spec(
    name: str, declared: Declared, compiled: CompiledModule, annotations: _TableOfAnnotations
) -> FunctionSpec:
    handler = declared._handler
    rows = annotations.get(handler.__name__, {}) if _is_written_in(compiled, declared) else {}
    is_http = isinstance(declared, HttpDeclared)
    if is_http:
        own = _parameters(handler, {})
        if len(own) != 2 or not all(parameter.is_plain for parameter in own):
            raise InvalidValidator("an HTTP action takes ctx and request")
        rows, signature = {}, Signature(None, {})
    else:
        signature = read_signature(
            _parameters(handler, rows), None if declared._args is None else meaning(declared._args)
        )
    returns = read_returns(
        rows.get("return", UNSET), None if declared._returns is None else meaning(declared._returns)
    )
    spec = FunctionSpec(
        module=compiled.module.replace(".", "/"),
        name=wire_name(name),
        handler=name,
        kind=declared._kind,
        visibility=declared._visibility,
        file=compiled.filename,
        line=_line_of(name, declared, compiled),
        args=None if signature.arguments is None else to_json(signature.arguments),
        renamed=dict(signature.parameters),
        returns=None if returns is None else to_json(returns),
        retries=declared._retries,
        is_http=is_http,
    )
    if canonical_path(spec.path) != spec.path:
        raise InvalidValidator(f"{spec.path!r} cannot be the path of a function")
    return spec


def _parameters(handler: Any, rows: dict[str, Any]) -> list[Parameter]:
    code = handler.__code__
    positional = code.co_argcount
    count = positional + code.co_kwonlyargcount
    names = code.co_varnames[:count]
    with_default = set(names[positional - len(handler.__defaults__ or ()) : positional])
    with_default |= set(handler.__kwdefaults__ or ())
    parameters = [
        Parameter(
            name,
            rows.get(name, UNSET),
            has_default=name in with_default,
            is_plain=place == 0 or place >= code.co_posonlyargcount,
        )
        for place, name in enumerate(names)
    ]
    extra = iter(code.co_varnames[count:])
    for flag in (_VARARGS, _VARKEYWORDS):
        if code.co_flags & flag:
            parameters.append(Parameter(next(extra), is_plain=False, takes_rest=flag == _VARKEYWORDS))
    if not names:  # ctx itself cannot be given
        parameters = []
    return parameters


def _line_of(name: str, declared: Declared, compiled: CompiledModule) -> int:
    code = declared._handler.__code__
    lines = dict(compiled.functions)
    if name in lines or not _is_written_in(compiled, declared):
        return lines.get(name, 0)
    first: int = code.co_firstlineno  # of the decorator
    return lines.get(code.co_name, first)


def _is_written_in(compiled: CompiledModule, declared: Declared) -> bool:
    filename: str = declared._handler.__code__.co_filename
    return filename == FILENAME_PREFIX + compiled.filename


# ---- classes as validators ---------------------------------------------------------


def _resolve_classes(namespace: dict[str, Any], annotations: _TableOfAnnotations) -> None:
    """Give every class with annotated fields the validator that it stands for, in order of the file.

    Many a class is for the author's own use, and has a field that no validator is for. So the reason why
    it stands for none is kept in its place, for those who name the class in an annotation.
    """
    for name, rows in annotations.items():
        cls: Any = namespace.get(name)
        if is_guest_class(cls) and fields_of(cls) and "_annotation_" not in cls.__dict__:
            try:
                meaning: Validator | InvalidValidator = _class_validator(cls, rows)
            except InvalidValidator as error:
                meaning = InvalidValidator(str(error))
            install(cls, "_annotation_", meaning)


def _class_validator(cls: Any, rows: dict[str, Any]) -> Validator:
    fields: dict[str, Validator] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited = base.__dict__.get("_annotation_") if is_guest_class(base) else None
        if isinstance(inherited, InvalidValidator):
            raise InvalidValidator(str(inherited))
        if isinstance(inherited, ObjectValidator):
            fields.update(inherited.fields)
    is_typed_dict = issubclass(cls, TypedDictBase)
    is_total = cls.__dict__.get("_total_", True)
    for name, annotation in rows.items():
        if ClassVar in (annotation, get_origin(annotation)):
            continue
        validator = to_validator(annotation, f"{cls.__name__}.{name}")
        may_be_absent = not is_total if is_typed_dict else _has_default(cls, name)
        may_be_absent = may_be_absent and get_origin(annotation) is not Required
        fields[name] = optional(validator) if may_be_absent else validator
    return ObjectValidator(fields)


def _has_default(cls: Any, name: str) -> bool:
    spec = cls.__dict__.get("_dataclass_", {}).get(name)
    return bool(spec._optional) if spec is not None else name in cls.__dict__


# ---- errors ------------------------------------------------------------------------


def _located(error: BaseException, compiled: CompiledModule, app: App, runtime: GuestRuntime) -> SourceError:
    """Say where in the app an error of the import phase arose."""
    described = describe(error, {}, runtime.texts)
    text = f"{described.kind}: {described.message}" if described.message else described.kind
    if isinstance(error, InvalidValidator):
        text = described.message  # it says all, and the class of the error is ours
    for frame in reversed(described.frames):
        if frame.filename in app.sources:
            return SourceError(path=frame.filename, line=frame.line, column=0, message=text)
    return _source_error(compiled, 0, text)


def _source_error(compiled: CompiledModule, line: int, message: str) -> SourceError:
    return SourceError(path=compiled.filename, line=line, column=0, message=message)
