"""A call that stops before each of its transactions, so that others can go in between.

Only the order of transactions matters to an app: within one nothing else is seen
(`function-semantics.md` 12.2, T1). A query or a mutation is one transaction. An action
is as many as it asks for, and others may come between any two of them; that is where
races of apps live.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from sandbox.frames import Syscall, SyscallReply
from tidewell.values import Value, unpack

TICK_S: Final = 0.001  # of virtual time that a call or a step takes: documents of two have an order
STEP_S_MAX: Final = 600.0  # of virtual time; what takes longer waits for something that never comes


@attrs.define(eq=False)
class Transaction:
    """One transaction of a call: what is about to run, and what came of it."""

    operation: str  # "query" or "mutation"
    path: str
    args: dict[str, Value]
    value: Value = None
    error: str | None = None
    ts: int | None = None  # of its commit; None if it wrote nothing


class CallEnded(RuntimeError):
    """There is no step left."""


@attrs.define(eq=False)
class Running:
    """A call that `TestServer.start` has begun.

    Attributes:
      done: the transactions that have run.
      next: the one that runs next; None when the call has ended.
    """

    path: str
    args: dict[str, Value]
    _head: Callable[[], int]
    done: list[Transaction] = attrs.field(factory=list)
    next: Transaction | None = None
    is_over: bool = False
    _value: Value = None
    _error: Exception | None = None
    _go: trio.Event = attrs.field(factory=trio.Event)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def step(self) -> Transaction:
        """Run the next transaction, and the call's own code up to the one after it or to its end.

        Raises:
          CallEnded: there is none.
        """
        await self.halted()
        if self.next is None:
            raise CallEnded(f"{self.path} has ended; it ran {len(self.done)} transactions")
        transaction, self.next = self.next, None
        self._go.set()
        self._go = trio.Event()
        await self.halted()
        await trio.sleep(TICK_S)
        return transaction

    async def finish(self) -> Value:
        """Run what is left, without a stop, and return the result. Raises what a direct call raises."""
        while not self.is_over:
            await self.halted()
            if not self.is_over:
                await self.step()
        if self._error is not None:
            raise self._error
        return self._value

    async def halted(self) -> None:
        """Wait until the call has stopped before a transaction, or ended."""
        with trio.move_on_after(STEP_S_MAX):
            while self.next is None and not self.is_over:
                await self._changed.wait()
            return
        raise TimeoutError(f"{self.path} has neither ended nor begun a transaction for {STEP_S_MAX:g} s")

    # ---- the call's side ---------------------------------------------------------------

    async def run(self, call: Callable[[], Awaitable[Value]]) -> None:
        try:
            self._value = await call()
        except Exception as error:  # whatever it is belongs to the one who waits for the result
            self._error = error
        except BaseException:
            self._error = CallEnded(f"the server ended before {self.path} did")
            raise
        finally:
            self.is_over = True
            self._notify()

    async def run_in_one(self, kind: str, call: Callable[[], Awaitable[Value]]) -> Value:
        """Run a query or a mutation: one transaction."""
        transaction = await self._stop_before(kind, self.path, self.args)
        before = self._head()
        try:
            transaction.value = await call()
        except Exception as error:
            transaction.error = str(error)
            raise
        finally:
            self._note(transaction, before)
        return transaction.value

    async def answer(
        self, syscall: Syscall, answer: Callable[[Syscall], Awaitable[SyscallReply]]
    ) -> SyscallReply:
        """Let an action's syscall pass, after a stop if it is a transaction."""
        if syscall.operation == "run_action":
            return await answer(syscall)  # its own transactions come by here
        args: Any = unpack(syscall.args)
        transaction = await self._stop_before(syscall.operation.removeprefix("run_"), syscall.path, args)
        before = self._head()
        reply = await answer(syscall)
        value: Any = unpack(reply.value)
        if reply.ok:
            transaction.value = value
        else:
            transaction.error = value["message"]
        self._note(transaction, before)
        return reply

    async def _stop_before(self, operation: str, path: str, args: dict[str, Value]) -> Transaction:
        transaction = self.next = Transaction(operation, path, args)
        go = self._go
        self._notify()
        await go.wait()
        return transaction

    def _note(self, transaction: Transaction, before: int) -> None:
        after = self._head()
        transaction.ts = after if after != before else None
        self.done.append(transaction)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
