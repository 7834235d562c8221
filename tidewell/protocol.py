"""The messages of the sync protocol, and their JSON.

Both ends are here, because the server and the Python client speak through the
same classes. Section numbers are those of the protocol document.

Invariants:

* Types are strict: `"1"` is no number, `true` is no number, `1.0` is no uint.
  Unknown fields are ignored, in both directions.
* A value is never re-encoded: it enters a message as ready-made JSON text
  (`JsonText`) and is spliced in. On the way in, arguments stay a JSON tree.
* Absent and null differ only where section 2 says so: `errorData` (an empty
  `JsonText` is absent), `clientClockSkew` and `serverTs` (None is absent).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NewType, NoReturn, get_origin

import attrs
import cattrs
import msgspec
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.msgspec import make_converter
from cattrs.strategies import configure_tagged_union

UINT_MAX: Final = 2**32 - 1
TS_MAX: Final = 2**64 - 1

Uint = NewType("Uint", int)
Ts = NewType("Ts", int)  # nanoseconds since the epoch; on the wire 8 bytes little-endian in base64
JsonTree = NewType("JsonTree", object)  # anything JSON; never inspected here
JsonArray = NewType("JsonArray", list[Any])
JsonObject = NewType("JsonObject", dict[str, Any])


class JsonText(bytes):
    """JSON that is ready to be spliced into a message. Empty means: no such field."""

    __slots__ = ()


NO_JSON: Final = JsonText(b"")


class MalformedMessage(Exception):
    """Bytes that are not a message of the protocol; the text says what is wrong with them."""


# ---- client to server (section 3) ------------------------------------------------


@attrs.frozen
class Connect:
    session_id: str
    connection_count: Uint
    last_close_reason: str | None = None
    max_observed_timestamp: Ts | None = None
    client_ts: float | None = None  # milliseconds


@attrs.frozen
class Add:
    query_id: Uint
    udf_path: str
    args: JsonArray = attrs.field(factory=lambda: JsonArray([{}]))
    journal: str | None = None
    component_path: str | None = None
    min_interval_ms: Uint | None = None  # ours: changes in between are merged into one update


@attrs.frozen
class Remove:
    query_id: Uint


QuerySetChange = Add | Remove


@attrs.frozen
class ModifyQuerySet:
    base_version: Uint
    new_version: Uint
    modifications: list[QuerySetChange]


@attrs.frozen
class Mutation:
    request_id: Uint
    udf_path: str
    args: JsonArray
    component_path: str | None = None


@attrs.frozen
class Action:
    request_id: Uint
    udf_path: str
    args: JsonArray
    component_path: str | None = None


@attrs.frozen
class Authenticate:
    base_version: Uint
    token_type: str  # "None", "User" or "Admin"
    value: str | None = None
    impersonating: JsonObject | None = None
    acting_as: JsonObject | None = None  # what the Rust crate calls `impersonating`


@attrs.frozen
class Event:
    event_type: str
    event: JsonTree = JsonTree(None)


ClientMessage = Connect | ModifyQuerySet | Mutation | Action | Authenticate | Event


# ---- server to client (section 4) ------------------------------------------------


@attrs.frozen
class Version:
    """The triple of section 5.1; a socket starts at zero in all three."""

    query_set: Uint = Uint(0)
    identity: Uint = Uint(0)
    ts: Ts = Ts(0)


@attrs.frozen
class QueryUpdated:
    query_id: Uint
    value: JsonText
    log_lines: list[str]
    journal: str | None = None


@attrs.frozen
class QueryFailed:
    query_id: Uint
    error_message: str
    log_lines: list[str]
    journal: str | None = None
    error_data: JsonText = NO_JSON


@attrs.frozen
class QueryRemoved:
    query_id: Uint


QueryChange = QueryUpdated | QueryFailed | QueryRemoved


@attrs.frozen
class Transition:
    start_version: Version
    end_version: Version
    modifications: list[QueryChange]
    client_clock_skew: float | None = None  # milliseconds
    server_ts: int | None = None  # nanoseconds


@attrs.frozen
class TransitionChunk:
    chunk: str
    part_number: Uint
    total_parts: Uint
    transition_id: str


@attrs.frozen
class MutationResponse:
    request_id: Uint
    success: bool
    result: JsonText  # the value, or the error text as a JSON string
    log_lines: list[str]
    ts: Ts | None = None  # of the commit; a failure has none
    error_data: JsonText = NO_JSON


@attrs.frozen
class ActionResponse:
    request_id: Uint
    success: bool
    result: JsonText
    log_lines: list[str]
    error_data: JsonText = NO_JSON


@attrs.frozen
class AuthError:
    error: str
    base_version: Uint
    auth_update_attempted: bool


@attrs.frozen
class FatalError:
    error: str


@attrs.frozen
class Ping:
    pass


ServerMessage = (
    Transition | TransitionChunk | MutationResponse | ActionResponse | AuthError | FatalError | Ping
)

# ---- scalars (section 2) -----------------------------------------------------------


def encode_ts(ts: int) -> str:
    """Return the wire form of a timestamp."""
    return base64.b64encode(ts.to_bytes(8, "little")).decode()


def decode_ts(text: str) -> int:
    """Return the timestamp that `text` stands for. Raises `ValueError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"expected a timestamp in base64, found {text[:40]!r}") from None
    if len(data) != 8:
        raise ValueError(f"expected a timestamp of 8 bytes, found {len(data)}")
    return int.from_bytes(data, "little")


def json_string(text: str) -> JsonText:
    """Return a text as JSON, with what is not valid Unicode replaced."""
    return JsonText(msgspec.json.encode(text.encode(errors="replace").decode()))


def _uint(value: object, _: object) -> Uint:
    if type(value) is not int or not 0 <= value <= UINT_MAX:
        raise ValueError(f"expected an integer from 0 to {UINT_MAX}, found {_shown(value)}")
    return Uint(value)


def _ts(value: object, _: object) -> Ts:
    if type(value) is not str:
        raise ValueError(f"expected a timestamp, found {_shown(value)}")
    return Ts(decode_ts(value))


def _text(value: object, _: object) -> str:
    if type(value) is not str:
        raise ValueError(f"expected a string, found {_shown(value)}")
    return value


def _boolean(value: object, _: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"expected a boolean, found {_shown(value)}")
    return value


def _integer(value: object, _: object) -> int:
    if type(value) is not int:
        raise ValueError(f"expected an integer, found {_shown(value)}")
    return value


def _number(value: object, _: object) -> float:
    if type(value) is not int and type(value) is not float:
        raise ValueError(f"expected a number, found {_shown(value)}")
    return value


def _array(value: object, _: object) -> JsonArray:
    if type(value) is not list:
        raise ValueError(f"expected an array, found {_shown(value)}")
    return JsonArray(value)


def _object(value: object, _: object) -> JsonObject:
    if type(value) is not dict:
        raise ValueError(f"expected an object, found {_shown(value)}")
    return JsonObject(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- the converters ----------------------------------------------------------------

_WITH_OWN_FIELDS: Final = (
    Connect, Add, Remove, ModifyQuerySet, Mutation, Action, Authenticate, Event,
    Version, QueryUpdated, QueryFailed, QueryRemoved,
    Transition, TransitionChunk, MutationResponse, ActionResponse, AuthError, FatalError, Ping,
)  # fmt: skip
_OMITTED_WHEN_ABSENT: Final = frozenset({"error_data", "client_clock_skew", "server_ts"}) | {
    "max_observed_timestamp", "client_ts", "component_path", "impersonating", "acting_as", "min_interval_ms",
}  # fmt: skip


def _camel(name: str) -> str:
    if name == "acting_as":
        return name  # the one field that is not in camel case
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


def _strict_list(kind: Any, converter: cattrs.Converter) -> Any:
    hook = list_structure_factory(kind, converter)
    return lambda value, _: hook(_array(value, _), kind)


def _build(detailed_validation: bool) -> cattrs.Converter:
    converter = make_converter(detailed_validation=detailed_validation)
    hooks: dict[Any, Any] = {
        Uint: _uint, Ts: _ts, str: _text, bool: _boolean, int: _integer, float: _number,
        JsonArray: _array, JsonObject: _object, JsonTree: lambda tree, _: tree,
        JsonText: lambda tree, _: JsonText(msgspec.json.encode(tree)),
    }  # fmt: skip
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(_is_list, _strict_list)
    converter.register_unstructure_hook(Ts, encode_ts)
    converter.register_unstructure_hook(JsonText, msgspec.Raw)
    for message in _WITH_OWN_FIELDS:
        attrs.resolve_types(message)
        renames: dict[str, Any] = {
            field.name: override(
                rename=_camel(field.name), omit_if_default=field.name in _OMITTED_WHEN_ABSENT
            )
            for field in attrs.fields(message)
        }
        # A union inside a class is looked up when the class's hooks are made, so it comes first.
        if message is ModifyQuerySet:
            configure_tagged_union(QuerySetChange, converter, tag_name="type")
        elif message is Transition:
            configure_tagged_union(QueryChange, converter, tag_name="type")
        converter.register_structure_hook(
            message,
            make_dict_structure_fn(
                message,
                converter,
                _cattrs_forbid_extra_keys=False,
                _cattrs_detailed_validation=detailed_validation,
                **renames,
            ),
        )
        converter.register_unstructure_hook(message, make_dict_unstructure_fn(message, converter, **renames))
    configure_tagged_union(ClientMessage, converter, tag_name="type")
    configure_tagged_union(ServerMessage, converter, tag_name="type")
    return converter


_converter: Final = _build(detailed_validation=False)
_explainer: Final = _build(detailed_validation=True)  # slower; asked only what was wrong


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _tree(data: str | bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    # A browser sends lone surrogates, and the call that holds one deserves an
    # answer of its own; so the lenient parser has the last word on what is JSON.
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"malformed JSON: {error}") from None


def _decode(data: str | bytes, union: Any, name: str) -> Any:
    tree = _tree(data)
    if type(tree) is not dict:
        raise MalformedMessage(f"expected a {name} message, found {_shown(tree)}")
    try:
        return _converter.structure(tree, union)
    except (KeyError, ValueError, TypeError):
        raise MalformedMessage(_explain(tree, union, name)) from None


def _explain(tree: dict[str, Any], union: Any, name: str) -> str:
    kind = tree.get("type")
    if type(kind) is not str or kind not in {message.__name__ for message in union.__args__}:
        return f"unknown {name} message type {_shown(kind)}"
    try:
        _explainer.structure(tree, union)
    except Exception as error:
        problems = cattrs.transform_error(error, path="", format_exception=_problem)
        return f"malformed {kind}: {'; '.join(problems)}"
    return f"malformed {kind}"


def _problem(error: BaseException, _: object) -> str:
    if type(error) is TypeError:
        return "expected an object with a 'type'"
    if isinstance(error, KeyError):
        return f"missing or unknown {error.args[0]!r}"
    return str(error) or type(error).__name__


def decode_client_message(data: str | bytes) -> ClientMessage:
    """Return the message a client sent. Raises `MalformedMessage`."""
    message: ClientMessage = _decode(data, ClientMessage, "client")
    return message


def decode_server_message(data: str | bytes) -> ServerMessage:
    """Return the message a server sent. Raises `MalformedMessage`."""
    message: ServerMessage = _decode(data, ServerMessage, "server")
    return message


def encode_server_message(message: ServerMessage) -> bytes:
    """Return the JSON text of a message to a client."""
    return msgspec.json.encode(_converter.unstructure(message, ServerMessage))


def encode_client_message(message: ClientMessage) -> bytes:
    """Return the JSON text of a message to a server."""
    return msgspec.json.encode(_converter.unstructure(message, ClientMessage))


# ---- chunks (section 4.2) ------------------------------------------------------------


def split_transition(data: bytes, transition_id: str, part_bytes_max: int) -> list[bytes]:
    """Return the `TransitionChunk` messages of an encoded `Transition`, cut between characters."""
    pieces = []
    start = 0
    while start < len(data):
        end = min(start + part_bytes_max, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        assert end > start, (start, part_bytes_max)
        pieces.append(data[start:end].decode())
        start = end
    total = Uint(len(pieces))
    return [
        encode_server_message(TransitionChunk(piece, Uint(number), total, transition_id))
        for number, piece in enumerate(pieces)
    ]
