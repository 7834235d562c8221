"""A push: from a folder's files to the active code version, or to nothing at all.

In order: a worker compiles and describes the code; new indexes of existing tables
are declared and filled while the old code goes on serving; the documents that exist
are checked against the new schema; then one commit switches code and schema
together. Whatever fails before that commit leaves the old version in force.

**The switch** happens with writes held: the lanes have run dry and everything
accepted is durable. Only documents written since the long check began are checked
again, so the pause is short, and no document can slip in that breaks the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from itertools import islice
from typing import Final

import attrs
import trio

from engine.app_settings import InvalidSettings, problems, read_declared
from engine.auth_config import InvalidAuthConfig, read_providers
from engine.backend import BackendFault
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion, decode_version, encode_version, hash_modules, make_version
from engine.committer import Committer, Proposal, View
from engine.conditions import PrivateRows
from engine.offload import RunBlocking
from engine.staged_indexes import StagedIndexes, is_same, staged_in
from sandbox.analysis import InvalidAnalysis
from sandbox.frames import Load, Loaded, LoadFailed, Module, SourceError
from sandbox.pool import Pool, PoolFailed, WorkerLost
from storage import (
    Catalog,
    CatalogChange,
    CatalogPlan,
    IndexInfo,
    Interval,
    ReadSet,
    Store,
    StoreError,
    Timestamp,
    WriteSet,
)
from tidewell.errors import ValidationFailed
from tidewell.ids import INTERNAL_ID_BYTES
from tidewell.schema import Index, Schema, Table
from tidewell.validators import Scope, check
from tidewell.values import unpack_trusted

CODE_PREFIX: Final = b"code/version/"
ACTIVE_KEY: Final = b"code/active"
USERS_SHOWN: Final = 5  # functions named in a warning
STEP: Final = 1000  # documents checked or indexed in one go off the event loop

OnProgress = Callable[[str], None]
NO_SCHEMA: Final = Schema({})
EVERYTHING: Final = Interval(b"", b"\xff" * (INTERNAL_ID_BYTES + 1))  # of an index by id


class PushFailed(Exception):
    """Nothing changed. `problems` are for people: each names a file and line, or a document."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@attrs.frozen
class PushReport:
    code: CodeVersion
    changed: bool  # False when this very version was active already
    warnings: tuple[str, ...] = ()


