"""From settings to a ready worker: the zygote of the moment, and proof that the wall stands.

Asked by the pool. A zygote that has forked enough, or has ended, is followed by
another; the old one ends with its last worker.
"""

from __future__ import annotations

import attrs
import trio

from sandbox.confinement import selftest
from sandbox.frames import Broken, ProtocolViolation, Ready
from sandbox.launch import Settings
from sandbox.pool.death import PoolFailed
from sandbox.pool.lease import Worker
from sandbox.pool.rules import Rules
from sandbox.pool.wire import Closed, Wire
from sandbox.pool.zygotes import Zygote


@attrs.define(eq=False)
class Starter:
    settings: Settings
    rules: Rules
    nursery: trio.Nursery  # where zygotes live
    started: int = attrs.field(default=0, init=False)  # workers that became ready, ever
    zygote: Zygote | None = attrs.field(default=None, init=False)  # None before the first start
    _retiring: list[Zygote] = attrs.field(factory=list, init=False)
    _renewal: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def start(self) -> Worker:
        """Start a worker and return it ready. Raises `PoolFailed`."""
        zygote = await self._warm_zygote()
        process = await zygote.spawn()
        try:
            with trio.move_on_after(self.rules.start_s):
                wire = Wire(process)
                frame = await wire.receive()
                match frame:
                    case Ready():
                        if not process.is_confined():
                            raise PoolFailed("a worker says that it is confined, and the kernel denies it")
                        self.started += 1
                        return Worker(wire, frame.layers, frame.notes, frame.txn_id, self.rules)
                    case Broken(where=where, message=message):
                        raise PoolFailed(f"{where}: {message}")
                    case _:
                        raise PoolFailed(f"a worker began with {type(frame).__name__}")
            raise PoolFailed(f"a worker was not ready after {self.rules.start_s:g} s")
        except Closed:
            raise PoolFailed(f"a worker was lost before it was ready: {await process.lost()}") from None
        except ProtocolViolation as violation:
            process.kill()
            raise PoolFailed(f"a worker began with nonsense: {violation}") from None
        except BaseException:
            process.kill()
            raise

    async def prove_the_wall(self) -> None:
        """Have one sacrificial worker make each attempt. Raises `PoolFailed` if one survives."""
        survivors: list[str] = []

        async def sacrifice(name: str) -> None:
            try:
                process = await (await self._warm_zygote()).spawn(attempt=name)
            except PoolFailed as failure:
                survivors.append(f"{name} ({failure})")
                return
            with trio.move_on_after(self.rules.start_s):
                status = await process.ended()
                if status is None or not selftest.is_refused(status):
                    survivors.append(f"{name} (ended with {status})")
                return
            process.kill()
            survivors.append(f"{name} (did not end)")

        async with trio.open_nursery() as nursery:
            for name in selftest.ATTEMPTS:
                nursery.start_soon(sacrifice, name)
        if survivors:
            raise PoolFailed(f"the sandbox does not hold: not stopped by the kernel: {', '.join(survivors)}")

    def tidy(self) -> None:
        """End zygotes that have been followed by another and have no worker left."""
        for zygote in tuple(self._retiring):
            if not zygote.living:
                zygote.close()
                self._retiring.remove(zygote)

    async def _warm_zygote(self) -> Zygote:
        """Return the zygote to fork from; start one when there is none, or when it has forked enough."""
        async with self._renewal:
            zygote = self.zygote
            if zygote is not None and not zygote.is_closed:
                if zygote.started < self.rules.zygote_starts_max:
                    return zygote
                self._retiring.append(zygote)
            fresh = Zygote(self.settings)
            await self.nursery.start(fresh.run)
            self.zygote = fresh
            return fresh
