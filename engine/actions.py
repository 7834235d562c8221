"""Actions: functions that may take long, run in workers of their own, in no transaction.

What an action asks of the engine (a query, a mutation, another action) arrives as a
syscall in the middle of its run and is answered like any caller's request, with the
action's identity. Nothing is retried: an action whose worker is lost is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs
import trio

from engine.backend import ABSENT, ActionOutcome, BackendFault, Call, Failure, MutationOutcome, QueryOutcome
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.failures import unknown_function
from engine.files import FileRefused, Files, Uploads
from engine.guest_outcomes import GuestOutcome, may_call_internal, pack_claims
from engine.query_lanes import NOT_READY
from engine.runner import Lost, OnExecution, OnSyscall, Runner
from sandbox import frames
from storage import StoreError
from tidewell.errors import InvalidValue
from tidewell.values import Value, object_of, pack, unpack

ACTIONS_MAX: Final = 64  # running at once, function-semantics 19.3
DEPTH_MAX: Final = 8  # actions that call actions, function-semantics 19.2
WALL_S: Final = 600.0  # 17, A6
CPU_S: Final = 60.0  # a backstop; fuel ends honest loops first

RunQuery = Callable[[Call], Awaitable[QueryOutcome]]
RunMutation = Callable[[Call], Awaitable[MutationOutcome]]
OnPiece = Callable[[dict[str, Value]], Awaitable[bool]]


@attrs.define(eq=False)
class Actions:
    _runner: Runner
    _clock: Clock
    _chance: Chance
    _code: Callable[[], CodeVersion | None]
    _query: RunQuery
    _mutate: RunMutation
    _on_execution: OnExecution
    _environment: Callable[[], Mapping[str, str]]
    _files: Files
    _slots: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(ACTIONS_MAX), init=False)

    async def act(self, call: Call, depth: int = 1, stream: OnPiece | None = None) -> ActionOutcome:
        """Run an action to its end. Cancelling the caller ends the action's worker.

        Args:
          stream: takes the pieces of an HTTP action's answer; False when nobody wants them any more.
        """
        code = self._code()
        spec = None if code is None else code.functions.get(call.path)
        if spec is not None and spec.is_http and call.origin != "request":
            return _failed(unknown_function(call.path))
        if code is None:
            return _failed(Failure(NOT_READY.format(path=call.path) + "\n", kind="InvalidFunctionCall"))
        if depth > DEPTH_MAX:
            return _failed(
                Failure(f"Uncaught FunctionError: actions nested deeper than {DEPTH_MAX}\n", kind="CallDepth")
            )

        execution = self._chance.token(16).hex()
        uploads = Uploads()

        async def answer(syscall: frames.Syscall) -> frames.SyscallReply:
            if syscall.operation == "stream":
                return await self._stream(syscall, stream)
            if syscall.operation == "files":
                return await self._use_files(syscall, uploads)
            return await self._answer(syscall, call, execution, depth)

        try:
            return await self._act(code, call, execution, answer, depth)
        finally:
            uploads.abandon()

    async def _act(
        self, code: CodeVersion, call: Call, execution: str, answer: OnSyscall, depth: int
    ) -> ActionOutcome:
        started = self._clock.monotonic()
        # A nested action holds its caller's slot too, so it takes none: waiting for one could wait for ever.
        if depth == 1:
            async with self._slots:
                [result] = await self._run(code, call, execution, answer)
        else:
            [result] = await self._run(code, call, execution, answer)
        self._on_execution(call, "action", result, self._clock.monotonic() - started)
        if isinstance(result, Lost):
            return _failed(Failure(f"{result.message}\n", kind=result.code))
        return result.as_action()

    async def _run(
        self, code: CodeVersion, call: Call, execution: str, answer: OnSyscall
    ) -> list[GuestOutcome | Lost]:
        frame = frames.Call(
            execution=execution,
            kind="action",
            path=call.path,
            args=pack(call.args),
            identity=pack_claims(call.identity),
            seed=self._chance.token(32),
            now_ms=self._clock.now_ms(),
            internal=may_call_internal(call),
            request=pack({"requestId": call.request_id}),
            env=pack(object_of(self._environment())),
        )
        return await self._runner.run(
            code, [frame], begin_ts=0, cpu_s=CPU_S, wall_s=WALL_S, on_syscall=answer
        )

    async def _use_files(self, syscall: frames.Syscall, uploads: Uploads) -> frames.SyscallReply:
        """Do what an action asks of `ctx.storage`."""
        told: Value
        try:
            args = unpack(syscall.args)
            if type(args) is not dict:
                raise InvalidValue("args", "is not an object")
            told, ok = await self._files.answer(syscall.path, args, uploads), True
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"a use of files: {error}") from None
        except (FileRefused, BackendFault, StoreError) as error:
            told = {
                "kind": "Files",
                "message": f"FileStorage: {error}",
                "path": f"ctx.storage {syscall.path}",
            }
            ok = False
        return frames.SyscallReply(
            number=syscall.number, ok=ok, value=pack(told), now_ms=self._clock.now_ms()
        )

    async def _stream(self, syscall: frames.Syscall, stream: OnPiece | None) -> frames.SyscallReply:
        try:
            piece = unpack(syscall.args)
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"a piece of a stream: {error}") from None
        if stream is None or type(piece) is not dict:
            raise frames.ProtocolViolation("a stream of what is no HTTP action")
        is_wanted = await stream(piece)
        return frames.SyscallReply(
            number=syscall.number, ok=is_wanted, value=pack(None), now_ms=self._clock.now_ms()
        )

    async def _answer(
        self, syscall: frames.Syscall, caller: Call, execution: str, depth: int
    ) -> frames.SyscallReply:
        """Do what an action asks for. A failure is an answer too: it is raised inside the action."""
        try:
            args = unpack(syscall.args)
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"arguments of a syscall: {error}") from None
        if type(args) is not dict:
            raise frames.ProtocolViolation("the arguments of a syscall are not an object")
        call = Call(
            syscall.path, args, caller.identity, caller.request_id, "internal", execution, syscall.number
        )
        outcome: QueryOutcome | MutationOutcome | ActionOutcome
        try:
            match syscall.operation:
                case "run_query":
                    outcome = await self._query(call)
                case "run_mutation":
                    outcome = await self._mutate(call)
                case "run_action":
                    outcome = await self.act(call, depth + 1)
        except BackendFault as fault:
            outcome = _failed(Failure(f"{fault.message}\n", kind=fault.code))
        if outcome.failure is None:
            return frames.SyscallReply(
                number=syscall.number, ok=True, value=pack(outcome.value), now_ms=self._clock.now_ms()
            )
        failure = outcome.failure
        told = {"kind": failure.kind, "message": failure.message.rstrip(), "path": call.path}
        if failure.data is not ABSENT:
            told["data"] = failure.data
        return frames.SyscallReply(
            number=syscall.number, ok=False, value=pack(object_of(told)), now_ms=self._clock.now_ms()
        )


def _failed(failure: Failure) -> ActionOutcome:
    return ActionOutcome(None, b"null", (), failure)
