"""Where the value of a field came from: the mutations that made it, back to the first.

The versions of a document say which commits changed the field; the records of these say who
called what with which arguments. Which line wrote it, and which documents were read on the way,
is in no record: the call is run again, as a replay is, and asked for its lines. What cannot be
run again here (its history is gone, say, or it does not do the same again) is told without.

What a value *may* come from is found by comparing: arguments and fields of documents read that
hold the same value. Equal is not proof; it is where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import attrs

from engine.code import CodeVersion
from engine.history import Change, Committed, History, NoSuchCommit, field_at
from engine.records import digest
from engine.replay.recorded import read_recorded
from engine.rerun import Rerunner
from storage import Interval, Places, Snapshot, StoreError, Timestamp
from storage.layout import BY_ID, index_id_of, table_of
from tidewell.errors import InvalidValue
from tidewell.ids import decode_id
from tidewell.values import MISSING, Value, pack, unpack_trusted

SOURCES_MAX: Final = 5  # told of one change
ROWS_MAX: Final = 200  # of one range that are compared
HOPS_MAX: Final = 5  # from document to document
TELLING_LENGTH: Final = 3  # a shorter text is equal by chance too often


@attrs.frozen
class Source:
    """Something that held the same value: an argument, or a field of a document that was read."""

    argument: str | None = None
    document_id: str | None = None
    table: str | None = None
    field: str | None = None
    line: str | None = None  # that read the document
    written: Step | None = None  # how that field came to its value, when it was followed


@attrs.frozen
class Step:
    """One change of the field, newest first in a chain."""

    ts: Timestamp
    commit: Committed | None  # None: before the log begins
    change: Change
    before: Value
    after: Value
    line: str | None = None  # "posts.py:14"
    text: str = ""  # the source of that line
    sources: tuple[Source, ...] = ()
    why_not: str = ""  # there is no line


def changes_of(history: History, document_id: str, field: str) -> list[Step]:
    """Return every kept change of a field, newest first.

    Raises:
      NoSuchCommit: the document or the field never existed.
    """
    steps: list[Step] = []
    known: dict[str, None] = {}
    for commit, ts, change in history.of_document(document_id):
        for document in (change.before, change.after):
            known.update(dict.fromkeys(document or {}))
        before, after = field_at(change.before, field), field_at(change.after, field)
        if _same(before, after):
            continue
        steps.append(Step(ts, commit, change, before, after))
    if not steps:
        names = ", ".join(sorted(known))
        raise NoSuchCommit(f"{document_id} never had a field {field!r}; its fields are {names}")
    return steps[::-1]


async def explain(step: Step, field: str, history: History, rerunner: Rerunner) -> Step:
    """Return `step` with the line that wrote the field and what the value may come from."""
    if step.commit is None or step.commit.record is None:
        why_not = "before the log begins" if step.commit is None else "not written by a function"
        return attrs.evolve(step, why_not=why_not)
    record = step.commit.record
    sources = [Source(argument=path) for path in _argument_paths(step.commit.args, step.after, field)]
    try:
        recorded = read_recorded(history.store, step.ts)
        outcome = await rerunner.run(recorded)
        if outcome is None or digest(outcome.writes) != record.writes_digest:
            return attrs.evolve(
                step, sources=tuple(sources), why_not="it does not do the same again; see `tidewell replay`"
            )
        if not outcome.places:
            return attrs.evolve(step, sources=tuple(sources), why_not="it reads and writes too much to tell")
        places = Places.unpack(outcome.places)
        snapshot = history.store.snapshot(recorded.begin_ts)
    except (StoreError, InvalidValue) as error:
        return attrs.evolve(step, sources=tuple(sources), why_not=str(error))
    place = places.of_write(*decode_id(step.change.id), field.partition(".")[0] or None)
    if place is None:
        place = places.of_write(*decode_id(step.change.id))
    if len(sources) < SOURCES_MAX:
        found = _read_sources(step, field, snapshot, places)
        sources += islice(found, SOURCES_MAX - len(sources))
    line = None if place is None else f"{place[0]}:{place[1]}"
    text = "" if place is None else source_line(recorded.code, *place)
    return attrs.evolve(step, line=line, text=text, sources=tuple(sources))


async def follow(step: Step, field: str, history: History, rerunner: Rerunner, hops: int = HOPS_MAX) -> Step:
    """Explain `step`, and if its value stood in another document that was read, how it came there."""
    explained = await explain(step, field, history, rerunner)
    if not hops or explained.commit is None or explained.commit.record is None:
        return explained
    begin_ts = explained.commit.record.begin_ts
    sources: list[Source] = []
    is_followed = False
    for source in explained.sources:
        if not is_followed and source.document_id is not None and source.field not in (None, "_id"):
            origin = [
                each for each in changes_of(history, source.document_id, source.field) if each.ts <= begin_ts
            ]
            if origin:
                is_followed = True
                written = await follow(origin[0], source.field, history, rerunner, hops - 1)
                source = attrs.evolve(source, written=written)
        sources.append(source)
    return attrs.evolve(explained, sources=tuple(sources))


def source_line(code: CodeVersion, file: str, line: int) -> str:
    """Return a line of a version, stripped; empty if there is none."""
    for module in code.modules:
        if module.path == file:
            lines = module.source.decode(errors="replace").splitlines()
            return lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return ""


def _same(before: Value, after: Value) -> bool:
    if before is MISSING or after is MISSING:
        return before is after
    return pack(before) == pack(after)


def _is_telling(value: Value) -> bool:
    """Whether two places that hold the value hardly do by chance."""
    if isinstance(value, (str, bytes, list, dict)):
        return len(value) >= TELLING_LENGTH
    return isinstance(value, float) and not value.is_integer()


def _argument_paths(args: Value, value: Value, field: str, path: str = "") -> Iterator[str]:
    """Yield the arguments that hold the value: any if it is telling, else those named like the field."""
    if value is MISSING:
        return
    name = field.rpartition(".")[2]
    if path and _same(args, value) and (_is_telling(value) or path.rpartition(".")[2] == name):
        yield path
    elif type(args) is dict:
        for key, item in args.items():
            yield from _argument_paths(item, value, field, f"{path}.{key}" if path else key)
    elif type(args) is list:
        for place, item in enumerate(args):
            yield from _argument_paths(item, value, field, f"{path}[{place}]")


def _read_sources(step: Step, field: str, snapshot: Snapshot, places: Places) -> Iterator[Source]:
    if step.after is MISSING or step.after is None or isinstance(step.after, bool):
        return
    seen: set[tuple[str, str]] = {(step.change.id, field)}
    for index_id, start, end, place in places.reads:
        for document in _documents_in(snapshot, index_id, Interval(start, end)):
            for name, value in document.items():
                origin = document["_id"], name
                if origin in seen or not _same(value, step.after):
                    continue
                if _is_telling(value) or name == field:
                    seen.add(origin)
                    info = snapshot.catalog.by_number.get(table_of(index_id))
                    table = None if info is None else info.name
                    yield Source(None, document["_id"], table, name, f"{place[0]}:{place[1]}")


def _documents_in(snapshot: Snapshot, index_id: int, interval: Interval) -> Iterator[dict[str, Value]]:
    table = snapshot.catalog.by_number.get(table_of(index_id))
    if table is None:
        return
    index = table.by_id if index_id == index_id_of(table.number, BY_ID) else snapshot.catalog.index(index_id)
    if index is None:
        return
    for _, _, body in islice(snapshot.scan(index, interval), ROWS_MAX):
        yield unpack_trusted(body)
