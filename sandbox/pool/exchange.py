"""What may answer what: the engine's check of each frame against the request it answers.

The codec has checked types, names and caps by now. Here are the rules that need
the request beside the reply. Packed values are opaque; whoever unpacks them
checks them.
"""

from __future__ import annotations

from sandbox.frames import (
    FromWorker,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    ProtocolViolation,
    Ran,
    Refused,
    Run,
    Syscall,
)

Request = Load | Run | Ping


def check_reply(request: Request, reply: FromWorker) -> None:
    """Check that `reply` may end `request`. Raises `ProtocolViolation`."""
    match request, reply:
        case Load(code=asked), Loaded(code=code) | LoadFailed(code=code) if code == asked:
            pass
        case Run(calls=calls), Ran(outcomes=outcomes) if len(outcomes) == len(calls):
            for outcome in outcomes:
                if bool(outcome.value) != (outcome.kind == "value"):
                    raise ProtocolViolation(f"an outcome {outcome.kind!r} that contradicts its value")
        case (Run(), Refused()) | (Ping(), Pong()):
            pass
        case _:
            raise ProtocolViolation(f"{type(reply).__name__} does not answer this {type(request).__name__}")


def check_syscall(request: Request, syscall: Syscall, expected: int) -> None:
    """Check a syscall made while `request` runs. Raises `ProtocolViolation`."""
    if not isinstance(request, Run):
        raise ProtocolViolation(f"a syscall during {type(request).__name__}")
    if syscall.number != expected:
        raise ProtocolViolation(f"syscall {syscall.number}, expected {expected}")
