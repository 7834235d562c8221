"""How commits, documents and differences read on a terminal, as styled text without a terminal.

A line is a list of (text, style) pieces; `terminal.py`-like callers paint them. Everything that
comes from users goes through `readable` or `printable` first, so that no document can steer the
terminal that shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine.attempts import Attempt
from engine.history import Change, Committed, Difference, Operation, caller_of, differences
from engine.moments import write_moment
from tidewell.values import MISSING, Int64, Value, canonical_text, unpack_trusted

Piece = tuple[str, str]
Line = list[Piece]

WIDTH: Final = 100  # of a value on a line of its own
_SIGNS: Final[dict[Operation, Piece]] = {
    "insert": ("+", "green"),
    "update": ("~", "yellow"),
    "delete": ("-", "red"),
}


def printable(text: str) -> str:
    """Return `text` without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def readable(value: Value, width: int = WIDTH) -> str:
    """Return a value as a person reads it, cut to `width`."""
    text = printable(_text(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _text(value: Value) -> str:
    if value is MISSING:
        return "missing"
    if type(value) is Int64:
        return f"Int64({int(value)})"
    if type(value) is bytes:
        return f"{len(value)} bytes {value[:16].hex()}{'…' if len(value) > 16 else ''}"
    if type(value) is list:
        return f"[{', '.join(map(_text, value))}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) + "}"
    return canonical_text(value)


# ---- the log -----------------------------------------------------------------------------

_HEADER: Final = f"{'time (UTC)':<19}  {'function':<28}  {'caller':<24}  {'took':>8}  {'steps':>7}  "
LOG_HEADER: Final[Line] = [(f"{'commit':<19}  {_HEADER}documents  attempts", "bold")]
FAILED_HEADER: Final[Line] = [(f"{'execution':<19}  {_HEADER}why it was not committed", "bold")]


def log_line(commit: Committed) -> Line:
    record = commit.record
    line: Line = [(f"{commit.ts:<19}  ", "cyan"), (f"{write_moment(commit.ts)[:19]}  ", "dim")]
    if record is None:
        line.append((f"{title(commit):<54}  {'':>8}  {'':>7}  ", "dim"))
    else:
        line.append((f"{printable(record.function):<28}  ", "bold"))
        line.append((f"{_cut(printable(commit.caller), 24):<24}  ", ""))
        line.append((f"{took(record.duration_us):>8}  {record.steps:>7,}  ", "dim"))
    written = counted(commit)
    line += written
    if record is not None and record.attempt:
        line.append(
            (f"{'':{max(1, 11 - sum(len(text) for text, _ in written))}}{record.attempt + 1}", "magenta")
        )
    return line


def attempt_line(attempt: Attempt) -> Line:
    """Return an attempt that was not committed on a line, like those of the log."""
    record = attempt.record
    why = f"overtaken by commit {attempt.conflict_ts}" if attempt.conflict_ts else first_line(attempt.message)
    return [
        (f"{record.execution[:12]:<19}  ", "cyan"),
        (f"{write_moment(attempt.at_ns)[:19]}  ", "dim"),
        (f"{printable(record.function):<28}  ", "bold"),
        (f"{_cut(printable(caller_of(record)), 24):<24}  ", ""),
        (f"{took(record.duration_us):>8}  {record.steps:>7,}  ", "dim"),
        (f"{attempt.reason}: {why}", "red"),
    ]


def attempt_lines(attempt: Attempt) -> list[Line]:
    """Return an attempt that was not committed in full."""
    record = attempt.record
    lines: list[Line] = [
        [
            ("execution ", ""),
            (record.execution, "cyan bold"),
            (f"  {write_moment(attempt.at_ns)} UTC", "dim"),
        ],
        _fact("function", printable(record.function)),
        _fact("caller", printable(caller_of(record))),
        _fact("took", f"{took(record.duration_us)}, {record.steps:,} steps, attempt {record.attempt + 1}"),
        _fact("ran on", f"the snapshot at {record.begin_ts}"),
        _fact("code", f"version {record.code[:12]}"),
    ]
    lines += _section("arguments")
    lines += _fields(unpack_trusted(record.args))
    lines += _section("not committed")
    told = f"overtaken by commit {attempt.conflict_ts}" if attempt.conflict_ts else attempt.message.rstrip()
    lines += [[(f"  {printable(text)}", "red")] for text in told.splitlines()]
    if record.log_lines:
        lines += _section("log")
        lines += [[(f"  {printable(text)}", "")] for text in record.log_lines]
    return lines


def first_line(message: str) -> str:
    return printable(message.strip().partition("\n")[0].removeprefix("Uncaught "))


def title(commit: Committed) -> str:
    """Return what a commit that is no call did."""
    if commit.kind == "push":
        assert commit.entry.catalog is not None
        return f"push of version {str(commit.entry.catalog.schema)[:12]}"
    if commit.kind == "edit":
        return "edited by hand, or imported"
    return "the engine's own" if commit.entry.writes or commit.entry.catalog else "housekeeping"


def took(duration_us: int) -> str:
    return f"{duration_us / 1000:,.1f} ms"


def many(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 document" or "2,000 documents"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted(commit: Committed) -> Line:
    pieces: Line = []
    for operation, count in commit.counts().items():
        if count:
            sign, style = _SIGNS[operation]
            pieces += [(" ", "")] if pieces else []
            pieces.append((f"{sign}{count}", style))
    return pieces or [("none", "dim")]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# ---- documents ---------------------------------------------------------------------------


def change_lines(change: Change, indent: str = "  ") -> list[Line]:
    """Return a document's head and what differs in it."""
    sign, style = _SIGNS[change.operation]
    words = {"insert": "new", "update": "changed", "delete": "deleted"}[change.operation]
    head: Line = [(f"{indent}{sign} ", style), (printable(change.table), "bold"), (f" {change.id} ", "")]
    return [[*head, (f"({words})", "dim")], *difference_lines(change_differences(change), f"{indent}    ")]


def change_differences(change: Change) -> list[Difference]:
    """Return what a change did to the fields of its document; its id is in the head already."""
    found = differences(change.before or {}, change.after or {})
    return [each for each in found if each.path not in ("_id", "_creationTime")]


def difference_lines(found: Iterable[Difference], indent: str) -> list[Line]:
    lines: list[Line] = []
    for each in found:
        if each.before is not MISSING:
            lines.append([(f"{indent}- {printable(each.path)}: {readable(each.before)}", "red")])
        if each.after is not MISSING:
            lines.append([(f"{indent}+ {printable(each.path)}: {readable(each.after)}", "green")])
    return lines


# ---- one commit --------------------------------------------------------------------------


def commit_lines(commit: Committed, changes: Sequence[Change]) -> list[Line]:
    """Return a commit in full."""
    head: Line = [("commit ", ""), (str(commit.ts), "cyan bold"), (f"  {write_moment(commit.ts)} UTC", "dim")]
    lines = [head]
    record = commit.record
    if record is None:
        lines.append(_fact("what", title(commit)))
    else:
        attempts = (
            "1 attempt" if not record.attempt else f"{record.attempt + 1} attempts, the last was committed"
        )
        documents, size = record.counters.get("documents_read", 0), record.counters.get("bytes_read", 0)
        read = f"{many(documents, 'document')}, {many(size, 'byte')}"
        lines += [
            _fact("function", printable(record.function)),
            _fact("caller", printable(commit.caller)),
            _fact("took", f"{took(record.duration_us)}, {record.steps:,} steps, {attempts}"),
            _fact("read", f"{read}, of the snapshot at {record.begin_ts}"),
            _fact("execution", f"{record.execution}, request {record.request}"),
            _fact("code", f"version {record.code[:12]}"),
        ]
        if record.parent:
            lines.append(_fact("called by", f"call {record.parent_call} of the action {record.parent}"))
        if record.observed:
            lines.append(_fact("looked at", ", ".join(map(printable, record.observed))))
        lines += _section("arguments")
        lines += _fields(commit.args)
        if commit.identity is not None:
            lines += _section("identity")
            lines += _fields(commit.identity)
    lines += _section("documents")
    if not changes:
        lines.append([("  none", "dim")])
    for change in changes:
        lines += change_lines(change)
    if record is not None and record.nested:
        lines += _section("calls")
        for call in record.nested:
            ended = f"  {printable(call.error)}" if call.error else ""
            lines.append([(f"  {'  ' * (call.depth - 2)}{printable(call.path)}", ""), (ended, "red")])
    if record is not None and record.log_lines:
        lines += _section("log")
        lines += [[(f"  {printable(text)}", "")] for text in record.log_lines]
    return lines


def _fact(name: str, text: str) -> Line:
    return [(f"  {name:<11}", "dim"), (text, "")]


def _section(name: str) -> list[Line]:
    return [[(name, "bold")]]


def _fields(fields: dict[str, Value]) -> list[Line]:
    if not fields:
        return [[("  none", "dim")]]
    return [
        [(f"  {printable(name)}", ""), (" = ", "dim"), (readable(item), "")] for name, item in fields.items()
    ]
