"""Large messages of clients, read beside the event loop.

A client may send megabytes of arguments, and reading them takes long: a second for a
few million values. Anybody can send that, so it is done in a thread, one message at a
time, while everybody else is served. What would take too much as objects is refused by
its weight, before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
import msgspec
import trio

from engine.exchange import Refused
from engine.held import weigh
from engine.query_set import ReadArgs
from tidewell import protocol

T = TypeVar("T")

HEAVY_BYTES: Final = 512 * 1024  # read in some milliseconds; everything above is heavy
# The most that honest arguments weigh: 16 MiB of numbers, each in some 8 characters of JSON.
WEIGHT_MAX: Final = 192 * 1024 * 1024


@attrs.define(eq=False)
class HeavyReader:
    _turn: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def read(self, call: Callable[[Any], T], data: object) -> T:
        """Return `call(data)`, when its turn has come."""
        return await trio.to_thread.run_sync(call, data, limiter=self._turn, abandon_on_cancel=True)


def read_message(text: str) -> protocol.ClientMessage | protocol.MalformedMessage:
    """Return a message with its arguments read, or what is wrong with it."""
    try:
        message = protocol.decode_client_message(text)
    except protocol.MalformedMessage as error:
        return error
    match message:
        case protocol.Mutation() | protocol.Action():
            return attrs.evolve(message, args=protocol.JsonArray(ReadArgs(message.args)))
        case protocol.ModifyQuerySet():
            changes = [
                attrs.evolve(change, args=protocol.JsonArray(ReadArgs(change.args)))
                if isinstance(change, protocol.Add)
                else change
                for change in message.modifications
            ]
            return attrs.evolve(message, modifications=changes)
    return message


def read_body(data: bytes) -> object:
    """Return the JSON of a request body, with the arguments of its calls read. Raises `Refused`."""
    tree = read_json(data, "the request body")
    if type(tree) is dict:
        queries = tree.get("queries")
        for call in [tree, *(queries if type(queries) is list else ())]:
            if type(call) is dict and "args" in call:
                args = call["args"]
                call["args"] = ReadArgs(args if type(args) is list else [args])
    return tree


def read_json(data: bytes, what: str) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(400, "BadJsonBody", f"{what} is not JSON: {error}") from None


def is_heavy(data: str | bytes) -> bool:
    return len(data) > HEAVY_BYTES // 64 and weigh(data) > HEAVY_BYTES


def is_too_heavy(data: str | bytes) -> bool:
    return len(data) > WEIGHT_MAX // 64 and weigh(data) > WEIGHT_MAX
