"""The worker of `sandbox_process.py`: answers each call with its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from sandbox.frames import Load, Loaded, LoadFailed, Outcome, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.worker import Channel, serve


class _Echo:
    def load(self, frame: Load) -> Loaded | LoadFailed:
        return Loaded(code=frame.code, analysis=b"")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        return Ran(outcomes=[Outcome(kind="value", value=call.args) for call in frame.calls])


def serve_echo(channel: Channel, argument: str) -> NoReturn:
    serve(channel, lambda: 0, _Echo())
