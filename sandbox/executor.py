"""Answers the requests of a worker: loads versions, runs calls.

The composition root gives it the databases; everything else of a call comes with
its frame. `Outcome.error` is the whole text that follows the request line, ready
to be shown: "Uncaught " and frames where an exception escaped, neither where the
call did not reach its function.

Invariants:

* every call runs in fresh namespaces, with its own budget, seed and transaction;
* in a batch, a call sees the writes of the calls before it that succeeded, and of
  no others, unless it comes with a snapshot of its own; each outcome has the read set
  and the write set of its call alone;
* what is read stays in the read set when the call, or a call nested in it, fails;
* a budget that ran out is the outcome of its call, whatever the guest returned.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import attrs
import msgspec

from sandbox import http_actions, limits
from sandbox.analyser import analyse
from sandbox.analysis import encode_analysis
from sandbox.calls import AskEngine, Calls, Unreached
from sandbox.convert import VALUE_BYTES_MAX, take_in
from sandbox.cursors import CursorCodec, InvalidCursor, Journal
from sandbox.execution import Execution, Level
from sandbox.faults import Terminated
from sandbox.file_links import FileLinks
from sandbox.frames import (
    PLACES_BYTES_MAX,
    Call,
    Load,
    Loaded,
    LoadFailed,
    Outcome,
    OutcomeKind,
    Ran,
    Refused,
    Run,
    SourceError,
)
from sandbox.guest import GuestRuntime
from sandbox.loader import App, LoadError, Modules, compile_app, with_analysis
from sandbox.log_lines import LogLines
from sandbox.meter import BLOCK_STEPS, FUEL_DEFAULT
from sandbox.nested import NestedCalls
from sandbox.places import running_line
from sandbox.sdk import EXCEPTIONS, build_module
from sandbox.traces import MESSAGE_MAX, GuestError, describe
from sandbox.tracing.recorder import Recorder
from sandbox.trail import TrackedDatabase, Trail
from sandbox.transaction import CannotServe, Database, NarrowDatabase, OpenDatabase, PlacedDatabase
from tidewell.errors import AppError, InvalidValue, LimitExceeded, TidewellError
from tidewell.values import Value, canonical_text, pack, size_bytes, unpack_trusted

PROFILE_ROWS_MAX: Final = 100
STEPS_SAMPLED_MIN: Final = 16 * BLOCK_STEPS  # below, one sample more or less would name another line
CODE_LENGTH_MAX: Final = 64
PACKING_MAX: Final = 9  # a value has at most this many bytes, by the formula, for each of its packed form

_TERMINATION_CODES: Final = {"fuel": "OutOfFuel", "depth": "CallDepth", "memory": "OutOfMemory"}


class Executor:
    """One per worker; implements `sandbox.worker.RequestHandler`.

    The process has gone through `sandbox.guest.prepare_process` before its first call.

    Args:
      open_database: gives each call its transaction.
      cursor_key: the deployment's key for cursors, at least 16 bytes.
    """

    def __init__(self, open_database: OpenDatabase, *, cursor_key: bytes) -> None:
        self._open_database = open_database
        self._cursors = CursorCodec(cursor_key)
        self._links = FileLinks(cursor_key)
        self._sdk = build_module(http_actions.MEMBERS)
        self._modules: Modules | None = None  # of the call, or the nested call, that is running
        self._runtime = GuestRuntime(import_hook=self._find_module, extra_bases=EXCEPTIONS)
        self._code = ""
        self._app: App | None = None

    def _find_module(self, name: str) -> Any:
        return None if self._modules is None else self._modules.find(name)

    def _use_modules(self, modules: Modules | None) -> Modules | None:
        """Make `modules` the import system; return the one before it."""
        before, self._modules = self._modules, modules
        return before

    # ---- loading -------------------------------------------------------------------

    def load(self, frame: Load) -> Loaded | LoadFailed:
        """Compile a version; with `analyse`, run its import phase too. One that fails replaces nothing."""
        try:
            app = compile_app(frame.modules)
            if frame.analyse:
                self._runtime.reset(seed=frame.seed, now_ms=frame.now_ms)
                app = analyse(app, self._runtime, self._sdk, self._use_modules)
            else:
                app = with_analysis(app, frame.analysis)
        except LoadError as error:
            return LoadFailed(code=frame.code, errors=error.errors)
        except RecursionError:
            message = "the schema or the annotations of functions are nested too deeply"
            deep = SourceError(path="", line=0, column=0, message=message)
            return LoadFailed(code=frame.code, errors=[deep])
        finally:
            self._end()
        self._code, self._app = frame.code, app
        return Loaded(code=frame.code, analysis=encode_analysis(app.analysis))

    def _end(self) -> None:
        """Leave no fuel for what a call has left suspended. Its garbage is the worker's to collect,
        after the reply is sent."""
        self._use_modules(None)
        self._runtime.meter.reset(1)

    # ---- running -------------------------------------------------------------------

    def run(self, frame: Run, syscall: AskEngine) -> Ran | Refused:
        """Run the calls of a frame, one after another."""
        if self._app is None or frame.code != self._code:
            return Refused(reason="unknown_code")
        overlay = list(frame.overlay)
        outcomes: list[Outcome] = []
        try:
            for call in frame.calls:
                outcome = self._run_call(self._app, frame, call, overlay, syscall)
                if outcome.writes and call.begin_ts is None:
                    overlay.append(outcome.writes)
                outcomes.append(outcome)
        except CannotServe as refusal:
            return Refused(reason=refusal.reason)
        finally:
            self._end()
        return Ran(outcomes=outcomes)

    def _run_call(
        self, app: App, frame: Run, call: Call, overlay: list[bytes], syscall: AskEngine
    ) -> Outcome:
        runtime, lines = self._runtime, LogLines()
        database: Database | None = None
        narrow: NarrowDatabase | None = None
        placed: PlacedDatabase | None = None
        if call.kind != "action":
            own_ts = call.begin_ts
            database = opened = (
                self._open_database(frame.begin_ts, frame.txn_id, overlay)
                if own_ts is None
                else self._open_database(own_ts, frame.txn_id, [])
            )
            if frame.places:
                placed = opened
                placed.trace_places(running_line)
        runtime.reset(seed=call.seed, now_ms=call.now_ms, fuel=call.fuel or FUEL_DEFAULT, log=lines.print)
        trail: Trail | None = None
        nested: NestedCalls | None = None
        if call.kind == "mutation" and database is not None:
            trail = Trail(database.usage, lambda: runtime.steps_used, in_words=call.in_words)
            nested = NestedCalls(trail)
            database = TrackedDatabase(database, trail)
        elif call.kind == "query" and call.trace is None:
            narrow = opened
        recorder: Recorder | None = None
        if call.trace is not None:
            recorder = Recorder(call.trace, runtime.meter, lines)
            database = None if database is None else recorder.watch(database)
        in_force = limits.in_force(call.limits)
        failure: _Failure | None = None
        value: Value = None
        journal: str | None = None
        execution: Execution | None = None
        try:
            execution = Execution(
                database=database,
                now_ms=call.now_ms,
                charge=runtime.meter.charge,
                log=lines.add,
                cursors=self._cursors,
                journal=Journal(call.journal),
                schema=app.schema,
                identity=unpack_trusted(call.identity),
                observed=runtime.observed,
                narrow=narrow,
            )
            calls = Calls(
                app,
                runtime,
                self._sdk,
                self._use_modules,
                syscall,
                lines,
                request=unpack_trusted(call.request) if call.request else {},
                environment=_environment_of(call),
                links=self._links,
                nested=nested,
            )
            level = Level(execution, call.kind, call.path, runtime.chance, in_force)
            with nullcontext() if recorder is None else recorder.running():
                value = calls.run_top(level, _arguments_of(call, app), is_internal=call.internal)
            journal = execution.journal.text
            if runtime.ended is not None:
                raise Terminated(runtime.ended.kind, runtime.ended.message)
        except MemoryError:
            raise  # of the host: nothing that would be built from here on could be relied upon
        except (Terminated, Exception) as error:
            failure = self._failure(error, app, production=frame.production)
            # Pages keep their ends over a failure, unless it is these ends that nobody can use.
            journal = None if isinstance(error, InvalidCursor) else call.journal
        if database is not None:
            for warning in in_force.warnings(database.usage):
                lines.add("WARN", warning)
        outcome = self._outcome(value, failure, journal, database, lines)
        # A failure may be about sizes, which are of whole documents.
        if failure is None and execution is not None and execution.narrow is not None:
            reads, fields = execution.narrow.split_reads()
            if fields:
                outcome = msgspec.structs.replace(outcome, reads=reads.pack(), fields=fields.pack())
        if trail is not None and nested is not None:
            outcome = msgspec.structs.replace(
                outcome,
                nested=nested.told(),
                nested_count=nested.count,
                trail=trail.finish(),
                seen=trail.in_words(),
            )
        if placed is not None:
            places = placed.places().pack()
            if len(places) <= PLACES_BYTES_MAX:
                outcome = msgspec.structs.replace(outcome, places=places)
        if recorder is not None:
            outcome = msgspec.structs.replace(outcome, trace=recorder.pack())
        return outcome

    def _outcome(
        self,
        value: Value,
        failure: _Failure | None,
        journal: str | None,
        database: Database | None,
        lines: LogLines,
    ) -> Outcome:
        runtime = self._runtime
        ended = failure is not None and failure.kind in _TERMINATION_CODES
        writes = database.write_set() if failure is None and database is not None else None
        return Outcome(
            kind="value" if failure is None else failure.kind,
            value=pack(value) if failure is None else b"",
            code="" if failure is None else failure.code,
            error="" if failure is None else failure.text,
            error_data=None if failure is None else failure.data,
            log_lines=lines.drain(),
            journal=journal,
            reads=b"" if database is None else database.read_set().pack(),
            writes=writes.pack() if writes else b"",
            observed=sorted(runtime.observed),
            steps=runtime.steps_used,
            counters={} if database is None else limits.used(database.usage),
            profile=runtime.profile()[:PROFILE_ROWS_MAX] if ended else [],
        )

    # ---- failures ------------------------------------------------------------------

    def _failure(self, error: BaseException, app: App, *, production: bool) -> _Failure:
        """Return what the caller is told. Runs nothing of the guest's."""
        if isinstance(error, Unreached):
            return _Failure("function", error.failure_code, f"{error}\n", None)
        described = describe(error, {} if production else app.sources, self._runtime.texts)
        if isinstance(error, AppError):
            return self._application_failure(error, described, production)
        text = described.text(source=not production)
        if isinstance(error, InvalidCursor):
            return _Failure("app_error", error.code, text, pack(error.data))
        if isinstance(error, Terminated):
            described = attrs.evolve(described, message=described.message + self._costliest(error))
            return _Failure(error.kind, _code_of(error), described.text(source=not production), None)
        return _Failure("function", _code_of(error), text, None)

    def _costliest(self, error: Terminated) -> str:
        """Return which line took most steps, if steps ran out and there are samples enough to tell."""
        rows = self._runtime.profile()
        if error.kind != "fuel" or not rows or self._runtime.steps_used < STEPS_SAMPLED_MIN:
            return ""
        file, line, steps = rows[0]
        return f", {steps:,} of them at {file}:{line}"

    def _application_failure(self, error: AppError, described: GuestError, production: bool) -> _Failure:
        """`AppError` shows its data: as it is when that is text, else as JSON (sync-protocol 10.2)."""
        try:
            data = take_in(getattr(error, "data", None), "data", self._runtime.meter.charge)
        except (Terminated, InvalidValue, LimitExceeded) as problem:
            return self._failure_of_data(problem, described, production)
        text = data if type(data) is str else canonical_text(data)
        shown = attrs.evolve(described, message=text[:MESSAGE_MAX])
        return _Failure("app_error", "AppError", shown.text(source=not production), pack(data))

    def _failure_of_data(
        self, problem: Terminated | InvalidValue | LimitExceeded, described: GuestError, production: bool
    ) -> _Failure:
        """The data of an `AppError` is no value or too large, or walking it took the rest of the budget."""
        told = describe(problem, {}, self._runtime.texts)
        shown = attrs.evolve(described, kind=told.kind, message=told.message)
        kind: OutcomeKind = problem.kind if isinstance(problem, Terminated) else "function"
        return _Failure(kind, _code_of(problem), shown.text(source=not production), None)