@attrs.define(eq=False)
class Pusher:
    _store: Store
    _pool: Pool
    _committer: Committer
    _clock: Clock
    _chance: Chance
    _active: Callable[[], CodeVersion | None]
    _activate: Callable[[CodeVersion, Timestamp], None]  # called in the step in which the head moves
    _hold_writes: Callable[[], AbstractAsyncContextManager[None]]
    _run_blocking: RunBlocking
    _variables: Callable[[], Mapping[str, str]]  # of the environment, as they are now
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    staged: StagedIndexes = attrs.field(init=False)  # filled behind the pushes; its `run` must be running

    def __attrs_post_init__(self) -> None:
        self.staged = StagedIndexes(
            self._store, self._active, self._one_at_a_time, self._change_catalog, self._run_blocking
        )

    async def push(
        self, modules: Sequence[Module], on_progress: OnProgress, auth: bytes = b"", settings: bytes = b""
    ) -> PushReport:
        """Make `modules`, with the token providers in `auth` and the app's `settings`, the active version.

        Raises:
          PushFailed: and then nothing has changed.
        """
        async with self._one_at_a_time:
            active = self._active()  # not earlier: the push before this one may have changed it
            if active is not None and active.hash == hash_modules(modules, auth, settings):
                return PushReport(active, changed=False)
            code = await self._describe(modules, auth, settings)
            schema = code.described.read_schema() or NO_SCHEMA
            try:
                await self._fill_indexes(await self._declare_indexes(schema), on_progress)
                checked_ts = await self._check_documents(schema, on_progress)
                async with self._hold_writes():
                    warnings = await self._switch(code, schema, checked_ts)
                self.staged.note_push()
            except (PushFailed, StoreError, BackendFault) as error:
                with suppress(
                    StoreError, BackendFault
                ):  # the next push finds what is left, and uses or removes it
                    await self._withdraw_indexes()
                problems = error.problems if isinstance(error, PushFailed) else [str(error)]
                raise PushFailed(problems) from None
            return PushReport(code, changed=True, warnings=(*code.described.notes, *warnings))

    # ---- the code -----------------------------------------------------------------

    async def _describe(self, modules: Sequence[Module], auth: bytes, settings: bytes) -> CodeVersion:
        """Have a worker compile and import the code. Files pushed before keep their seed and clock."""
        version = hash_modules(modules, auth, settings)
        known = self._store.private_get(CODE_PREFIX + version.encode())
        try:
            declared = read_declared(settings)
            read_providers(auth)
        except (InvalidAuthConfig, InvalidSettings) as error:
            raise PushFailed([str(error)]) from None
        if missing := problems(declared, self._variables()):
            raise PushFailed(list(missing.values()))
        if known is not None:
            return decode_version(known)
        now_ms, seed = int(self._clock.now_ms()), self._chance.token(32)
        frame = Load(code=version, modules=list(modules), analyse=True, now_ms=now_ms, seed=seed)
        try:
            async with self._pool.lease() as worker:
                reply = await worker.request(frame, wall_s=20.0, cpu_s=10.0)
                if isinstance(reply, LoadFailed):
                    raise PushFailed([_source_error(error) for error in reply.errors])
                assert isinstance(reply, Loaded), reply
                try:
                    return make_version(modules, reply.analysis, now_ms, seed, auth, settings)
                except InvalidAnalysis as error:
                    worker.condemn(str(error))
                    raise PushFailed([f"the code could not be loaded: {error}"]) from None
        except (WorkerLost, PoolFailed) as failure:
            raise PushFailed([f"the code could not be loaded: {failure}"]) from None

    # ---- indexes --------------------------------------------------------------------

    async def _declare_indexes(self, schema: Schema) -> list[int]:
        """Add the new indexes of tables that exist already; return all that still have to be filled."""
        change, waiting = self._plan_indexes(schema)
        if not change:
            return waiting
        async with self._hold_writes():
            change, waiting = self._plan_indexes(schema)  # again: tables may have come
            if change:
                await self._commit(change)
        return waiting

    def _plan_indexes(self, schema: Schema) -> tuple[CatalogChange, list[int]]:
        catalog = self._store.catalog()
        plan = catalog.plan()
        waiting = []
        for name, table in schema.tables.items():
            info = catalog.tables.get(name)
            if info is None:
                continue
            for old in info.indexes:
                if old.is_ready or any(is_same(old, index) for index in table.indexes):
                    continue
                if not self._is_staged(name, old) or _collides(old, table.indexes):
                    plan.remove_index(old.index_id)  # of a push that was cut off
            for index in table.indexes:
                found = next((old for old in info.indexes if is_same(old, index)), None)
                if found is None:
                    found = plan.add_index(name, index.name, index.fields, unique=index.unique)
                if not found.is_ready and not index.staged:
                    waiting.append(found.index_id)
        return plan.change(), waiting

    async def _fill_indexes(self, waiting: Iterable[int], on_progress: OnProgress) -> None:
        for index_id in waiting:
            backfill = self._store.backfill(index_id)
            while not backfill.is_complete:
                progress = await self._run_blocking(backfill.step, STEP)
                on_progress(f"index {progress}")

    async def _withdraw_indexes(self) -> None:
        """Remove what was declared and is not in use."""
        async with self._hold_writes():
            plan = self._store.catalog().plan()
            for table in tuple(plan.catalog.tables.values()):
                for index in table.indexes:
                    if not index.is_ready and not self._is_staged(table.name, index):
                        plan.remove_index(index.index_id)
            if change := plan.change():
                await self._commit(change)

    def _is_staged(self, table: str, old: IndexInfo) -> bool:
        """Whether the active version waits for an index that is being filled behind it."""
        return any(name == table and is_same(old, index) for name, index in staged_in(self._active()))

    async def _change_catalog(self, make: Callable[[CatalogPlan], None]) -> None:
        async with self._hold_writes():
            plan = self._store.catalog().plan()
            make(plan)
            if change := plan.change():
                await self._commit(change)

    # ---- documents ------------------------------------------------------------------

    async def _check_documents(self, schema: Schema, on_progress: OnProgress) -> Timestamp:
        """Check every document against the new schema; return the snapshot up to which that is done."""
        if not schema.schema_validation:
            return self._committer.head_ts
        with self._store.snapshot() as snapshot:
            for name, table in schema.tables.items():
                info = snapshot.catalog.tables.get(name)
                if info is None:
                    continue
                scope = _scope(snapshot.catalog)
                documents = snapshot.scan(info.by_id, EVERYTHING)
                count = 0
                while step := await self._run_blocking(_check_next, documents, name, table, scope):
                    count += step
                    on_progress(f"checked {count:,} documents of {name}")
            checked_ts = snapshot.ts
        # What was written meanwhile, while writes still go on: little is left for the moment they are held.
        return await self._run_blocking(self._check_changed, schema, checked_ts)

    def _check_changed(self, schema: Schema, since: Timestamp) -> Timestamp:
        """Check the documents written after `since`, up to the snapshot that is returned."""
        if not schema.schema_validation:
            return since
        with self._store.snapshot() as snapshot:
            scope = _scope(snapshot.catalog)
            changed = {
                (write.table, write.internal_id)
                for entry in self._store.log(since, snapshot.ts)
                for write in entry.writes
            }
            for number, internal_id in sorted(changed):
                info = snapshot.catalog.by_number.get(number)
                body = snapshot.get(number, internal_id) if info is not None else None
                if info is not None and body is not None and info.name in schema.tables:
                    _check(info.name, schema.tables[info.name], body, scope)
            return snapshot.ts

    # ---- the switch -----------------------------------------------------------------

    async def _switch(self, code: CodeVersion, schema: Schema, checked_ts: Timestamp) -> tuple[str, ...]:
        await self._run_blocking(self._check_changed, schema, checked_ts)
        catalog = self._store.catalog()
        plan = catalog.plan()
        warnings = []
        for name, info in catalog.tables.items():
            if name.startswith("_"):
                continue  # the system's own, with indexes that no app declares
            declared = schema.tables[name].indexes if name in schema.tables else ()
            wanted = [old for old in info.indexes if any(is_same(old, index) for index in declared)]
            for old in info.indexes:
                if old not in wanted:
                    plan.remove_index(old.index_id)
                    if old.is_ready and old.name not in {index.name for index in declared}:
                        warnings.append(self._removal(name, old.name, code))
            for old in wanted:
                if old.is_ready:
                    continue
                if any(is_same(old, index) and index.staged for index in declared):
                    warnings.append(f"the index {old.name} of {name} is staged: usable once it is filled")
                else:
                    plan.enable_index(old.index_id)
        for name, table in schema.tables.items():
            if name not in catalog.tables:
                plan.create_table(name)
                for new in table.indexes:
                    plan.add_index(name, new.name, new.fields, unique=new.unique, state="ready")
        plan.set_schema(code.hash)  # mutations read it, so none that began before can commit after
        rows = (
            (CODE_PREFIX + code.hash.encode(), encode_version(code)),
            (ACTIVE_KEY, code.hash.encode()),
        )
        await self._commit(plan.change(), rows, on_head=partial(self._activate, code))
        return tuple(warnings)

    def _removal(self, table: str, index: str, code: CodeVersion) -> str:
        """Return the warning that an index goes away, with the functions that used it or still do."""
        text = f"the index {index} of {table} is no longer in the schema and was removed"
        active = self._active()
        if active is not None and (users := _users(active, table, index)):
            text += f"; the version before used it in {users}"
        if still := _users(code, table, index):
            text += f"; this version asks for it in {still}, which fails now"
        return text

    async def _commit(
        self,
        change: CatalogChange,
        rows: Sequence[tuple[bytes, bytes | None]] = (),
        on_head: Callable[[Timestamp], None] | None = None,
    ) -> None:
        proposal = Proposal(
            View(self._committer.head_ts),
            ReadSet(),
            WriteSet(),
            None,
            rows=lambda *_: rows,
            catalog=change,
            on_head=on_head,
        )
        # Writes stay held until it is known, whoever is cancelled.
        with trio.CancelScope(shield=True):
            await self._committer.accept(proposal).durable.wait()


