"""All checkers, one after another, over the evidence of a run."""

from __future__ import annotations

from typing import Final

from engine.push import load_active
from fuzz.checkers import (
    completeness,
    durability,
    exactly_once,
    reexecution,
    seeds,
    serial,
    sessions,
    snapshots,
)
from fuzz.checkers.evidence import Evidence
from fuzz.world import World
from storage import Store
from storage.verify import verify_folder

SHOWN_PER_CHECKER: Final = 3  # problems; one fault has many consequences


def judge(world: World) -> list[str]:
    """Return what is wrong with a run, the name of the checker first."""
    problems = [f"run: {complaint}" for complaint in world.history.complaints]
    if not world.is_pushed:
        return [*problems, "run: nothing was pushed"]
    history = world.history
    with Store.open(world.folder / "store", create=False, sync=False) as store:
        evidence = Evidence.gather(world.workload, history, store, world.folder)
        try:
            code = load_active(store)
            assert code is not None
            cursor_key = bytes.fromhex((world.folder / "cursor-key").read_text())
            model = world.workload.model
            watched = {client.name: client.queries.values() for client in world.clients}
            shows = {
                client.name: {
                    query: client.shown[number]
                    for number, query in client.queries.items()
                    if number in client.shown
                }
                for client in world.clients
            }
            replay = reexecution.replay(
                store,
                reexecution.Code(code.modules, code.now_ms, code.seed, cursor_key),
                world.folder / "again",
                {(query, shown.ts) for shown in history.shown for query in shown.results},
            )
            evidence.learn(replay.results)
            found = {
                "answers": _unexpected_failures(world),
                "exactly once": exactly_once.check(history.requests, evidence.committed, history.actions),
                "durability": durability.check(
                    history.requests,
                    history.shown,
                    evidence.committed,
                    evidence.head_ts,
                    world.workload.writes,
                ),
                "sessions": sessions.check(history.requests, history.shown, world.workload.writes),
                "seeds": seeds.check(evidence.committed),
                "serial": []
                if model is None
                else serial.check(history.requests, evidence.committed, model()),
                "reexecution": replay.problems,
                "snapshots": snapshots.check(history.shown, evidence.result),
                "completeness": completeness.check(
                    watched, shows, lambda query: evidence.result(query, evidence.head_ts)
                ),
                "workload": world.workload.check(evidence),
            }
        finally:
            evidence.close()
    report = verify_folder(world.folder / "store", lambda *_: None)
    found["store"] = [] if report.is_sound else [str(report)]
    for checker, these in found.items():
        problems += [f"{checker}: {problem}" for problem in these[:SHOWN_PER_CHECKER]]
    return problems


def _unexpected_failures(world: World) -> list[str]:
    return [
        f"{request} failed: {request.error}"
        for request in world.history.requests
        if request.status == "failed" and not world.workload.may_fail(request)
    ]
