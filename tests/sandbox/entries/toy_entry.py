"""A worker entry for tests of the pool: a handler that does as the path of each call says.

It is on the search path of the zygotes that tests start, and of no other.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from sandbox.frames import (
    Load,
    Loaded,
    LoadFailed,
    Outcome,
    Ran,
    Refused,
    Run,
    SourceError,
    Syscall,
    SyscallReply,
    encode,
)
from sandbox.worker import serve
from sandbox.zygote import Serve
from tidewell.values import pack, unpack

_kept: list[bytes] = []


def _spin(_: Any) -> None:
    while True:
        pass


def _hog(_: Any) -> None:
    while True:
        _kept.append(bytes(2**20))


def _crash(_: Any) -> None:
    ctypes.string_at(0)


def _grow(count: Any) -> int:
    _kept.append(b"x" * count)
    return len(_kept)


def _environment(_: Any) -> list[str]:
    return sorted(f"{name}={value}" for name, value in os.environ.items())


def _answer_and_spin(_: Any) -> None:
    os.write(0, encode(Ran(outcomes=[Outcome(kind="value", value=pack(None))])))
    _spin(None)


COMMANDS: dict[str, Callable[[Any], Any]] = {
    "echo": lambda args: args,
    "spin": _spin,
    "hog": _hog,
    "crash": _crash,
    "open": lambda _: os.listdir("/"),
    "exit": lambda status: os._exit(status),
    "fault": lambda _: 1 // 0,
    "write": lambda data: os.write(0, data),
    "read": lambda _: os.read(0, 1),
    "grow": _grow,
    "answer_and_spin": _answer_and_spin,
    "environment": _environment,
    "modules": lambda _: "engine" in sys.modules,
    "hash": lambda text: str(hash(text)),
    "pid": lambda _: os.getpid(),
    "import": lambda name: __import__(name).__name__,
}


class ToyHandler:
    def load(self, frame: Load) -> Loaded | LoadFailed:
        if not frame.modules:
            return LoadFailed(
                code=frame.code, errors=[SourceError(path="", line=0, column=0, message="empty")]
            )
        return Loaded(code=frame.code, analysis=b"")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        if frame.code == "outgrown":
            return Refused(reason="map_outgrown")
        outcomes = []
        for call in frame.calls:
            args = unpack(call.args)
            if call.path == "ask":
                value: Any = []
                for number in range(1, args + 1):
                    reply = syscall(
                        Syscall(number=number, operation="run_query", path="a:b", args=pack(number))
                    )
                    value.append(unpack(reply.value))
            elif call.path == "fuel":
                outcomes.append(Outcome(kind="fuel", error="out of steps"))
                continue
            else:
                value = COMMANDS[call.path](args)
            outcomes.append(Outcome(kind="value", value=pack(value)))
        return Ran(outcomes=outcomes)


def serve_toy(argument: str) -> Serve:
    return partial(serve, open_database=lambda: int(argument or 0), handler=ToyHandler())
