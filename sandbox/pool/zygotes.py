"""A zygote as the pool holds it: ask for workers, hear of their ends, close.

One task reads what the zygote says and hands it on; everybody else waits for
events. Invariant: a process that the zygote reported is either held by whoever
asked for it, or killed, so a cancelled request for a worker leaves none over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

import attrs
import trio

from sandbox import control
from sandbox.launch import Settings, start_zygote
from sandbox.pool.death import PoolFailed
from sandbox.pool.process import WorkerProcess, pid_of

_WARM_S = 60.0
_CLOSE_S = 5.0


@attrs.define(eq=False)
class _Birth:
    """A worker asked for and not yet there."""

    channel: socket.socket
    done: trio.Event = attrs.field(factory=trio.Event)
    process: WorkerProcess | None = None
    why_not: str = ""


@attrs.define(eq=False)
class Zygote:
    settings: Settings
    started: int = attrs.field(default=0, init=False)  # workers asked for
    is_closed: bool = attrs.field(default=False, init=False)
    _child: subprocess.Popen[bytes] = attrs.field(init=False)
    _link: socket.socket = attrs.field(init=False)
    _births: dict[int, _Birth] = attrs.field(factory=dict, init=False)
    _living: dict[int, WorkerProcess] = attrs.field(factory=dict, init=False)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def living(self) -> int:
        """How many workers it has, those being born included."""
        return len(self._living) + len(self._births)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, become warm, and read until the zygote ends or is closed. Raises `PoolFailed` at start."""
        self._child, self._link = start_zygote(self.settings)
        self._link.setblocking(False)
        try:
            with trio.move_on_after(_WARM_S) as warming:
                answer = await self._receive()
            if warming.cancelled_caught:
                raise PoolFailed(f"the zygote was not warm after {_WARM_S:g} s")
            match answer:
                case control.Warm():
                    task_status.started()
                    await self._listen()
                case control.Failed(why=why):
                    raise PoolFailed(f"the zygote cannot serve: {why}")
                case _:
                    raise PoolFailed("the zygote ended before it was warm")
        finally:
            self.is_closed = True
            self._lose_all()
            trio.lowlevel.notify_closing(self._link)
            self._link.close()
            await self._wait_for_end()

    async def spawn(self, attempt: str = "") -> WorkerProcess:
        """Fork a worker. Raises `PoolFailed` when the zygote cannot, or is gone."""
        if self.is_closed:
            raise PoolFailed("the zygote has ended")
        self.started += 1
        serial = self.started
        ours, its = socket.socketpair()
        ours.setblocking(False)
        birth = self._births[serial] = _Birth(ours)
        try:
            with its:
                await self._send(control.encode(control.Spawn(serial=serial, attempt=attempt)), its.fileno())
        except BaseException:
            self._births.pop(serial, None)
            ours.close()
            raise
        try:
            await birth.done.wait()
        except BaseException:
            self._abandon(serial, birth)
            raise
        if birth.process is None:
            raise PoolFailed(f"the zygote cannot fork: {birth.why_not}")
        return birth.process

    def close(self) -> None:
        """End the zygote, and with it all its workers."""
        self.is_closed = True
        for process in self._living.values():
            process.kill()
        self._link.shutdown(socket.SHUT_RDWR)

    def _abandon(self, serial: int, birth: _Birth) -> None:
        """Nobody waits for this worker any more: kill it, now or when it is reported."""
        if birth.process is not None:
            birth.process.kill()
        elif serial not in self._births:
            birth.channel.close()
        else:
            birth.why_not = "abandoned"

    async def _send(self, packet: bytes, descriptor: int) -> None:
        while not self.is_closed:
            try:
                socket.send_fds(self._link, [packet], [descriptor])
            except BlockingIOError:
                pass
            except OSError as error:
                raise PoolFailed(f"the zygote has ended ({error.strerror})") from None
            else:
                return
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_writable(self._link)
        raise PoolFailed("the zygote has ended")

    async def _receive(self) -> control.FromZygote | None:
        """Return the zygote's next message, None when it has ended. Takes charge of a new process."""
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._link, control.PACKET_BYTES_MAX, 1)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._link)
                continue
            except ConnectionResetError:
                return None
            if not packet:
                return None
            message = control.decode_from_zygote(packet)
            if isinstance(message, control.Spawned):
                self._is_born(message.serial, descriptors[0])
            return message

    async def _listen(self) -> None:
        while (message := await self._receive()) is not None:
            match message:
                case control.Died():
                    process = self._living.pop(message.serial)
                    process.has_died(message.status, message.cpu_s)
                case control.NotSpawned():
                    birth = self._births.pop(message.serial)
                    birth.why_not = message.why
                    birth.channel.close()
                    birth.done.set()
                case _:
                    pass

    def _is_born(self, serial: int, descriptor: int) -> None:
        birth = self._births.pop(serial)
        process = WorkerProcess(
            serial, birth.channel, descriptor, pid_of(descriptor), self.settings.budgets.cpu_life_s
        )
        self._living[serial] = process
        if birth.why_not:
            process.kill()
            return
        birth.process = process
        birth.done.set()

    def _lose_all(self) -> None:
        for birth in self._births.values():
            birth.why_not = "it has ended"
            birth.channel.close()
            birth.done.set()
        for process in self._living.values():
            process.has_died(None, process.cpu_s())
        self._births.clear()
        self._living.clear()

    async def _wait_for_end(self) -> None:
        """See the process off, so that none is left when the pool has ended."""
        descriptor = os.pidfd_open(self._child.pid)
        try:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_CLOSE_S) as patience:
                    await trio.lowlevel.wait_readable(descriptor)
                if patience.cancelled_caught:
                    self._child.kill()
                    await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
            self._child.wait()
