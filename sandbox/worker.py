"""The worker process: confine itself, say so, then answer one request at a time.

`serve` runs in a process that the zygote has just forked. The composition root
(the entry that the zygote was given) hands it a way to open the database and a
`RequestHandler`; this file knows neither databases nor guests.

Invariants:

* No byte of a tenant has been read before `Ready` was sent, and `Ready` is sent
  only with every mandatory layer in force.
* From then on this process computes, reads its channel and writes to it.
* One request is answered before the next is read. Automatic collection of
  cycles is off; it happens between requests, so no call pays for another one
  and no finaliser runs at a moment that depends on earlier calls.
* Running out of memory ends the process at once with a status of its own. A
  reply built by then could miss parts.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, FrozenImporter
from typing import Final, NoReturn, Protocol

import attrs

from sandbox.confinement import layers, selftest
from sandbox.confinement.seccomp import CHANNEL
from sandbox.confinement.system import close_all_from
from sandbox.frames import (
    LENGTH,
    Broken,
    FromWorker,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    ProtocolViolation,
    Ran,
    Ready,
    Refused,
    Run,
    Syscall,
    SyscallReply,
    ToWorker,
    body_length,
    decode_to_worker,
    encode,
)

# How a worker ends by its own decision. The pool reads them back; a guest that
# reaches native code can forge them, and gains another name for its own death.
STATUS_CLOSED: Final = 0  # the engine closed the channel
STATUS_MEMORY: Final = 70
STATUS_BROKEN: Final = 71

_READ_BYTES: Final = 64 * 1024
_MESSAGE_CHARACTERS_MAX: Final = 4_000


class RequestHandler(Protocol):
    """What answers requests in a worker."""

    def load(self, frame: Load) -> Loaded | LoadFailed:
        """Compile a version of the app."""

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        """Run calls. `syscall` asks the engine and waits for its answer."""


@attrs.frozen
class Channel:
    """What a new worker is born with. The entry passes it to `serve` unopened."""

    descriptor: int
    plan: layers.Plan
    attempt: str = ""  # an attempt of the self-test, made in place of serving


class _Wire:
    """The worker's end of the channel: blocking, frame by frame."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self) -> ToWorker | None:
        """Return the next frame, or None when the engine has closed the channel."""
        header = self._take(LENGTH.size)
        if header is None:
            return None
        body = self._take(body_length(header))
        if body is None:
            return None
        return decode_to_worker(body)

    def _take(self, count: int) -> bytes | None:
        if len(self._rest) >= count:
            taken, self._rest = self._rest[:count], self._rest[count:]
            return taken
        buffer = bytearray(self._rest)
        while len(buffer) < count:
            piece = os.read(CHANNEL, max(_READ_BYTES, count - len(buffer)))
            if not piece:
                return None
            buffer += piece
        self._rest = bytes(buffer[count:])
        return bytes(buffer[:count])

    def send(self, frame: FromWorker) -> None:
        data = memoryview(encode(frame))
        while data:
            data = data[os.write(CHANNEL, data) :]


def serve(channel: Channel, open_database: Callable[[], int], handler: RequestHandler) -> NoReturn:
    """Confine this process and answer requests until the channel closes. Never returns.

    Args:
      open_database: opens what the handler reads, reads once, and returns the id
        of the transaction it read in. It is called while files can be opened; its
        descriptors are closed afterwards, its mappings stay.
    """
    wire = _Wire()
    try:
        _keep_the_channel(channel)
        _begin(wire, channel, open_database)
        _answer_requests(wire, handler)
    except MemoryError:
        os._exit(STATUS_MEMORY)
    except BrokenPipeError:
        os._exit(STATUS_CLOSED)
    except BaseException as error:
        _break(wire, "request", error)
    os._exit(STATUS_CLOSED)


def _keep_the_channel(channel: Channel) -> None:
    """Move the channel to its fixed descriptor and close all others with one range call."""
    os.dup2(channel.descriptor, CHANNEL)
    close_all_from(CHANNEL + 1)


def _begin(wire: _Wire, channel: Channel, open_database: Callable[[], int]) -> None:
    """Get from a fresh fork to `Ready`."""
    try:
        txn_id = open_database()
    except Exception as error:
        _break(wire, "database", error)
    # What is not imported by now has to be in the interpreter itself.
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    try:
        report = layers.confine(channel.plan)
    except layers.Refusal as refusal:
        _break(wire, "confinement", refusal)
    if channel.attempt:
        selftest.attempt(channel.attempt)
        os._exit(STATUS_CLOSED)
    sys.addaudithook(_refuse_to_open)
    _forget_garbage()
    wire.send(Ready(layers=report.in_force, notes=report.notes, txn_id=txn_id))


def _refuse_to_open(event: str, arguments: tuple[object, ...]) -> None:
    """Fail an `open` in Python already, before the kernel answers it by killing the process.

    Nobody here opens files on purpose. The interpreter does on its own: to quote the line of
    a syntax error, its parser opens whatever has the name of the source, and takes a failure in its stride.
    """
    if event == "open":
        raise PermissionError("workers open no files")


def _answer_requests(wire: _Wire, handler: RequestHandler) -> None:
    def ask(syscall: Syscall) -> SyscallReply:
        wire.send(syscall)
        reply = wire.receive()
        if reply is None:
            os._exit(STATUS_CLOSED)
        if not isinstance(reply, SyscallReply) or reply.number != syscall.number:
            raise ProtocolViolation(f"the engine answered a syscall with {type(reply).__name__}")
        return reply

    # What survives a first run is there to stay (caches, mostly) and should not be walked after each
    # later one; it is set aside at doubling distances, so that what is dead by then stays little.
    runs = 0
    while (frame := wire.receive()) is not None:
        match frame:
            case Run():
                wire.send(handler.run(frame, ask))
                del frame
                runs += 1
                gc.collect()
                if runs & (runs - 1) == 0:
                    gc.freeze()
            case Load():
                wire.send(handler.load(frame))
                del frame
                _forget_garbage()
            case Ping():
                wire.send(Pong())
            case SyscallReply():
                raise ProtocolViolation("an answer to a syscall that nobody made")


def _forget_garbage() -> None:
    """Collect now, and leave what survived out of every later collection: it stays for good."""
    gc.collect()
    gc.freeze()


def _break(wire: _Wire, where: str, error: BaseException) -> NoReturn:
    """Tell the engine what went wrong with us, and end. Formats host errors, never a guest's."""
    is_refusal = isinstance(error, layers.Refusal)
    lines = [str(error) if is_refusal else f"{type(error).__name__}: {error}"]
    trace = None if is_refusal else error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    message = "\n".join(lines)[:_MESSAGE_CHARACTERS_MAX]
    try:
        match where:
            case "database" | "confinement":
                wire.send(Broken(where=where, message=message))
            case _:
                wire.send(Broken(where="request", message=message))
    finally:
        os._exit(STATUS_BROKEN)
