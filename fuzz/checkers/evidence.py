"""Everything that is known of a run that is over: the clients' notes and the store they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from engine.push import load_active
from engine.records import unpack_record
from fuzz.checkers.evaluator import Evaluator
from fuzz.history import History, Query
from fuzz.workloads.base import Committed, Workload
from storage import Store
from tidewell.values import unpack


@attrs.define(eq=False)
class Evidence:
    """Implements `fuzz.workloads.base.End`."""

    workload: Workload
    history: History
    store: Store
    committed: Sequence[Committed]
    evaluator: Evaluator
    _known: dict[tuple[Query, int], Any] = attrs.field(factory=dict)

    @classmethod
    def gather(cls, workload: Workload, history: History, store: Store, folder: Path) -> Evidence:
        """Read the log of a store that is open and at rest."""
        code = load_active(store)
        assert code is not None, "nothing was ever pushed"
        cursor_key = bytes.fromhex((folder / "cursor-key").read_text())
        evaluator = Evaluator.load(store, cursor_key, list(code.modules), code.now_ms, code.seed)
        return cls(workload, history, store, list(read_log(store)), evaluator)

    @property
    def head_ts(self) -> int:
        return self.store.head_ts

    def result(self, query: Query, ts: int) -> Any:
        """Return what `query` gives at `ts`, as JSON has it, or `Failed`."""
        key = (query, ts)
        if key not in self._known:
            self._known[key] = self.evaluator.query(query.path, dict(query.args), ts)
        return self._known[key]

    def learn(self, results: Mapping[tuple[Query, int], Any]) -> None:
        """Take in results that were found on the way of something else."""
        self._known.update(results)

    def query(self, path: str, ts: int | None = None, /, **args: Any) -> Any:
        return self.result(Query.of(path, args), self.head_ts if ts is None else ts)

    def close(self) -> None:
        self.evaluator.close()


def read_log(store: Store) -> Sequence[Committed]:
    """Return the mutations of the commit log, oldest first."""
    mutations = []
    for commit in store.read(0):
        if commit.record:
            record = unpack_record(commit.record)
            args = unpack(record.args)
            assert type(args) is dict
            mutations.append(Committed(commit.ts, record.request, record.function, args, record.seed))
    return mutations
