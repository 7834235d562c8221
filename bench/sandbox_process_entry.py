"""The worker of `sandbox_process.py`: answers each call with its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sandbox.frames import Load, Loaded, LoadFailed, Outcome, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.worker import serve
from sandbox.zygote import Serve


class _Echo:
    def load(self, frame: Load) -> Loaded | LoadFailed:
        return Loaded(code=frame.code, analysis=b"")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        return Ran(outcomes=[Outcome(kind="value", value=call.args) for call in frame.calls])


def serve_echo(argument: str) -> Serve:
    return partial(serve, open_database=lambda: 0, handler=_Echo())
