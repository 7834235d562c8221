"""A worker that reads a store as the real guest does, in two requests: look at a state, read all of it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

from sandbox.frames import Load, Loaded, LoadFailed, Outcome, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.worker import serve
from sandbox.zygote import Serve
from storage import SnapshotReader, Transaction
from tidewell.values import pack


class ReaderHandler:
    def __init__(self, path: str) -> None:
        self.path = path
        self.map_start = 0
        self.reader: SnapshotReader | None = None

    def open(self) -> int:
        self.reader = SnapshotReader.open(self.path)
        with open("/proc/self/maps", encoding="ascii") as file:
            self.map_start = next(int(line.split("-")[0], 16) for line in file if "data.mdb" in line)
        return self.reader.refresh()

    def load(self, frame: Load) -> Loaded | LoadFailed:
        return Loaded(code=frame.code, analysis=b"")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        return Ran(
            outcomes=[
                Outcome(kind="value", value=pack(self.answer(call.path, frame.txn_id)))
                for call in frame.calls
            ]
        )

    def answer(self, path: str, txn_id: int) -> Any:
        assert self.reader is not None
        if path == "look":
            return self.reader.refresh(txn_id)
        if path == "make the map writable":
            return self.make_map_writable()
        return list(Transaction(self.reader.snapshot()).scan("posts", "by_creation_time"))

    def make_map_writable(self) -> str:
        """What native code would do to other readers, and to the engine, if it could."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        return "done" if libc.mprotect(self.map_start, 4096, 3) == 0 else "refused"


def serve_reader(argument: str) -> Serve:
    handler = ReaderHandler(argument)
    return partial(serve, open_database=handler.open, handler=handler)
