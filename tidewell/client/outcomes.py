"""How calls and connections end, as a caller sees it.

Sorted by whose fault: `AppError` (of `tidewell.errors`) is the application speaking,
`FunctionError` a function that failed or could not be called; everything here is
about the connection.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from tidewell.errors import AppError, FunctionError
from tidewell.protocol import JsonText
from tidewell.values import MISSING, Value, from_wire, parse_json


class ClientError(Exception):
    """A call that has no outcome; the text says why."""


class CannotConnect(ClientError):
    """The first connection could not be made. Later ones are tried again until they can."""


class ConnectionLost(ClientError):
    """The connection broke while an action was under way: it may have run, in part or whole, or not."""


class ClientClosed(ClientError):
    """The client has been closed."""


class ClientRefused(ClientError):
    """The server says that this client breaks the protocol, so that trying again would not help."""


@attrs.frozen
class Succeeded:
    value: Value


@attrs.frozen
class Failed:
    """The function failed, or could not be called.

    Args:
      data: that of an `AppError`; `MISSING` for every other error.
    """

    path: str
    message: str
    data: Value = MISSING


@attrs.frozen
class Lost:
    """Nobody knows."""


LOST: Final = Lost()
Outcome: TypeAlias = Succeeded | Failed | Lost


def unwrap(outcome: Outcome) -> Value:
    """Return the value, or raise the error: a new one for each caller, since many may share an outcome."""
    if isinstance(outcome, Succeeded):
        return outcome.value
    if isinstance(outcome, Lost):
        raise ConnectionLost("the connection was lost while the action was in flight")
    if outcome.data is MISSING:
        raise FunctionError(outcome.path, outcome.message)
    error = AppError(outcome.data)
    error.add_note(f"{outcome.path}: {outcome.message}")
    raise error


def success(result: JsonText) -> Succeeded:
    """Return what a result on the wire says. Raises `InvalidValue` if it is not a value."""
    return Succeeded(from_wire(parse_json(result), "result"))


def failure(path: str, message: str, error_data: JsonText) -> Failed:
    """Return what a failure on the wire says. Raises `InvalidValue` if its data is not a value."""
    data = from_wire(parse_json(error_data), "errorData") if error_data else MISSING
    return Failed(path, message.rstrip("\n"), data)
