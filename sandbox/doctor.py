"""What the wall is made of on this machine, for `tidewell doctor`.

Starts a zygote and workers as a deployment would, with a handler that serves
nothing, and asks: which layers are in force, why are the others not, and do the
attempts of the self-test fail as they must. Blocking, since nothing else runs.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import attrs

from sandbox import control
from sandbox.confinement import selftest
from sandbox.confinement.layers import LAYERS, MANDATORY
from sandbox.frames import (
    LENGTH,
    Broken,
    FromWorker,
    Load,
    Loaded,
    LoadFailed,
    Ran,
    Ready,
    Refused,
    Run,
    Syscall,
    SyscallReply,
    body_length,
    decode_from_worker,
)
from sandbox.launch import Settings, start_zygote
from sandbox.worker import Channel, serve

_PATIENCE_S: Final = 30.0


@attrs.frozen
class LayerState:
    name: str
    does: str
    is_mandatory: bool
    is_in_force: bool
    why_not: str = ""


@attrs.frozen
class Diagnosis:
    """`fault` is empty when workers would serve here."""

    layers: tuple[LayerState, ...]
    attempts: dict[str, bool]  # of the self-test: whether the kernel stopped it
    fault: str = ""

    @property
    def would_serve(self) -> bool:
        return not self.fault


class _NoHandler:
    def load(self, frame: Load) -> Loaded | LoadFailed:
        raise AssertionError("the doctor loads nothing")

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        raise AssertionError("the doctor runs nothing")


def serve_nothing(argument: str) -> Callable[[Channel], NoReturn]:
    """The entry of the doctor's workers."""
    return partial(serve, open_database=lambda: 0, handler=_NoHandler())


def examine(mandatory: frozenset[str] = frozenset(), *, with_namespaces: bool = True) -> Diagnosis:
    """Put the wall up and look at it. Takes about a quarter of a second.

    Args:
      mandatory: layers that the deployment declares mandatory beside those that always are.
    """
    settings = Settings(
        entry=f"{__name__}:serve_nothing", mandatory=mandatory, with_namespaces=with_namespaces
    )
    zygote, link = start_zygote(settings)
    try:
        link.settimeout(_PATIENCE_S)
        message = control.decode_from_zygote(link.recv(control.PACKET_BYTES_MAX) or _NOTHING)
        if isinstance(message, control.Failed):
            return _diagnose({}, {}, {}, mandatory, f"the zygote cannot serve: {message.why}")
        frame = _first_frame(link)
        match frame:
            case Ready():
                attempts = {name: _is_stopped(link, name) for name in selftest.ATTEMPTS}
                survived = ", ".join(name for name, is_stopped in attempts.items() if not is_stopped)
                fault = f"not stopped by the kernel: {survived}" if survived else ""
                return _diagnose(frame.layers, frame.notes, attempts, mandatory, fault)
            case Broken(message=text):
                return _diagnose({}, {}, {}, mandatory, text)
            case _:
                return _diagnose({}, {}, {}, mandatory, "a worker did not become ready")
    except TimeoutError:
        return _diagnose({}, {}, {}, mandatory, f"nothing happened for {_PATIENCE_S:g} s")
    finally:
        link.close()
        zygote.wait()


_NOTHING: Final = control.encode(control.Failed(why="it ended without a word"))


def _diagnose(
    in_force: dict[str, bool],
    notes: dict[str, str],
    attempts: dict[str, bool],
    mandatory: frozenset[str],
    fault: str,
) -> Diagnosis:
    layers = tuple(
        LayerState(
            name=name,
            does=does,
            is_mandatory=name in MANDATORY | mandatory,
            is_in_force=in_force.get(name, False),
            why_not="" if in_force.get(name) else notes.get(name, "the worker did not start"),
        )
        for name, does in LAYERS.items()
    )
    return Diagnosis(layers, attempts, fault)


def _spawn(link: socket.socket, attempt: str = "") -> socket.socket:
    ours, its = socket.socketpair()
    with its:
        packet = control.encode(control.Spawn(serial=1, attempt=attempt))
        socket.send_fds(link, [packet], [its.fileno()])
    return ours


def _first_frame(link: socket.socket) -> FromWorker | None:
    """Start a worker, let it say its first frame, and see it off."""
    with _spawn(link) as channel:
        channel.settimeout(_PATIENCE_S)
        with channel.makefile("rb") as reader:
            header = reader.read(LENGTH.size)
            frame = decode_from_worker(reader.read(body_length(header))) if header else None
    _status_of_end(link)
    return frame


def _is_stopped(link: socket.socket, attempt: str) -> bool:
    _spawn(link, attempt).close()
    return selftest.is_refused(_status_of_end(link))


def _status_of_end(link: socket.socket) -> int:
    """Wait until the zygote reports the end of the worker just started."""
    while True:
        if not select.select([link], [], [], _PATIENCE_S)[0]:
            raise TimeoutError
        packet, descriptors, _, _ = socket.recv_fds(link, control.PACKET_BYTES_MAX, 1)
        for descriptor in descriptors:
            os.close(descriptor)
        message = control.decode_from_zygote(packet or _NOTHING)
        if isinstance(message, control.Died):
            return message.status
        if not isinstance(message, control.Spawned):
            return 0
