"""The real guest of a deployment, whose calls to `chaos/…` run native payloads instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import native_payloads

from engine import guest
from sandbox.frames import Load, Loaded, LoadFailed, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.worker import Channel, RequestHandler
from sandbox.zygote import Serve
from tidewell.values import unpack


class ChaosHandler:
    def __init__(self, real: RequestHandler) -> None:
        self.real = real

    def load(self, frame: Load) -> Loaded | LoadFailed:
        return self.real.load(frame)

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        folder, _, payload = frame.calls[0].path.partition("/")
        if folder == "chaos":
            args: Any = unpack(frame.calls[0].args)
            native_payloads.PAYLOADS[payload](args["argument"])
        return self.real.run(frame, syscall)


_serve = guest.serve


def serve_chaos(argument: str) -> Serve:
    """As `engine.guest:serve_guest`, with the handler wrapped."""

    def serve(channel: Channel, open_database: Callable[[], int], handler: RequestHandler) -> NoReturn:
        _serve(channel, open_database, ChaosHandler(handler))

    guest.serve = serve
    return guest.serve_guest(argument)
