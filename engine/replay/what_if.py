"""The recorded calls against other code: what would have been different.

Each call runs on the snapshot it saw then, with its recorded arguments, time and chance; so calls
do not see what the other code would have written before. That is the right question for "does
this change break what people did yesterday?", and each answer stands for itself. Nothing is written.

What counts as a difference: the result, the writes, the error, the log lines. Steps are counted
beside it, because nearly every change of code changes them.

The other code is the *what-if* version. A difference is found by digests alone; the recorded side
of the examples comes from running the recorded code once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import attrs

from engine.backend import BackendFault
from engine.code import CodeVersion
from engine.guest_outcomes import GuestOutcome
from engine.records import digest
from engine.replay.compare import Documents, cut, line_differences, write_differences
from engine.replay.divergence import Difference
from engine.replay.recorded import RecordedCall
from engine.replay.replayer import Replayer, batches, side_by_side
from engine.replay.source import Unreadable
from engine.runner import OUT_OF_RETENTION, Lost
from storage import Timestamp
from tidewell.values import canonical_text, unpack

EXAMPLES_MAX: Final = 3  # of each function

What = Literal["result", "writes", "error", "log lines"]


@attrs.frozen
class Example:
    ts: Timestamp
    args: str
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        differences = [difference.to_json() for difference in self.differences]
        return {"ts": str(self.ts), "args": self.args, "differences": differences}


@attrs.define
class FunctionReport:
    """What would have been different about the calls of one function."""

    calls: int = 0
    differ: int = 0
    what: Counter[What] = attrs.field(factory=Counter)
    cheaper: int = 0  # calls that would have taken fewer steps
    dearer: int = 0
    steps_before: int = 0
    steps_after: int = 0
    examples: list[Example] = attrs.field(factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "differ": self.differ,
            "what": dict(self.what),
            "cheaper": self.cheaper,
            "dearer": self.dearer,
            "stepsBefore": self.steps_before,
            "stepsAfter": self.steps_after,
            "examples": [example.to_json() for example in self.examples],
        }


@attrs.define
class WhatIf:
    functions: dict[str, FunctionReport] = attrs.field(factory=dict)
    unreadable: int = 0

    @property
    def calls(self) -> int:
        return sum(report.calls for report in self.functions.values())

    @property
    def differ(self) -> int:
        return sum(report.differ for report in self.functions.values())

    @property
    def is_clean(self) -> bool:
        return self.differ == 0 and self.unreadable == 0

    def of(self, function: str) -> FunctionReport:
        return self.functions.setdefault(function, FunctionReport())

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "differ": self.differ,
            "unreadable": self.unreadable,
            "functions": {name: report.to_json() for name, report in sorted(self.functions.items())},
        }


async def what_if(
    replayer: Replayer,
    code: CodeVersion,
    calls: Iterable[RecordedCall | Unreadable],
    workers: int,
    on_call: Callable[[Timestamp], None],
) -> WhatIf:
    """Run recorded calls against `code` and say what would have been different.

    Raises:
      BackendFault: no worker could be had.
    """
    found = WhatIf()

    def readable() -> Iterable[RecordedCall]:
        for each in calls:
            if isinstance(each, Unreadable):
                found.unreadable += 1
                on_call(each.ts)
            else:
                yield each

    async def compare_batch(batch: list[RecordedCall]) -> None:
        try:
            guests = await replayer.run([attrs.evolve(each, code=code) for each in batch])
        except BackendFault as fault:
            if fault.code != OUT_OF_RETENTION:
                raise
            if len(batch) > 1:  # a server beside us moves its horizon; others of them may be left
                for each in batch:
                    await compare_batch([each])
            else:
                found.unreadable += 1
            return
        for recorded, guest in zip(batch, guests, strict=True):
            await _compare(replayer, recorded, guest, found)
            on_call(recorded.ts)

    await side_by_side(batches(readable(), of_one_code=False), workers, compare_batch)
    for report in found.functions.values():
        report.examples.sort(key=lambda example: example.ts)
    return found


async def _compare(
    replayer: Replayer, recorded: RecordedCall, guest: GuestOutcome | Lost, found: WhatIf
) -> None:
    record = recorded.record
    report = found.of(record.function)
    report.calls += 1
    what = differing(recorded, guest)
    steps = 0 if isinstance(guest, Lost) else guest.steps
    report.steps_before += record.steps
    report.steps_after += steps
    report.cheaper += steps < record.steps
    report.dearer += steps > record.steps
    if not what:
        return
    report.differ += 1
    report.what.update(what)
    newest = max((example.ts for example in report.examples), default=0)
    if len(report.examples) < EXAMPLES_MAX or recorded.ts < newest:
        # Batches end in any order; the first calls of the log are the ones to tell of.
        report.examples.append(await _example(replayer, recorded, guest, what))
        report.examples.sort(key=lambda example: example.ts)
        del report.examples[EXAMPLES_MAX:]


def differing(recorded: RecordedCall, guest: GuestOutcome | Lost) -> list[What]:
    """Return what a call would have done differently, for its callers and for the documents."""
    if isinstance(guest, Lost):
        return ["error"]
    record, raw = recorded.record, guest.raw
    if guest.failure is not None:
        return ["error"]
    what: list[What] = []
    if digest(raw.value) != record.result:
        what.append("result")
    if digest(raw.writes) != record.writes_digest:
        what.append("writes")
    if raw.log_lines != record.log_lines:
        what.append("log lines")
    return what


async def _example(
    replayer: Replayer, recorded: RecordedCall, guest: GuestOutcome | Lost, what: list[What]
) -> Example:
    args = cut(canonical_text(unpack(recorded.record.args)))
    if isinstance(guest, Lost):
        return Example(recorded.ts, args, (Difference("outcome", "returned", guest.message),))
    [before] = await replayer.run([recorded])
    was = "cannot be told" if isinstance(before, Lost) else _outcome(before)
    differences = []
    if "error" in what or "result" in what:
        differences.append(Difference("outcome" if "error" in what else "result", was, _outcome(guest)))
    if "writes" in what and recorded.entry is not None:
        written = replayer.source.documents(recorded.entry)
        now = Documents.of(guest.writes.stamped(recorded.ts).documents)
        differences += write_differences(written, now)
    if "log lines" in what:
        sides = (recorded.record.log_lines, guest.raw.log_lines)
        differences += line_differences(*sides)
    return Example(recorded.ts, args, tuple(differences))


def _outcome(guest: GuestOutcome) -> str:
    return cut(canonical_text(guest.value) if guest.failure is None else guest.failure.message)
