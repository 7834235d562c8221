"""What may answer what: the engine's check of each frame against the request it answers.

The codec has checked types and names by now. Here are the rules that need the
request beside the reply, and the caps on what is stored or sent on. Packed
values are opaque; whoever unpacks them checks them.
"""

from __future__ import annotations

from typing import Final

from sandbox.frames import (
    FromWorker,
    Load,
    Loaded,
    LoadFailed,
    Outcome,
    Ping,
    Pong,
    ProtocolViolation,
    Ran,
    Refused,
    Run,
    Syscall,
)

# Above what the executor's own limits let through, so that only a forged frame meets them.
LOG_LINES_MAX: Final = 1_024
LOG_LINE_CHARACTERS_MAX: Final = 16 * 1024
ERROR_CHARACTERS_MAX: Final = 256 * 1024
NAMES_MAX: Final = 256  # observed flags, counters, lines of a profile
NAME_CHARACTERS_MAX: Final = 1_024
WRITES_BYTES_MAX: Final = 40 * 2**20
READS_BYTES_MAX: Final = 16 * 2**20
VALUE_BYTES_MAX: Final = 20 * 2**20
SOURCE_ERRORS_MAX: Final = 10_000
_COUNT_MAX: Final = 2**53

Request = Load | Run | Ping


def check_reply(request: Request, reply: FromWorker) -> None:
    """Check that `reply` may end `request`. Raises `ProtocolViolation`."""
    match request, reply:
        case Load(), Loaded(code=code):
            _require(code == request.code, "another version was loaded")
        case Load(), LoadFailed(code=code):
            _require(code == request.code, "another version failed to load")
            _require(0 < len(reply.errors) <= SOURCE_ERRORS_MAX, f"{len(reply.errors)} errors of source")
            for error in reply.errors:
                _check_text(error.message, ERROR_CHARACTERS_MAX, "message")
                _check_text(error.path, NAME_CHARACTERS_MAX, "path")
        case Run(), Ran():
            _require(len(reply.outcomes) == len(request.calls), "not one outcome for each call")
            for outcome in reply.outcomes:
                _check_outcome(outcome)
        case Run(), Refused():
            pass
        case Ping(), Pong():
            pass
        case _:
            raise ProtocolViolation(f"{type(request).__name__} was answered by {type(reply).__name__}")


def check_syscall(request: Request, syscall: Syscall, expected: int) -> None:
    """Check a syscall made while `request` runs. Raises `ProtocolViolation`."""
    _require(isinstance(request, Run), f"a syscall during {type(request).__name__}")
    _require(syscall.number == expected, f"syscall {syscall.number}, expected {expected}")
    _require(len(syscall.args) <= VALUE_BYTES_MAX, "arguments too large")
    _check_text(syscall.path, NAME_CHARACTERS_MAX, "path")
    _check_lines(syscall.log_lines)


def _check_outcome(outcome: Outcome) -> None:
    _require(len(outcome.value) <= VALUE_BYTES_MAX, "value too large")
    _require(len(outcome.error_data or b"") <= VALUE_BYTES_MAX, "error data too large")
    _require(len(outcome.writes) <= WRITES_BYTES_MAX, "write set too large")
    _require(len(outcome.reads) <= READS_BYTES_MAX, "read set too large")
    _require(0 <= outcome.steps < _COUNT_MAX, f"{outcome.steps} steps")
    _require(bool(outcome.value) == (outcome.kind == "value"), f"a value beside the outcome {outcome.kind!r}")
    _check_text(outcome.error, ERROR_CHARACTERS_MAX, "error")
    _check_text(outcome.code, NAME_CHARACTERS_MAX, "code")
    _check_text(outcome.journal or "", ERROR_CHARACTERS_MAX, "journal")
    _check_lines(outcome.log_lines)
    for names in (outcome.observed, outcome.counters, outcome.profile):
        _require(len(names) <= NAMES_MAX, f"{len(names)} names")
    for name in outcome.observed:
        _check_text(name, NAME_CHARACTERS_MAX, "flag")
    for name, count in outcome.counters.items():
        _check_text(name, NAME_CHARACTERS_MAX, "counter")
        _require(0 <= count < _COUNT_MAX, f"a count of {count}")
    for name, line, steps in outcome.profile:
        _check_text(name, NAME_CHARACTERS_MAX, "file")
        _require(0 <= line < _COUNT_MAX, f"line {line}")
        _require(0 <= steps < _COUNT_MAX, f"{steps} steps")


def _check_lines(lines: list[str]) -> None:
    _require(len(lines) <= LOG_LINES_MAX, f"{len(lines)} log lines")
    for line in lines:
        _check_text(line, LOG_LINE_CHARACTERS_MAX, "log line")


def _check_text(text: str, characters_max: int, what: str) -> None:
    _require(len(text) <= characters_max, f"{what} of {len(text)} characters")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ProtocolViolation(problem)
