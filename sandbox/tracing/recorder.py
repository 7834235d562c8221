"""The recorder: the interpreter's hook on a guest that runs, inside its worker.

It is of the host, and no part of the wall: a guest under a debugger is guarded,
metered and confined as ever, and the same code runs. The hook looks, and never
changes anything: it takes no step, charges nothing, draws no chance and calls nothing
of the guest's. A guest cannot tell that it is there, so the run has the same outcome
and the same steps as the one it repeats.

`sys.settrace` and not `sys.monitoring`, because it is there on every version that is
supported, and the cost of it is paid by debugging alone.

Stepping backwards is moving in what was recorded; what is outside of the window is
had by running the call again, which comes to the same stops. The alternative, one
recording of everything, is as large as the longest run anybody may write.

Invariants:

* what is kept is encoded at once and counted, and has a cap; values of the guest are
  not kept alive, but for scalars that a variable held at the stop before;
* the number of a stop depends on the run alone, not on the window;
* whatever fails in here ends the recording, with a word about it, and not the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

import attrs

from sandbox.log_lines import LogLines
from sandbox.meter import Meter
from sandbox.tracing.code_maps import CodeMap, is_users, map_code
from sandbox.tracing.look import SCALARS, look, look_at_exception, name_of
from sandbox.tracing.shape import (
    COSTS_MAX,
    MORE,
    STOP_BYTES_MAX,
    STOPS_MAX,
    VARIABLES_MAX,
    Cost,
    Opened,
    Request,
    Routine,
    Stop,
    StopKind,
    Touch,
    encode_parts,
    encode_row,
    join_rows,
)
from sandbox.tracing.touches import WRITES, Touches, TouchKind, WatchedDatabase
from sandbox.transaction import Database

_ROW_BYTES: Final = 64  # what keeping a row costs beyond its bytes
_FAULT_MAX: Final = 200

Variables = list[tuple[str, str | None]]


@attrs.define(eq=False)
class _Routine:
    """One call of a guest function, for as long as its frame lives. `trace` is the frame's hook."""

    recorder: Recorder
    code: CodeMap
    id: int
    line: int
    shown: dict[str, tuple[Any, str]] = attrs.field(factory=dict)  # name: scalar or None, text
    raised: int = 0  # identity of the exception that was told of last
    is_fresh: bool = False  # entered or resumed, and no line told since
    is_interrupted: bool = False  # by instructions of the compiler's, after which the line goes on
    is_closing: bool = False  # a generator that is thrown away: its end is no event of the program
    is_listed: bool = False

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.recorder.happened(self, frame, event, arg)
        return self.trace


