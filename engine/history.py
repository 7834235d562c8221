"""What a deployment's log says, put together for people: commits, what they changed, who asked.

Reads a data folder through `SharedStore`, so it works beside a running server, on a
stopped deployment and on a backup. Every commit is one of four: the *call* of a mutation,
a *push* of code, an *edit* of documents by a person's hand or an import, or the *engine*'s own
(the rows of `_conflicts`, say).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import attrs
import msgspec

from engine.attempts import Attempt, read_attempts
from engine.kept_claims import KnownClaims
from engine.records import Record, unpack_record
from storage import Catalog, LogEntry, SharedStore, StoreError, Timestamp
from tidewell.errors import InvalidId
from tidewell.ids import USER_TABLE_FIRST, decode_id
from tidewell.values import MISSING, Value, unpack_trusted

EXECUTION_DIGITS: Final = 32
EXECUTION_DIGITS_MIN: Final = 6  # of a prefix that stands for an execution
LATEST: Final = "latest"

Kind = Literal["call", "push", "edit", "engine"]
Operation = Literal["insert", "update", "delete"]


class NoSuchCommit(StoreError):
    """What a person named is not in the log. The message says what is near."""


@attrs.frozen
class Change:
    """One document of a commit, before and after; None where there is none."""

    table: str
    id: str
    operation: Operation
    before: dict[str, Value] | None
    after: dict[str, Value] | None


@attrs.frozen
class Committed:
    """One commit of the log."""

    entry: LogEntry
    record: Record | None

    @property
    def ts(self) -> Timestamp:
        return self.entry.ts

    @property
    def kind(self) -> Kind:
        if self.record is not None:
            return "call"
        if self.entry.catalog is not None and self.entry.catalog.schema is not None:
            return "push"
        is_of_users = any(write.table >= USER_TABLE_FIRST for write in self.entry.writes)
        return "edit" if is_of_users else "engine"

    @property
    def args(self) -> dict[str, Value]:
        value: dict[str, Value] = {} if self.record is None else unpack_trusted(self.record.args)
        return value

    @property
    def identity(self) -> dict[str, Value] | None:
        claims: dict[str, Value] | None = (
            None if self.record is None else unpack_trusted(self.record.identity)
        )
        return claims

    @property
    def caller(self) -> str:
        return "" if self.record is None else caller_of(self.record)

    def counts(self) -> dict[Operation, int]:
        found: dict[Operation, int] = {"insert": 0, "update": 0, "delete": 0}
        for write in self.entry.writes:
            found[write.kind] += 1
        return found


def caller_of(record: Record) -> str:
    """Return where a call came from and as whom, in a few words."""
    who = name_of(unpack_trusted(record.identity))
    if record.admin:
        who = f"{who} by admin" if who else "admin"
    return f"{record.caller} {who}" if who else record.caller


def name_of(identity: dict[str, Value] | None) -> str:
    """Return what a person is best known by; empty for nobody."""
    if identity is None:
        return ""
    for claim in ("email", "name", "nickname", "subject", "tokenIdentifier"):
        found = identity.get(claim)
        if type(found) is str and found:
            return found
    return "somebody"


@attrs.frozen
class Wanted:
    """Which commits to list; None asks for nothing."""

    function: str | None = None  # "posts:like", "posts", or a pattern such as "posts:*"
    document: str | None = None
    table: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    identity: str | None = None  # part of any claim; "nobody" for calls without one
    everything: bool = False  # the engine's own commits too

    @property
    def is_about_calls(self) -> bool:
        return self.function is not None or self.identity is not None

    def matches(self, commit: Committed, catalog: Catalog) -> bool:
        if commit.kind == "engine" and not self.everything and not (self.document or self.table):
            return False
        if self.is_about_calls and commit.record is None:
            return False
        if self.function is not None and not _is_of(commit.record, self.function):
            return False
        if self.identity is not None and not _is_by(commit.identity, self.identity):
            return False
        if self.document is not None:
            table, internal_id = decode_id(self.document)
            if not any(w.table == table and w.internal_id == internal_id for w in commit.entry.writes):
                return False
        if self.table is not None:
            info = catalog.tables.get(self.table)
            if info is None or not any(write.table == info.number for write in commit.entry.writes):
                return False
        return True


def _is_of(record: Record | None, wanted: str) -> bool:
    if record is None:
        return False
    module = record.function.rpartition(":")[0]
    return wanted in (record.function, module) or fnmatchcase(record.function, wanted)


def _is_by(identity: dict[str, Value] | None, wanted: str) -> bool:
    if identity is None:
        return wanted == "nobody"
    return any(wanted in value for value in identity.values() if isinstance(value, str))


@attrs.define(eq=False)
class History:
    """The log of one data folder."""

    store: SharedStore
    claims: KnownClaims = attrs.field(init=False)

    @claims.default
    def _claims_of_the_store(self) -> KnownClaims:
        return KnownClaims(self.store)

    # ---- the log ---------------------------------------------------------------------

    def newest(self, wanted: Wanted) -> Iterator[Committed]:
        """Yield the commits that match, newest first."""
        catalog = self.store.catalog()
        for entry in self.store.log_backwards(wanted.until):
            if wanted.since is not None and entry.ts < wanted.since:
                return
            commit = read_commit(entry, self.claims)
            if wanted.matches(commit, catalog):
                yield commit

    def after(self, ts: Timestamp, wanted: Wanted) -> Iterator[Committed]:
        """Yield the commits after `ts` that match, oldest first."""
        catalog = self.store.catalog()
        for entry in self.store.log(max(ts, self.store.horizon), wanted.until):
            commit = read_commit(entry, self.claims)
            if wanted.matches(commit, catalog):
                yield commit

    def find(self, name: str) -> Committed:
        """Return the commit that a person names: by timestamp, by (the start of) its execution id, "latest".

        Raises:
          NoSuchCommit
        """
        if name == LATEST:
            for commit in self.newest(Wanted()):
                if commit.record is not None:
                    return commit
            raise NoSuchCommit("no mutation has been committed yet; call one with `tidewell run`")
        is_number = name.isascii() and name.isdigit() and len(name) < EXECUTION_DIGITS
        entry = self.store.log_entry(int(name)) if is_number else None
        if entry is not None:
            return read_commit(entry, self.claims)
        # An execution id may begin with digits alone, but hardly with as many as a timestamp has.
        prefix = name.lower()
        is_prefix = len(prefix) >= EXECUTION_DIGITS_MIN and not set(prefix) - set("0123456789abcdef")
        if is_prefix and not (is_number and len(prefix) > EXECUTION_DIGITS // 2):
            for commit in self.newest(Wanted()):
                if commit.record is not None and commit.record.execution.startswith(prefix):
                    return commit
        if is_prefix and self.find_attempt(prefix) is not None:
            raise NoSuchCommit(
                f"the execution {name} was not committed; `tidewell show {name}` says why, and "
                f"`tidewell debug {name}` runs it again"
            )
        if is_number:
            raise NoSuchCommit(f"there is no commit {name}{self._near(int(name))}; `tidewell log` lists them")
        if is_prefix:
            raise NoSuchCommit(
                f"no execution {name} was committed; `tidewell log` lists those that were, and "
                "`tidewell log --failed` those that were not"
            )
        raise NoSuchCommit(
            f"{name!r} names no commit; give its timestamp, the start of its execution id, or {LATEST}"
        )

    def _near(self, ts: Timestamp) -> str:
        if ts <= self.store.horizon:
            return f", because history begins after {self.store.horizon}"
        beside = [each for each in (self.store.commit_before(ts), self.store.commit_after(ts)) if each]
        if not beside:
            return ""
        return f"; the nearest {'are' if len(beside) > 1 else 'is'} {' and '.join(map(str, beside))}"

    # ---- one commit ------------------------------------------------------------------

    def changes(self, commit: Committed) -> list[Change]:
        """Return what a commit did to each document, in the order of the log."""
        if not commit.entry.writes:
            return []
        after = self.store.snapshot(commit.ts)
        # Before a commit everything is as its predecessor left it.
        before = self.store.snapshot(max(commit.ts - 1, self.store.horizon))
        return [
            Change(
                _table_name(after.catalog, write.table),
                write.id,
                write.kind,
                _document(before.get(write.table, write.internal_id)) if write.kind != "insert" else None,
                _document(after.get(write.table, write.internal_id)),
            )
            for write in commit.entry.writes
        ]

    def failed(self, wanted: Wanted) -> Iterator[Attempt]:
        """Yield the kept attempts that match and were not committed, newest first."""
        for attempt in reversed(list(read_attempts(self.store))):
            record = attempt.record
            if (
                (wanted.since is None or attempt.at_ns >= wanted.since)
                and (wanted.until is None or attempt.at_ns <= wanted.until)
                and (wanted.function is None or _is_of(record, wanted.function))
                and (wanted.identity is None or _is_by(unpack_trusted(record.identity), wanted.identity))
            ):
                yield attempt

    def find_attempt(self, name: str) -> Attempt | None:
        """Return the newest kept attempt of an execution that a person names by the start of its id."""
        prefix = name.lower()
        if len(prefix) < EXECUTION_DIGITS_MIN:
            return None
        return next(
            (each for each in self.failed(Wanted()) if each.record.execution.startswith(prefix)), None
        )

    def attempts(self, execution: str) -> list[Attempt]:
        """Return the kept attempts of an execution that were not committed, oldest first."""
        return [attempt for attempt in read_attempts(self.store) if attempt.record.execution == execution]

    # ---- one document ----------------------------------------------------------------

    def of_document(self, document_id: str) -> list[tuple[Committed | None, Timestamp, Change]]:
        """Return every kept change of a document with its commit, oldest first; None where that is forgotten.

        Raises:
          InvalidId, NoSuchCommit
        """
        number, _ = decode_id(document_id)
        table = _table_name(self.store.catalog(), number)
        found: list[tuple[Committed | None, Timestamp, Change]] = []
        before: dict[str, Value] | None = None
        ended: Timestamp | None = None
        for version in self.store.versions(document_id):
            if ended is not None and ended != version.ts:
                found.append(self._change(ended, Change(table, document_id, "delete", before, None)))
                before = None
            operation: Operation = "insert" if before is None else "update"
            change = Change(table, document_id, operation, before, version.document)
            found.append(self._change(version.ts, change))
            before, ended = version.document, version.until
        if ended is not None:
            found.append(self._change(ended, Change(table, document_id, "delete", before, None)))
        if not found:
            raise NoSuchCommit(
                f"no version of {document_id} is kept: it never existed here, or was deleted before history "
                f"begins"
            )
        return found

    def _change(self, ts: Timestamp, change: Change) -> tuple[Committed | None, Timestamp, Change]:
        entry = self.store.log_entry(ts)
        if entry is None:  # older than the horizon: its version is still needed, its record is gone
            return None, ts, change
        operation = next((write.kind for write in entry.writes if write.id == change.id), change.operation)
        return read_commit(entry, self.claims), ts, attrs.evolve(change, operation=operation)


def read_commit(entry: LogEntry, claims: KnownClaims) -> Committed:
    """Return a commit of the store that `claims` is of. Raises `LostClaims`."""
    try:
        return Committed(entry, unpack_record(entry.record, claims) if entry.record else None)
    except msgspec.DecodeError:
        return Committed(entry, None)  # written by another version; its documents can be told all the same


def check_document_id(text: str) -> str:
    """Return `text` if it is an id. Raises `NoSuchCommit` with what to do."""
    try:
        decode_id(text)
    except InvalidId:
        raise NoSuchCommit(
            f"{text!r} is no document id; `tidewell data list TABLE` shows those of a table"
        ) from None
    return text


def _table_name(catalog: Catalog, number: int) -> str:
    info = catalog.by_number.get(number)
    return f"table {number}" if info is None else info.name


def _document(body: bytes | None) -> dict[str, Value] | None:
    if body is None:
        return None
    document: dict[str, Value] = unpack_trusted(body)
    return document


# ---- differences -------------------------------------------------------------------------


@attrs.frozen
class Difference:
    """A part of a document that differs, at a path such as `address.city`. MISSING where there is none."""

    path: str
    before: Any
    after: Any


def differences(before: Value, after: Value, path: str = "") -> list[Difference]:
    """Return where two values differ, objects field by field and arrays item by item."""
    if type(before) is dict and type(after) is dict:
        found = []
        for name in sorted({**before, **after}):
            inner = f"{path}.{name}" if path else name
            found += differences(before.get(name, MISSING), after.get(name, MISSING), inner)
        return found
    if type(before) is list and type(after) is list:
        return _array_differences(before, after, path)
    if type(before) is type(after) and before == after:
        return []
    return [Difference(path, before, after)]


def _array_differences(before: Sequence[Value], after: Sequence[Value], path: str) -> list[Difference]:
    """Compare from both ends, so that an item put in or taken out is not a difference of all behind it."""
    start = 0
    while start < min(len(before), len(after)) and not differences(before[start], after[start]):
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and not differences(before[-1 - end], after[-1 - end]):
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if len(old) == len(new):
        pairs = zip(range(start, start + len(old)), old, new, strict=True)
        return [each for place, a, b in pairs for each in differences(a, b, f"{path}[{place}]")]
    gone = [Difference(f"{path}[{start + place}]", item, MISSING) for place, item in enumerate(old)]
    return gone + [Difference(f"{path}[{start + place}]", MISSING, item) for place, item in enumerate(new)]


def field_at(document: dict[str, Value] | None, path: str) -> Value:
    """Return what stands at a dotted path; MISSING if nothing does."""
    value: Value = document
    for name in path.split("."):
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value
