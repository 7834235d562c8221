"""What a worker says of a version of an app: its functions, its schema, its notes.

Written by the loader at push time, kept with the version, and handed back to
every worker that loads it. The engine reads it as hostile bytes: `decode_analysis`
accepts exact types and known fields only, rebuilds every validator, and checks
that each path is canonical and named once.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from tidewell.functions import RETRIES_MAX
from tidewell.refs import canonical_path
from tidewell.routes import InvalidRoute, RouteTable, make_route
from tidewell.schema import Schema
from tidewell.schema import from_json as schema_from_json
from tidewell.validator_json import from_json as validator_from_json
from tidewell.validators import InvalidValidator, ObjectValidator, Validator

FUNCTIONS_MAX: Final = 8192
NOTES_MAX: Final = 256
INDEX_USES_MAX: Final = 4096
ANALYSIS_BYTES_MAX: Final = 8 * 2**20  # as much as the code it describes may have

Kind = Literal["query", "mutation", "action"]
Visibility = Literal["public", "internal"]


class InvalidAnalysis(ValueError):
    """Bytes that no loader of this version has written."""


class FunctionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    module: str  # "admin/reports"
    name: str  # "daily", as clients name it
    handler: str  # the name in the module; differs for names that are Python keywords
    kind: Kind
    visibility: Visibility
    file: str
    line: int
    args: Any = None  # validator of the argument object; None when one dict is taken unchecked
    renamed: dict[str, str] = {}  # argument to parameter, where they differ
    returns: Any = None  # validator of the result; None when anything goes
    retries: int | None = None
    is_http: bool = False  # answers requests: reached by routes alone

    @property
    def path(self) -> str:
        return f"{self.module}:{self.name}"

    def arguments_validator(self) -> ObjectValidator | None:
        if self.args is None:
            return None
        validator = validator_from_json(self.args)
        if not isinstance(validator, ObjectValidator):
            raise InvalidValidator("the arguments of a function are an object")
        return validator

    def returns_validator(self) -> Validator | None:
        return None if self.returns is None else validator_from_json(self.returns)


class IndexUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A place in the source that names an index."""

    table: str  # empty when it is not written beside it
    index: str
    function: str  # of the module; empty outside of functions
    file: str
    line: int


class HttpRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    is_prefix: bool
    method: str
    function: str  # path of an HTTP action


class Analysis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    functions: list[FunctionSpec]  # sorted by path
    schema: Any = None  # as `tidewell.schema.to_json` writes it; None without a schema.py
    index_uses: list[IndexUse] = []
    notes: list[str] = []  # for the developer: what is legal and probably not meant
    routes: list[HttpRoute] = []

    def read_routes(self) -> RouteTable[str]:
        """Return the function of each route. Raises `InvalidRoute`."""
        table: RouteTable[str] = RouteTable()
        for route in self.routes:
            path, prefix = (None, route.path) if route.is_prefix else (route.path, None)
            table.add(make_route(path, prefix, route.method), route.function)
        return table

    def read_schema(self) -> Schema | None:
        return None if self.schema is None else schema_from_json(self.schema)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Analysis)


def encode_analysis(analysis: Analysis) -> bytes:
    return _encoder.encode(analysis)


def decode_analysis(data: bytes) -> Analysis:
    """Return the analysis in `data`, which an untrusted process has sent.

    Raises:
      InvalidAnalysis: anything in it is not as the loader writes it.
    """
    if len(data) > ANALYSIS_BYTES_MAX:
        raise InvalidAnalysis(f"an analysis of {len(data)} bytes, at most {ANALYSIS_BYTES_MAX}")
    try:
        analysis = _decoder.decode(data)
        _check(analysis)
    except (msgspec.DecodeError, UnicodeError, RecursionError, InvalidValidator, InvalidRoute) as error:
        raise InvalidAnalysis(f"malformed analysis: {error}") from None
    return analysis


def _check(analysis: Analysis) -> None:
    if len(analysis.functions) > FUNCTIONS_MAX or len(analysis.notes) > NOTES_MAX:
        raise InvalidAnalysis("too many functions or notes")
    if len(analysis.index_uses) > INDEX_USES_MAX:
        raise InvalidAnalysis("too many uses of indexes")
    paths = set()
    for spec in analysis.functions:
        if canonical_path(spec.path) != spec.path or spec.path in paths:
            raise InvalidAnalysis(f"{spec.path!r} is no canonical path, or is there twice")
        paths.add(spec.path)
        if spec.is_http and (spec.kind, spec.visibility, spec.args) != ("action", "internal", None):
            raise InvalidAnalysis(f"{spec.path} is no HTTP action")
        if spec.retries is not None and not 0 <= spec.retries <= RETRIES_MAX:
            raise InvalidAnalysis(f"{spec.path}: {spec.retries} retries")
        spec.arguments_validator()
        spec.returns_validator()
    answering = {spec.path for spec in analysis.functions if spec.is_http}
    for route in analysis.routes:
        if route.function not in answering:
            raise InvalidAnalysis(f"a route to {route.function!r}, which is no HTTP action")
    analysis.read_routes()
    analysis.read_schema()
