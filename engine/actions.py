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
from engine.fetches import Fetches, FetchFailed
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
TOGETHER_MAX: Final = 1_000  # calls in one `ctx.parallel`; 17, A1
# Their packed results, which the worker is handed in one piece: a largest body that was fetched, and room.
TOGETHER_BYTES_MAX: Final = 17 * 2**20
_OPERATIONS: Final = frozenset({"fetch", "run_action", "run_mutation", "run_query"})
_PATH_LENGTH_MAX: Final = 1_024
CPU_S: Final = 60.0  # a backstop; fuel ends honest loops first

RunQuery = Callable[[Call], Awaitable[QueryOutcome]]
RunMutation = Callable[[Call, tuple[str, int]], Awaitable[MutationOutcome]]
OnPiece = Callable[[dict[str, Value]], Awaitable[bool]]


@attrs.frozen
class _Asker:
    """The action that asks, and which of its questions it is."""

    call: Call
    execution: str
    number: int
    depth: int

    def key(self, place: int) -> tuple[str, int]:
        """Under which a mutation is recorded (17, A8). No session of a client is named like that."""
        return f"→{self.execution}", self.number * TOGETHER_MAX + place


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
    _fetches: Fetches
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
            asker = _Asker(call, execution, syscall.number, depth)
            if syscall.operation == "parallel":
                return self._reply(syscall, True, await self._together(_arguments(syscall), asker))
            ok, told = await self._answer(syscall.operation, syscall.path, _arguments(syscall), asker)
            return self._reply(syscall, ok, told)

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
            told, ok = await self._files.answer(syscall.path, _arguments(syscall), uploads), True
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"a use of files: {error}") from None
        except (FileRefused, BackendFault, StoreError) as error:
            told = {
                "kind": "Files",
                "message": f"FileStorage: {error}",
                "path": f"ctx.storage {syscall.path}",
            }
            ok = False
        return self._reply(syscall, ok, told)

    async def _stream(self, syscall: frames.Syscall, stream: OnPiece | None) -> frames.SyscallReply:
        try:
            piece = unpack(syscall.args)
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"a piece of a stream: {error}") from None
        if stream is None or type(piece) is not dict:
            raise frames.ProtocolViolation("a stream of what is no HTTP action")
        return self._reply(syscall, await stream(piece), None)

    async def _answer(
        self, operation: str, path: str, args: dict[str, Value], asker: _Asker, place: int = 0
    ) -> tuple[bool, Value]:
        """Do what an action asks for. A failure is an answer too: it is raised inside the action.

        Args:
          place: of the call among those that are made side by side.
        """
        if operation == "fetch":
            return await self._fetch(args)
        caller = asker.call
        call = Call(path, args, caller.identity, caller.request_id, "internal", asker.execution, asker.number)
        outcome: QueryOutcome | MutationOutcome | ActionOutcome
        try:
            match operation:
                case "run_query":
                    outcome = await self._query(call)
                case "run_mutation":
                    outcome = await self._mutate(call, asker.key(place))
                case "run_action":
                    outcome = await self.act(call, asker.depth + 1)
                case _:
                    raise frames.ProtocolViolation(f"{operation!r} asked for by an action")
        except BackendFault as fault:
            outcome = _failed(Failure(f"{fault.message}\n", kind=fault.code))
        if outcome.failure is None:
            return True, outcome.value
        failure = outcome.failure
        told = {"kind": failure.kind, "message": failure.message.rstrip(), "path": call.path}
        if failure.data is not ABSENT:
            told["data"] = failure.data
        return False, object_of(told)

    async def _fetch(self, args: dict[str, Value]) -> tuple[bool, Value]:
        try:
            return True, object_of(await self._fetches.fetch(args))
        except InvalidValue as error:
            raise frames.ProtocolViolation(f"a fetch: {error}") from None
        except FetchFailed as failed:
            return False, _told("Fetch", f"FetchError: {failed}", "ctx.fetch")

    async def _together(self, args: dict[str, Value], asker: _Asker) -> Value:
        """Make the calls of a `ctx.parallel` side by side; of each, whether it succeeded and what it gave.

        Actions among them run one after another: an action that waits for several could take all
        the workers that those wait for.
        """
        calls = _calls_in(args)
        answers: list[dict[str, Value] | None] = [None] * len(calls)
        room = TOGETHER_BYTES_MAX

        async def make(places: list[int], scope: trio.CancelScope) -> None:
            nonlocal room
            for place in places:
                try:
                    ok, told = await self._answer(*calls[place], asker, place)
                except frames.ProtocolViolation as violation:
                    violations.append(violation)
                    scope.cancel()
                    return
                room -= len(pack(told))
                if room < 0:
                    scope.cancel()  # nobody can be told of the rest either
                    return
                answers[place] = object_of({"ok": ok, "value": told})

        violations: list[frames.ProtocolViolation] = []
        actions = [place for place, (operation, _, _) in enumerate(calls) if operation == "run_action"]
        others = [place for place, (operation, _, _) in enumerate(calls) if operation != "run_action"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(make, actions, nursery.cancel_scope)
            for place in others:
                nursery.start_soon(make, [place], nursery.cancel_scope)
        if violations:
            raise violations[0]
        too_large = object_of(
            {
                "ok": False,
                "value": _told(
                    "TooLargeValue", f"results of more than {TOGETHER_BYTES_MAX} bytes", "ctx.parallel"
                ),
            }
        )
        return [too_large if answer is None else answer for answer in answers]

    def _reply(self, syscall: frames.Syscall, ok: bool, told: Value) -> frames.SyscallReply:
        return frames.SyscallReply(
            number=syscall.number, ok=ok, value=pack(told), now_ms=self._clock.now_ms()
        )


def _arguments(syscall: frames.Syscall) -> dict[str, Value]:
    """Read what a worker sent, which may be anything."""
    try:
        args = unpack(syscall.args)
    except InvalidValue as error:
        raise frames.ProtocolViolation(f"arguments of a syscall: {error}") from None
    if type(args) is not dict:
        raise frames.ProtocolViolation("the arguments of a syscall are not an object")
    return args


def _calls_in(args: dict[str, Value]) -> list[tuple[str, str, dict[str, Value]]]:
    calls = args.get("calls")
    if type(calls) is not list or len(calls) > TOGETHER_MAX:
        raise frames.ProtocolViolation("the calls of a parallel are no list, or too many")
    read = []
    for call in calls:
        if type(call) is not dict or call.keys() != {"args", "operation", "path"}:
            raise frames.ProtocolViolation("a call of a parallel has another shape")
        operation, path, values = call["operation"], call["path"], call["args"]
        is_call = type(operation) is str and type(path) is str and type(values) is dict
        if not is_call or operation not in _OPERATIONS or len(path) > _PATH_LENGTH_MAX:
            raise frames.ProtocolViolation("a call of a parallel has another shape")
        read.append((operation, path, values))
    return read


def _told(kind: str, message: str, path: str) -> Value:
    return object_of({"kind": kind, "message": message, "path": path})


def _failed(failure: Failure) -> ActionOutcome:
    return ActionOutcome(None, b"null", (), failure)
