"""The language layer switched off: a worker that runs native payloads, after it has locked itself down.

Only tests can reach this. It is an entry like any other, so nothing in the
product has to know of it: there is no switch that production could turn on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import native_payloads

from sandbox.frames import Load, Loaded, LoadFailed, Outcome, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.worker import serve
from sandbox.zygote import Serve
from tidewell.values import pack, unpack


class NativeHandler:
    def load(self, frame: Load) -> Loaded | LoadFailed:
        return Loaded(code=frame.code, analysis=b"")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        outcomes = []
        for call in frame.calls:
            result = native_payloads.PAYLOADS[call.path](unpack(call.args))
            outcomes.append(Outcome(kind="value", value=pack(result)))
        return Ran(outcomes=outcomes)


def serve_native(argument: str) -> Serve:
    return partial(serve, open_database=lambda: 0, handler=NativeHandler())