class Recorder:
    """One per traced call.

    Args:
      meter: of the runtime that runs the call; it is read, never charged.
      lines: the log of the call.
    """

    def __init__(self, request: Request, meter: Meter, lines: LogLines) -> None:
        self._request = request
        self._last = min(request.last, request.first + STOPS_MAX - 1)
        self._meter = meter
        self._lines = lines
        self._codes: dict[CodeType, CodeMap] = {}
        self._stack: list[tuple[_Routine, FrameType]] = []
        self._resumed: tuple[_Routine, FrameType, int] | None = None  # not told yet; steps spent by then
        self._quiet = 0  # bodies of modules that are running
        self._routines = 0
        self._booked = 0  # steps, up to the last event
        self._breaks = frozenset(map(tuple, request.lines))
        self._documents = frozenset(request.documents)
        self.total = 0
        self._before = self._after = 0
        self._cut = ""
        self._fault = ""
        self._size = 0
        self._opening: list[bytes] | None = None
        self._listed: list[bytes] = []
        self._stops: list[bytes] = []
        self._touches = Touches(request.text_max)

    def watch(self, database: Database) -> Database:
        return WatchedDatabase(database, self)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what this thread runs in the block."""
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            yield
        finally:
            sys.settrace(before)
            self._stack.clear()
            self._resumed = None

    # ---- the hook ------------------------------------------------------------------

    def _entered(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Called for every function that is entered or resumed, the host's too."""
        code = self._codes.get(frame.f_code)
        if code is None:
            code = self._codes[frame.f_code] = map_code(frame.f_code)
        if code.role == "host" or code.role == "thunk" or self._fault:
            return None
        if code.role == "module" and not self._request.imports:
            self._quiet += 1
            frame.f_trace_lines = False
            return self._module_ended
        if self._quiet:
            return None
        frame.f_trace_lines = code.has_lines
        known = getattr(frame.f_trace, "__self__", None)
        try:
            if isinstance(known, _Routine) and known.recorder is self:
                self._tell_resumed()
                self._push(known, frame)
                self._resumed = (known, frame, self._booked)
                return known.trace
            self._routines += 1
            routine = _Routine(self, code, self._routines, code.line)
            self._tell_resumed()
            self._push(routine, frame)
            code.spent.setdefault(code.line, [0, 0])[0] += 1
            self._stop(routine, frame, "call")
        except Exception as error:
            self._give_up(error)
            return None
        return routine.trace

    def _module_ended(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "return":
            self._quiet -= 1
        return self._module_ended

    def _push(self, routine: _Routine, frame: FrameType) -> None:
        self._book()
        self._stack.append((routine, frame))
        routine.is_fresh = True
        routine.raised = 0

    def _tell_resumed(self) -> None:
        """Tell of a generator that was resumed, now that it turned out not to be for its end."""
        if self._resumed is not None:
            (routine, frame, steps), self._resumed = self._resumed, None
            self._stop(routine, frame, "resume", steps=steps)

    def happened(self, routine: _Routine, frame: FrameType, event: str, arg: Any) -> None:
        if self._fault:
            return
        try:
            if routine.is_closing:
                if event == "return":
                    self._pop(routine)
                return
            if event == "exception" and isinstance(arg[1], GeneratorExit):
                self._resumed = None
                routine.is_closing = True
                return
            self._tell_resumed()
            if event == "line":
                self._line(routine, frame)
            elif event == "return":
                self._ended(routine, frame, arg)
            elif event == "exception":
                self._raised(routine, frame, arg[1])
        except Exception as error:
            self._give_up(error)

    def _line(self, routine: _Routine, frame: FrameType) -> None:
        if routine.code.is_injected(frame.f_lasti):
            routine.is_interrupted = True
            return
        self._book()
        line = frame.f_lineno
        is_known = line == routine.line and (routine.is_fresh or routine.is_interrupted)
        routine.is_fresh = routine.is_interrupted = False
        routine.raised = 0
        if is_known:
            return
        routine.code.spent.setdefault(line, [0, 0])[0] += 1
        routine.line = line
        if self._breaks and (routine.code.file, line) in self._breaks:
            self._found(self.total + 1)
        self._stop(routine, frame, "line")

    def _ended(self, routine: _Routine, frame: FrameType, value: Any) -> None:
        self._book()
        instruction = frame.f_lasti
        if routine.code.pauses(instruction) and not routine.raised:
            kind: StopKind = "yield"
        else:
            kind = "return" if routine.code.returns(instruction) else "leave"
        self._stop(routine, frame, kind, value)
        self._pop(routine)

    def _pop(self, routine: _Routine) -> None:
        while self._stack and self._stack.pop()[0] is not routine:
            pass

    def _raised(self, routine: _Routine, frame: FrameType, error: BaseException) -> None:
        if isinstance(error, StopIteration) and routine.code.pulls(frame.f_lasti):
            return
        if routine.raised == id(error):
            return
        self._book()
        routine.raised = id(error)
        if not routine.code.is_injected(frame.f_lasti):
            routine.line = frame.f_lineno
        self._stop(routine, frame, "raise", error)

    def _give_up(self, error: Exception) -> None:
        """Keep nothing. A recorder that failed once would tell half of what happened."""
        self._fault = f"{type(error).__name__} in the recorder: {error}"[:_FAULT_MAX]
        self._opening, self._listed, self._stops = None, [], []
        self._touches.rows.clear()

    # ---- what is kept --------------------------------------------------------------

    def _book(self) -> None:
        """Book the steps since the last event on the line that was running."""
        used = self._meter.used
        if self._stack and used > self._booked:
            routine = self._stack[-1][0]
            routine.code.spent.setdefault(routine.line, [0, 0])[1] += used - self._booked
        self._booked = used

    def _found(self, stop: int) -> None:
        if stop < self._request.pivot:
            self._before = stop
        elif stop > self._request.pivot and not self._after:
            self._after = stop

    @property
    def _is_recording(self) -> bool:
        return self._request.first <= self.total <= self._last and not self._cut

    def _stop(
        self,
        routine: _Routine,
        frame: FrameType,
        kind: StopKind,
        value: Any = None,
        *,
        steps: int | None = None,
    ) -> None:
        self.total += 1
        if len(self._stack) <= self._request.depth:
            self._found(self.total)
        if not self._is_recording:
            return
        if self._opening is None:
            self._open(kind)
        text: str | None = None
        if kind == "return" or kind == "yield":
            text = look(value, self._request.text_max)
        elif kind == "raise":
            text = look_at_exception(value, self._request.text_max)
        stop = Stop(
            kind=kind,
            routine=routine.id,
            line=routine.line,
            steps=self._booked if steps is None else steps,
            logged=self._lines.count,
            changes=self._changes(routine, frame),
            text=text,
        )
        listed = [] if routine.is_listed else [self._listing(routine)]
        row = encode_row(stop)
        size = len(row) + _ROW_BYTES + sum(len(more) + _ROW_BYTES for more in listed)
        if self._size + size > STOP_BYTES_MAX:
            self._cut = "bytes"
            return
        self._size += size
        routine.is_listed = True
        self._listed += listed
        self._stops.append(row)

    def _open(self, kind: StopKind) -> None:
        """Note what is under way, so that a window in the middle of a run can be read on its own."""
        self._opening = []
        is_entering = kind == "call" or kind == "resume"  # what is on top comes with that stop
        for routine, frame in self._stack[:-1] if is_entering else self._stack:
            variables = self._changes(routine, frame)
            row = encode_row(Opened(routine.id, routine.line, variables))
            if self._size + len(row) > STOP_BYTES_MAX // 2:
                row = encode_row(Opened(routine.id, routine.line, [(MORE, "left out: too much")]))
            listing = self._listing(routine)
            routine.is_listed = True
            self._opening.append(row)
            self._listed.append(listing)
            self._size += len(row) + len(listing) + 2 * _ROW_BYTES

    @staticmethod
    def _listing(routine: _Routine) -> bytes:
        code = routine.code
        return encode_row(Routine(routine.id, code.name, code.file, code.line))

    def _changes(self, routine: _Routine, frame: FrameType) -> Variables:
        """Return the variables whose texts are others than at the last stop of this routine."""
        changes: Variables = []
        shown, text_max = routine.shown, self._request.text_max
        now = frame.f_locals
        mine = [name for name in now if is_users(name)]
        for name in mine[:VARIABLES_MAX]:
            value = now[name]
            known = shown.get(name)
            is_scalar = type(value) in SCALARS
            if known is not None and is_scalar and known[0] is value and value is not None:
                continue
            text = look(value, text_max)
            if known is None or known[1] != text:
                changes.append((name_of(name), text))
            shown[name] = (value if is_scalar else None, text)
        if len(shown) > len(mine) or any(name not in now for name in shown):
            for name in [name for name in shown if name != MORE and name not in now]:
                changes.append((name_of(name), None))
                del shown[name]
        more = f"{len(mine) - VARIABLES_MAX} more variables" if len(mine) > VARIABLES_MAX else ""
        if more and shown.get(MORE, (None, ""))[1] != more:
            changes.append((MORE, more))
            shown[MORE] = (None, more)
        return changes

    # ---- documents -----------------------------------------------------------------

    def named(self, table: str, number: int) -> None:
        self._touches.names[number] = table

    def touched(self, kind: TouchKind, table: str, document_id: str = "", document: object = None) -> None:
        if self._fault:
            return
        try:
            self._touched(kind, table, document_id, document)
        except Exception as error:
            self._give_up(error)

    def _touched(self, kind: TouchKind, table: str, document_id: str, document: object) -> None:
        self._tell_resumed()
        touches = self._touches
        number, name = touches.count(kind, table, document_id)
        if kind in WRITES and self._documents and not self._documents.isdisjoint((document_id, name)):
            self._found(self.total)
        if self.total <= self._last and not self._cut:
            touches.keep(Touch(self.total, kind, number, name, document_id, touches.text(document)))

    # ---- the result ----------------------------------------------------------------

    def pack(self) -> bytes:
        """Return the trace, encoded. Called once, when the run has ended."""
        self._book()
        cut = self._cut or ("window" if self.total > self._last else "")
        return encode_parts(
            {
                "total": self.total,
                "first": self._request.first,
                "cut": cut,
                "fault": self._fault,
                "opening": join_rows(self._opening or []),
                "routines": join_rows(self._listed),
                "stops": join_rows(self._stops),
                "touches": join_rows(list(self._touches.rows)),
                "touches_before": self._touches.before,
                "reads": self._touches.reads,
                "writes": self._touches.writes,
                "costs": self._costs(),
                "found_before": self._before,
                "found_after": self._after,
            }
        )

    def _costs(self) -> list[Cost]:
        sums: dict[tuple[str, int], list[int]] = {}
        for code in self._codes.values():
            for line, (times, steps) in code.spent.items():
                total = sums.setdefault((code.file, line), [0, 0])
                total[0] += times
                total[1] += steps
        costs = [Cost(file, line, times, steps) for (file, line), (times, steps) in sums.items()]
        return sorted(costs, key=lambda cost: (-cost.steps, -cost.times, cost.file, cost.line))[:COSTS_MAX]
