"""Outcomes as protocol messages: the one place that knows what a client may be told.

Redaction, error texts and `errorData` are decided here for every kind of answer
on a socket (protocol, section 10).
"""

from __future__ import annotations

from engine.backend import ABSENT, ActionOutcome, Failure, MutationOutcome, QueryOutcome
from engine.failures import error_text
from tidewell import protocol
from tidewell.protocol import JsonText, Ts, Uint
from tidewell.values import wire_json


def mutation_response(
    request_id: int, call_id: str, outcome: MutationOutcome, *, redacted: bool
) -> protocol.MutationResponse:
    failure = outcome.failure
    return protocol.MutationResponse(
        Uint(request_id),
        failure is None,
        _result(call_id, outcome.value_json, failure, redacted),
        _log_lines(outcome.log_lines, redacted),
        Ts(outcome.ts) if failure is None else None,
        error_data(failure),
    )


def action_response(
    request_id: int, call_id: str, outcome: ActionOutcome, *, redacted: bool
) -> protocol.ActionResponse:
    failure = outcome.failure
    return protocol.ActionResponse(
        Uint(request_id),
        failure is None,
        _result(call_id, outcome.value_json, failure, redacted),
        _log_lines(outcome.log_lines, redacted),
        error_data(failure),
    )


def query_change(
    query_id: int, call_id: str, outcome: QueryOutcome, *, redacted: bool
) -> protocol.QueryChange:
    log_lines = _log_lines(outcome.log_lines, redacted)
    if outcome.failure is None:
        return protocol.QueryUpdated(Uint(query_id), JsonText(outcome.value_json), log_lines, outcome.journal)
    return protocol.QueryFailed(
        Uint(query_id),
        error_text(call_id, outcome.failure, redacted),
        log_lines,
        outcome.journal,
        error_data(outcome.failure),
    )


def query_refused(query_id: int, call_id: str, failure: Failure, *, redacted: bool) -> protocol.QueryFailed:
    """The answer to a query that could not be read, and never ran."""
    return protocol.QueryFailed(Uint(query_id), error_text(call_id, failure, redacted), [], None)


def error_data(failure: Failure | None) -> JsonText:
    if failure is None or failure.data is ABSENT:
        return protocol.NO_JSON
    return JsonText(wire_json(failure.data))


def _result(call_id: str, value_json: bytes, failure: Failure | None, redacted: bool) -> JsonText:
    if failure is None:
        return JsonText(value_json)
    return protocol.json_string(error_text(call_id, failure, redacted))


def _log_lines(lines: tuple[str, ...], redacted: bool) -> list[str]:
    return [] if redacted else list(lines)