def load_active(store: PrivateRows) -> CodeVersion | None:
    """Return the version that was active when the store was last closed, or None."""
    name = store.private_get(ACTIVE_KEY)
    return None if name is None else load_version(store, name.decode())


class UnknownVersion(StoreError):
    """A code version that the store does not have. It keeps every version that was ever active."""


def load_version(store: PrivateRows, name: str) -> CodeVersion:
    """Return the code version with a hash, active or not.

    Raises:
      UnknownVersion: it was never pushed to this store.
    """
    data = store.private_get(CODE_PREFIX + name.encode())
    if data is None:
        raise UnknownVersion(f"the store has no code version {name}; was it restored from an older backup?")
    return decode_version(data)


def _collides(old: IndexInfo, indexes: Iterable[Index]) -> bool:
    return any(old.name == index.name or old.fields == index.fields for index in indexes)


def _users(code: CodeVersion, table: str, index: str) -> str:
    """Return the functions that name an index, with their places. A use whose table is not written counts."""
    found = {
        f"{use.function or 'the module'} ({use.file}:{use.line})"
        for use in code.described.index_uses
        if use.index == index and use.table in (table, "")
    }
    shown = sorted(found)
    more = f" and {len(shown) - USERS_SHOWN} more places" if len(shown) > USERS_SHOWN else ""
    return ", ".join(shown[:USERS_SHOWN]) + more


def _scope(catalog: Catalog) -> Scope:
    def number_of(name: str) -> int | None:
        info = catalog.tables.get(name)
        return info.number if info is not None else None

    return Scope(number_of, coerces=False)


def _check_next(rows: Iterator[tuple[bytes, bytes, bytes]], name: str, table: Table, scope: Scope) -> int:
    """Check the next documents of a table; return how many there were. Raises `PushFailed`."""
    count = 0
    for _, _, body in islice(rows, STEP):
        _check(name, table, body, scope)
        count += 1
    return count


def _check(name: str, table: Table, body: bytes, scope: Scope) -> None:
    document = unpack_trusted(body)
    fields = {key: value for key, value in document.items() if key not in ("_id", "_creationTime")}
    try:
        check(table.document, fields, f"{name} {document['_id']}", scope)
    except ValidationFailed as error:
        raise PushFailed([f"an existing document does not match the new schema: {error}"]) from None


def _source_error(error: SourceError) -> str:
    place = f"{error.path}:{error.line}" if error.line else error.path
    return f"{place}: {error.message}"
