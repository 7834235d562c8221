"""The zygote: a small process with everything imported and built, which forks workers on demand.

It is started by the engine with an environment of its own, before it serves a
tenant: it holds no secret, opens no database and reads nothing but its control
socket. Being single-threaded it can fork at any time; being warm it does so in
about a millisecond. Where it may, it enters new namespaces first and becomes
the first process of its process namespace, so that no worker can outlive it.

It ends when the control socket closes. The pool replaces it from time to time,
because the workers of one zygote share its address layout and its hash seed.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

import attrs

from sandbox import control
from sandbox.confinement import layers, namespaces, process
from sandbox.confinement.limits import Budgets
from sandbox.confinement.system import set_time_zone_in_libc
from sandbox.worker import STATUS_BROKEN, Channel

Serve = Callable[[Channel], None]  # what a worker does with its life
Entry = Callable[[str], Serve]

# What the interpreter and the standard library import when they first need it, which in a worker is too late.
_CODECS: Final = ("utf-8", "ascii", "latin-1", "unicode_escape", "raw_unicode_escape", "utf-8-sig")
_MODULES: Final = ("_strptime", "unicodedata", "linecache", "tokenize", "traceback", "bisect", "decimal")

# The kernel, short of memory, takes a worker before it takes the engine.
_OOM_SCORE_ADJUSTMENT: Final = 500


@attrs.define
class _Zygote:
    link: socket.socket
    serve: Serve
    plan: layers.Plan
    _children: dict[int, tuple[int, int]] = attrs.field(factory=dict, init=False)  # pidfd: (pid, serial)

    def run(self) -> None:
        """Fork and reap until the engine closes the control socket."""
        poll = select.poll()
        poll.register(self.link, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor in self._children:
                    poll.unregister(descriptor)
                    self._reap(descriptor)
                    continue
                packet, descriptors, _, _ = socket.recv_fds(self.link, control.PACKET_BYTES_MAX, 1)
                if not packet:
                    return
                message = control.decode_to_zygote(packet)
                assert isinstance(message, control.Spawn), message
                child = self._fork(message, descriptors[0])
                os.close(descriptors[0])
                if child is not None:
                    poll.register(child, select.POLLIN)

    def _fork(self, message: control.Spawn, channel: int) -> int | None:
        """Fork a worker and return a descriptor of its process."""
        try:
            pid = os.fork()
        except OSError as error:
            self._send(control.NotSpawned(serial=message.serial, why=str(error)))
            return None
        if pid == 0:
            self._become_worker(Channel(channel, self.plan, message.attempt))
        child = os.pidfd_open(pid)
        self._children[child] = (pid, message.serial)
        packet = control.encode(control.Spawned(serial=message.serial))
        socket.send_fds(self.link, [packet], [child])
        return child

    def _become_worker(self, channel: Channel) -> NoReturn:
        try:
            self.serve(channel)
        finally:
            os._exit(STATUS_BROKEN)

    def _reap(self, child: int) -> None:
        pid, serial = self._children.pop(child)
        os.close(child)
        _, status, usage = os.wait4(pid, 0)
        self._send(control.Died(serial=serial, status=status, cpu_s=usage.ru_utime + usage.ru_stime))

    def _send(self, message: control.FromZygote) -> None:
        self.link.send(control.encode(message))


def main(engine: int) -> NoReturn:
    """Run as a zygote of the process `engine`, with the control socket as standard input."""
    try:
        process.die_with_parent(engine)
        link = socket.socket(fileno=0)
        packet = link.recv(control.PACKET_BYTES_MAX)
        if packet:
            begin = control.decode_to_zygote(packet)
            assert isinstance(begin, control.Begin), begin
            _run(link, begin, engine)
    except (process.Orphaned, BrokenPipeError, ConnectionResetError):
        pass  # the engine is gone; there is nobody to tell
    os._exit(0)


def _run(link: socket.socket, begin: control.Begin, engine: int) -> None:
    _forget_environment()
    entered = namespaces.enter() if begin.with_namespaces else namespaces.Entered()
    namespaces.drop_bounding_set()
    process.die_with_parent(engine)  # once more: new credentials may have cleared it
    if "pid" in entered.spaces:
        _fork_into_namespace(link)
    try:
        serve = _load(begin.entry)(begin.argument)
    except (ImportError, AttributeError) as error:
        link.send(control.encode(control.Failed(why=f"{begin.entry}: {error}")))
        return
    plan = layers.Plan(
        parent=os.getpid(),
        budgets=Budgets(memory_bytes=begin.memory_bytes, cpu_life_s=begin.cpu_life_s),
        entered=entered,
        mandatory=layers.MANDATORY | frozenset(begin.mandatory),
    )
    gc.collect()
    gc.freeze()
    gc.disable()
    link.send(control.encode(control.Warm()))
    _Zygote(link, serve, plan).run()


def _forget_environment() -> None:
    """Empty the environment and set the signals as a fresh program finds them."""
    os.environ.clear()
    set_time_zone_in_libc(b"UTC")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.argv[:] = []
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(_OOM_SCORE_ADJUSTMENT))


def _fork_into_namespace(link: socket.socket) -> None:
    """Go on as the first process of the new process namespace.

    The process that was there stays to wait: the engine has started it, and its
    end kills everything inside.
    """
    pid = os.fork()
    if pid == 0:
        process.die_with_parent(0)  # a parent outside the namespace has no number inside
        return
    link.close()
    os.waitpid(pid, 0)
    os._exit(0)


def _load(entry: str) -> Entry:
    """Import everything that workers need, and return what builds the rest of it."""
    for name in _CODECS:
        codecs.lookup(name)
    for name in _MODULES:
        importlib.import_module(name)
    module, _, name = entry.partition(":")
    found: Any = getattr(importlib.import_module(module), name)
    loaded: Entry = found
    return loaded