@attrs.frozen
class _Failure:
    kind: OutcomeKind
    code: str
    text: str
    data: bytes | None


def _arguments_of(call: Call, app: App) -> dict[str, Value]:
    """Return the arguments of a call. Raises `Unreached` when they are too large."""
    args: dict[str, Value] = unpack_trusted(call.args)
    if len(call.args) > VALUE_BYTES_MAX // PACKING_MAX:
        function = app.functions.get(call.path)
        is_http = function is not None and function.spec.is_http
        bytes_max = http_actions.MESSAGE_BYTES_MAX if is_http else VALUE_BYTES_MAX
        if size_bytes(args) > bytes_max:
            raise Unreached("TooLargeValue", f"TooLargeValue: args is larger than {bytes_max} bytes")
    return args


def _environment_of(call: Call) -> dict[str, Value] | None:
    """Return the variables that came with an action; None has queries and mutations read them as rows."""
    if call.kind != "action":
        return None
    variables: dict[str, Value] = unpack_trusted(call.env) if call.env else {}
    return variables


def _code_of(error: BaseException) -> str:
    """Return the code of function-semantics 20, E5; empty for exceptions of the user's own making."""
    if isinstance(error, Terminated):
        return _TERMINATION_CODES[error.kind]
    if isinstance(error, LimitExceeded):
        return error.limit_code
    # A guest may derive a class from one of ours and give it a code of any type.
    code: object = error.code if isinstance(error, TidewellError) else ""
    return code if type(code) is str and len(code) <= CODE_LENGTH_MAX else ""
