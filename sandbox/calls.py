"""Calling functions: the one at the top, and those that it calls (function-semantics 7.4).

Arguments are validated before the handler starts and results after it. Within a
transaction, a nested call shares the snapshot, the writes, the clock and the
counters; it has its own streams of chance and its own namespaces, and what a
failed one wrote is undone while what it read stays read. An action has no
transaction: its nested calls go to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from sandbox.context import CONTEXTS, Arguments, HttpActionContext, Surroundings
from sandbox.convert import refuse_wide, take_in, take_in_wide
from sandbox.cursors import InvalidCursor
from sandbox.execution import NESTED_DEPTH_MAX, Level
from sandbox.file_links import FileLinks
from sandbox.frames import Kind, Syscall, SyscallReply
from sandbox.guest import GuestRuntime
from sandbox.http_actions import GuestRequest, give_back
from sandbox.later import TOGETHER_BYTES_MAX, Later
from sandbox.loader import App, Function, Modules
from sandbox.log_lines import LogLines
from sandbox.nested import NestedCalls
from sandbox.sdk import Declared, Members
from sandbox.traces import describe
from tidewell.errors import (
    AppError,
    FunctionError,
    InvalidFunctionCall,
    InvalidValue,
    LimitExceeded,
    TidewellError,
    ValidationFailed,
)
from tidewell.http_actions import DIRECT_CALL
from tidewell.validators import Scope, check
from tidewell.values import Value, pack, unpack_trusted

NAME_STEPS: Final = 50  # for a name that is compared with an unknown one
MODULES_COMPARED: Final = 3  # when looking for a name like an unknown one

AskEngine = Callable[[Syscall], SyscallReply]
UseModules = Callable[[Modules | None], Modules | None]

_KINDS: Final[dict[str, Kind]] = {
    "run_query": "query",
    "run_mutation": "mutation",
    "run_action": "action",
}


class Unreached(TidewellError):
    """The call as such is wrong: no such function, arguments or a result that do not fit.

    The text is complete; no exception of the user's code is behind it.
    """

    def __init__(self, failure_code: str, text: str) -> None:
        super().__init__(text)
        self.failure_code = failure_code


class Calls:
    """Everything that one top-level call needs for calling functions."""

    def __init__(
        self,
        app: App,
        runtime: GuestRuntime,
        sdk: Members,
        use_modules: UseModules,
        ask_engine: AskEngine,
        lines: LogLines,
        *,
        request: dict[str, Value],
        environment: dict[str, Value] | None,
        links: FileLinks,
        nested: NestedCalls | None = None,
    ) -> None:
        self._app = app
        self._runtime = runtime
        self._sdk = sdk
        self._use_modules = use_modules
        self._ask_engine = ask_engine
        self._lines = lines
        self._request = request
        self._environment = environment
        self._links = links
        self._nested = nested
        self._syscalls = 0

    def run_top(self, level: Level, args: dict[str, Value], *, is_internal: bool) -> Value:
        """Run the call of a frame.

        Args:
          is_internal: the caller reaches internal functions, and is Python code or
            a tool of the operator, so that a plain int may stand for an int64.
        """
        function = self._find(level.path, level.kind, is_public_only=not is_internal)
        if function.spec.is_http:
            return self._answer_request(level, function, args)
        value = self._call(level, function, Arguments(args), coerces=is_internal)
        if level.execution.database is not None:
            level.execution.charge_bytes()
        return value

    def run_nested(
        self,
        level: Level,
        operation: str,
        path: str,
        args: Arguments,
        wanted: dict[str, int] | None,
    ) -> Value:
        """Run what a handler asked for with `ctx.run_*`, which has checked that its kind may."""
        function = self._find_nested(operation, path)
        if level.kind == "action":
            if wanted is not None:
                raise InvalidFunctionCall("limits= is for calls inside a transaction; an action has none")
            return self._run_by_engine(level, function, operation, args)
        if level.depth >= NESTED_DEPTH_MAX:
            raise FunctionError(path, f"CallDepth: calls are nested deeper than {NESTED_DEPTH_MAX}")
        return self._run_inside(level, function, args, wanted)

    def _find_nested(self, operation: str, path: str) -> Function:
        try:
            function = self._find(path, _KINDS[operation], is_public_only=False)
            if function.spec.is_http:
                raise Unreached("InvalidFunctionCall", f"{path} {DIRECT_CALL}")
        except Unreached as error:
            raise FunctionError(path, str(error)) from None
        return function

    # ---- in the same transaction ---------------------------------------------------

    def _run_inside(
        self, outer: Level, function: Function, args: Arguments, wanted: dict[str, int] | None
    ) -> Value:
        database = outer.database
        tightened = outer.limits if wanted is None else outer.limits.tightened(wanted, database.usage)
        if wanted is not None:
            outer.observe_sizes()
        told = (
            None
            if self._nested is None
            else self._nested.begin(outer.depth + 1, function.spec.path, args.values)
        )
        database.push_savepoint()
        try:
            with self._runtime.nested():
                level = Level(
                    outer.execution,
                    function.spec.kind,
                    function.spec.path,
                    self._runtime.chance,
                    tightened,
                    outer.depth + 1,
                )
                value = self._call(level, function, args, coerces=True)
        except MemoryError:
            raise
        except Exception as error:
            database.rollback_savepoint()
            seen = self._as_seen_by_caller(error, function)
            if self._nested is not None:
                self._nested.fail(told, seen)
            raise seen from None
        database.release_savepoint()
        if self._nested is not None:
            self._nested.end(told, value)
        return value

    def _as_seen_by_caller(self, error: Exception, function: Function) -> Exception:
        """Return the exception to raise: `AppError` with its data, `FunctionError` for everything else.

        An invalid cursor stays what it is, because the client that sent it has to be told.
        """
        if isinstance(error, InvalidCursor):
            return error.with_traceback(None)
        if isinstance(error, AppError):
            try:
                return AppError(take_in(getattr(error, "data", None), "data", self._runtime.meter.charge))
            except (InvalidValue, LimitExceeded) as problem:
                error = problem
        if isinstance(error, Unreached):
            return FunctionError(function.spec.path, str(error))
        described = describe(error, {}, self._runtime.texts)
        text = f"{described.kind}: {described.message}" if described.message else described.kind
        return FunctionError(function.spec.path, text)

    # ---- from an action ------------------------------------------------------------

    def prepare_nested(self, level: Level, operation: str, path: str, args: Arguments) -> Later:
        """Check a call that an action is going to make with others (`ctx.parallel`)."""
        function = self._find_nested(operation, path)
        return Later(operation, path, self._values_for_engine(function, args), lambda value: value)

    def run_together(self, level: Level, calls: list[Later]) -> list[Any]:
        """Have the engine make calls side by side; of each its result, or the exception it ended with."""
        asked: list[Value] = [
            {"args": call._args, "operation": call._operation, "path": call._path} for call in calls
        ]
        packed = pack({"calls": asked})
        if len(packed) > TOGETHER_BYTES_MAX:
            raise LimitExceeded(
                "TooLargeValue",
                f"ctx.parallel takes arguments of at most {TOGETHER_BYTES_MAX} bytes together",
            )
        reply = self._ask("parallel", level.path, packed)
        self._let_time_pass(level, reply)
        answers = unpack_trusted(reply.value)
        return [
            call._take(answer["value"]) if answer["ok"] else _failure(answer["value"])
            for call, answer in zip(calls, answers, strict=True)
        ]

    def _values_for_engine(self, function: Function, args: Arguments) -> dict[str, Value]:
        try:  # what Python means by an int is decided here; the callee checks the rest again
            return self._checked_arguments(function, args, Scope(spend=self._runtime.meter.charge))
        except Unreached as error:
            raise FunctionError(function.spec.path, str(error)) from None

    def _run_by_engine(self, level: Level, function: Function, operation: Any, args: Arguments) -> Value:
        reply = self._syscall(operation, function.spec.path, self._values_for_engine(function, args))
        self._let_time_pass(level, reply)
        return self._taken(reply)

    def _let_time_pass(self, level: Level, reply: SyscallReply) -> None:
        level.execution.now_ms = self._runtime.now_ms = max(reply.now_ms, self._runtime.now_ms)

    def _ask_files(self, operation: str, args: dict[str, Value]) -> Value:
        return self._taken(self._syscall("files", operation, args))

    def _taken(self, reply: SyscallReply) -> Value:
        """Return what the engine answered, or raise what it says went wrong."""
        answer = unpack_trusted(reply.value)
        if reply.ok:
            return answer
        raise _failure(answer)

    def _syscall(self, operation: Any, path: str, args: dict[str, Value]) -> SyscallReply:
        return self._ask(operation, path, pack(args))

    def _ask(self, operation: Any, path: str, packed_args: bytes) -> SyscallReply:
        self._syscalls += 1
        return self._ask_engine(
            Syscall(
                number=self._syscalls,
                operation=operation,
                path=path,
                args=packed_args,
                log_lines=self._lines.drain(),
            )
        )

    # ---- for a request ---------------------------------------------------------------

    def _answer_request(self, level: Level, function: Function, message: dict[str, Value]) -> Value:
        """Run an HTTP action on the request that the engine has read."""
        modules = Modules(self._app, self._runtime, self._sdk)
        before = self._use_modules(modules)
        try:
            declared = self._declared(modules, function)
            refused = message.get("refused")
            context = HttpActionContext(level, self._surroundings(function), refused)
            result = self._runtime.call(declared._handler, context, GuestRequest(self._runtime, message))
            return give_back(result, self._runtime, lambda piece: self._send_piece(function, piece))
        finally:
            self._use_modules(before)

    def _send_piece(self, function: Function, piece: dict[str, Value]) -> None:
        reply = self._syscall("stream", function.spec.path, piece)
        if not reply.ok:
            raise FunctionError(function.spec.path, "the client has gone")

    # ---- one call ------------------------------------------------------------------

    def _find(self, path: str, kind: Kind, *, is_public_only: bool) -> Function:
        function = self._app.functions.get(path)
        if function is None or (is_public_only and function.spec.visibility == "internal"):
            raise Unreached("InvalidFunctionCall", self._unknown_text(path, is_public_only))
        if function.spec.kind != kind:
            raise Unreached(
                "InvalidFunctionCall",
                f"Trying to execute {path} as {kind.capitalize()}, but it is defined as "
                f"{function.spec.kind.capitalize()}.",
            )
        return function

    def _unknown_text(self, path: str, is_public_only: bool) -> str:
        self._runtime.meter.charge(len(path) + NAME_STEPS * len(self._app.functions))
        close = self._nearest(path, is_public_only)
        hint = f" Did you mean '{close}'?" if close else ""
        return f"Could not find {'public ' if is_public_only else ''}function for '{path}'.{hint}"

    def _nearest(self, path: str, is_public_only: bool) -> str | None:
        """Return the known path that differs least, module and function each by a little."""
        module, _, name = path.rpartition(":")
        names: dict[str, list[str]] = {}
        for function in self._app.functions.values():
            if not is_public_only or function.spec.visibility == "public":
                names.setdefault(function.spec.module, []).append(function.spec.name)
        for near_module in get_close_matches(module, names, n=MODULES_COMPARED):
            for near_name in get_close_matches(name, names[near_module], n=1):
                return f"{near_module}:{near_name}"
        return None

    def _checked_arguments(self, function: Function, args: Arguments, scope: Scope) -> dict[str, Value]:
        try:
            values: dict[str, Value] = args.values
            if function.arguments is not None:
                values = check(function.arguments, values, "args", scope)
            if args.has_wide:
                refuse_wide(values, "args")
        except (ValidationFailed, InvalidValue) as error:
            raise Unreached("ArgumentValidation", f"ArgumentValidationError: {error}") from None
        return values

    def _call(self, level: Level, function: Function, args: Arguments, *, coerces: bool) -> Value:
        database = level.execution.database
        table_number = None if database is None else database.table_number
        values = self._checked_arguments(
            function, args, Scope(table_number, coerces, self._runtime.meter.charge)
        )
        charge = self._runtime.meter.charge
        modules = Modules(self._app, self._runtime, self._sdk)
        before = self._use_modules(modules)
        try:
            result = self._enter(level, function, values, modules)
            try:
                value, has_wide = take_in_wide(result, "returns", charge)
                if function.returns is not None:
                    value = check(function.returns, value, "returns", Scope(table_number, spend=charge))
                if has_wide:
                    refuse_wide(value, "returns")
            except (ValidationFailed, InvalidValue) as error:
                raise Unreached("ReturnValidation", f"ReturnsValidationError: {error}") from None
        finally:
            self._use_modules(before)
        return value

    def _enter(self, level: Level, function: Function, args: dict[str, Value], modules: Modules) -> Any:
        declared = self._declared(modules, function)
        context = CONTEXTS[level.kind](level, self._surroundings(function))
        if function.arguments is None:
            return self._runtime.call(declared._handler, context, args)
        renamed = function.spec.renamed
        keywords = {renamed.get(name, name): value for name, value in args.items()}
        return self._runtime.call(declared._handler, context, **keywords)

    def _declared(self, modules: Modules, function: Function) -> Declared:
        declared = modules.namespace(function.module).get(function.spec.handler)
        if not isinstance(declared, Declared):
            # The module's body declares it depending on something that differs between calls.
            raise Unreached("InvalidFunctionCall", f"Could not find function for '{function.spec.path}'.")
        return declared

    def _surroundings(self, function: Function) -> Surroundings:
        return Surroundings(
            runtime=self._runtime,
            run_nested=self.run_nested,
            prepare_nested=self.prepare_nested,
            run_together=self.run_together,
            request=self._request,
            environment=self._environment,
            file=function.spec.file,
            line=function.spec.line,
            links=self._links,
            ask_files=self._ask_files,
        )


def _failure(told: dict[str, Any]) -> AppError | FunctionError:
    """Return the exception for what the engine says went wrong."""
    if "data" in told:
        return AppError(told["data"])
    return FunctionError(told["path"], told["message"].partition("\n")[0].removeprefix("Uncaught "))
