"""How failures look on the wire: error texts, request ids, close codes and reasons.

The sessions and the HTTP API ask the same questions here, so that one error
reads the same whichever way it was met. Forms are those of the protocol
document, 7.3, 8.4 and 10.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import attrs

from engine.backend import BackendFault, Failure

CLOSE_INTERNAL: Final = 1011
CLOSE_OVERLOAD: Final = 1013

# The prefix selects how long the official clients wait before they come back (8.4).
_REASONS: Final = {
    "Conflict": "OptimisticConcurrencyControlFailure",
    "Overloaded": "TooManyConcurrentRequests",
}
_INTERNAL: Final = "InternalServerError"
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{16}")


@attrs.frozen
class Trouble:
    """A call without an outcome: the socket closes, or HTTP answers 503 or 500."""

    code: str  # short CamelCase
    message: str
    transient: bool

    @property
    def close_code(self) -> int:
        return CLOSE_OVERLOAD if self.transient else CLOSE_INTERNAL


def request_id_of(session: str, request: object) -> str:
    """Return the request id of a numbered request. A repeated request has the id of the first."""
    return hashlib.sha256(f"{session}|{request}".encode()).hexdigest()[:16]


def request_id_from(text: str) -> str:
    """Return the request id that a caller named itself by; any text will do."""
    return text if _REQUEST_ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:16]


def error_text(request_id: str, failure: Failure, redacted: bool) -> str:
    """Return the text of 10.1. Redaction leaves line 1."""
    first = f"[Request ID: {request_id}] Server Error"
    return first if redacted else f"{first}\n{_valid(failure.message)}"


def _valid(text: str) -> str:
    # Messages quote what clients sent, lone surrogates included, which JSON text cannot hold.
    return text if text.isascii() else text.encode(errors="replace").decode()


def unknown_function(path: str) -> Failure:
    """Return the failure for a path that is outside the syntax: the text for one that does not exist."""
    return Failure(f"Could not find public function for '{path}'.\n", kind="InvalidFunctionCall")


def invalid_arguments(problem: str) -> Failure:
    return Failure(f"ArgumentValidationError: {problem}\n", kind="ArgumentValidation")


def trouble_of(failure: Failure | None) -> Trouble | None:
    """Return why a failure is not an answer, or None if it is one."""
    if failure is None:
        return None
    if failure.transient:
        return Trouble(_REASONS.get(failure.kind, failure.kind), failure.message, transient=True)
    if failure.kind == "System":
        return Trouble(_INTERNAL, failure.message, transient=False)
    return None


def trouble_of_fault(fault: BackendFault) -> Trouble:
    code = _REASONS.get(fault.code, fault.code) if fault.transient else _INTERNAL
    return Trouble(code, fault.message, fault.transient)
